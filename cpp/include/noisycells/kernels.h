// What the compiled core computes, as plain data and one table of functions per SIMD level.
// Definitions: python/noisycells/reference. Nothing here knows Python, threads or exceptions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace noisycells {

// Stored weights per block: the unit of work, of packed levels and of the kernels' buffers.
constexpr std::ptrdiff_t kBlock = 1024;
constexpr int kMaxRanges = 8;
// Channel tables of at most so many rows are also kept by columns, to be held in registers.
constexpr int kSmallTable = 64;

enum Purpose : std::uint32_t {
  kProgram = 0,
  kRead = 1,
  kD2D = 2,
  kStuck = 3,
  kMatmul = 4,
  kDrift = 5,
  kFlicker = 6,
  kRelax = 7
};

// Where random numbers come from; element `index` of it is a pure function of these.
struct Draw {
  std::uint64_t seed;
  std::uint64_t stream;
  std::uint32_t purpose;
  std::uint32_t cell;
};

struct Keys {
  std::uint64_t chip;    // keys what is frozen at programming
  std::uint64_t read;    // keys what is drawn at each read
  std::uint64_t stream;
};

// Uniform quantizer; levels == 0 means there is none.
struct Converter {
  float lo, step, inv_step;
  std::int32_t levels;
};

struct ChannelTables {
  const float* table;  // n rows of (mean, next - mean, std, next - std)
  const float* columns;  // the same as 4 columns of kSmallTable, or null where n is larger
  const float* read;   // n rows of (read std, next - read std), or null
  std::int32_t n;
  float x0, inv_dx;
  Converter adc;
  float d2d;
  // A cell whose word is below stuck_low acts as if the first table input had been written;
  // below stuck_either, the last.
  std::uint32_t stuck_low, stuck_either;
};

// Per range, as arrays so that a vector of range numbers looks up a vector of values.
struct CodecTables {
  const float* inverse;  // m rows of (x, next - x)
  std::int32_t m;
  float y0, inv_dy;
  std::int32_t ranges;
  bool sign;
  bool packed;  // levels are packed codes of the write converters, not floats
  std::int32_t side_width;
  alignas(64) float threshold[kMaxRanges];
  float alpha[kMaxRanges], minus_beta[kMaxRanges], inv_alpha[kMaxRanges], shift[kMaxRanges];
  float inv_sqrt_cells[kMaxRanges];
  float write_lo[kMaxRanges], write_step[kMaxRanges], write_inv_step[kMaxRanges];
  float write_top[kMaxRanges];  // levels - 1
  std::int32_t cells[kMaxRanges];
  std::int32_t width[kMaxRanges];  // bits per packed level
};

// ---- Crossbars (python/noisycells/reference/crossbar.py)

// Outputs whose weights are packed together, and most input rows multiplied with them at once.
constexpr int kGroup = 64;
constexpr int kRowBlock = 64;
constexpr int kPatch = 256;  // normals that are drawn together: of several vectors and outputs
constexpr int kWeightLevels = 32767;
constexpr int kNarrowLevels = 127;
constexpr int kVarianceLevels = 255;
constexpr float kRangeSigmas = 4;
// Vectors of a smaller full scale are enlarged, for the inverse of their full scale to be finite.
constexpr float kTiny = 0x1p-96f, kEnlarged = 0x1p96f;
constexpr int kIntegerRows = 512;  // longest tile whose sums fit in 32 bits

// Most bits of one parity check (python/noisycells/reference/ldpc.py).
constexpr int kMaxDegree = 256;

struct Limits {
  float low, high;
  // A device whose word is below stuck_off is stuck off; below stuck_either, on.
  std::uint32_t stuck_off, stuck_either;
  float off_conductance, on_conductance;
};

// Target conductance of weight w: span max(w inverse, 0) + g_min; the polarity is in inverse.
struct Target {
  float inverse, g_min, span;
};

struct Programming {
  const float* table;  // n rows of (mean, next - mean, std, next - std)
  std::int32_t n;
  float x0, inv_dx;
  Limits limits;
};

struct Aging {
  const float* relaxation;  // n rows of (shift, difference, std, difference), or null
  const float* drift;  // n rows of (mean of the exponent, difference, std, difference), or null
  const float* flicker;  // n rows of (fraction of the conductance, difference), or null
  std::int32_t relaxation_n, drift_n, flicker_n;
  float x0, inv_dx;
  Limits limits;
};

// How inputs become codes. top == 0: an ideal DAC. digit == 0: all digits at once.
struct Dac {
  float inverse;
  std::int32_t top, shift, digit;
};

// What follows the analog sums of one pass.
struct Read {
  float unit, unit_variance;  // of sums and of sums of squares, times each output's peak
  float noise;  // of the output, std
  bool output_noise, weight_noise;
  float inv_step, top;  // of the ADC; top == 0: ideal
  float gain;  // what a code (or an unconverted sum) adds to the output
};

// The functions of one SIMD level. Every `n` below is at most kBlock unless said otherwise.
struct Kernels {
  const char* level;

  // Any n: counters (n, 4), keys (n, 2) -> words (n, 4).
  void (*philox)(const std::uint32_t* counter, const std::uint32_t* key, int rounds,
                 std::ptrdiff_t n, std::uint32_t* out);
  // Any n and index.
  void (*words)(std::uint32_t* out, std::ptrdiff_t n, const Draw& draw, std::int64_t index);
  void (*normals)(float* out, std::ptrdiff_t n, const Draw& draw, std::int64_t index);

  // Means of cells: x (n,) -> y (n,). cells: one number per element, or one for all (stride 0).
  void (*sample)(const float* x, float* y, std::ptrdiff_t n, const std::int32_t* cells,
                 int cells_stride, const ChannelTables& channel, const Keys& keys,
                 std::int64_t index, bool literal);

  // Stored weights -> one side code a weight (sign bit, then range number).
  void (*classify)(const float* w, std::ptrdiff_t n, const CodecTables& codec, std::uint8_t* codes);
  // Stored weights and their codes -> cell inputs (before the write converter).
  void (*to_inputs)(const float* w, const std::uint8_t* codes, std::ptrdiff_t n,
                    const CodecTables& codec, float* x);
  // Cell inputs -> codes of the write converter of each element's range, and back.
  void (*quantize)(const float* x, const std::uint8_t* codes, std::ptrdiff_t n,
                   const CodecTables& codec, std::int32_t* levels);
  void (*dequantize)(const std::int32_t* levels, const std::uint8_t* codes, std::ptrdiff_t n,
                     const CodecTables& codec, float* x);
  // Cell inputs and side codes -> weights read back, through the channel.
  void (*read_back)(const float* x, const std::uint8_t* codes, std::ptrdiff_t n,
                    const CodecTables& codec, const ChannelTables& channel, const Keys& keys,
                    std::int64_t index, bool literal, float* w);

  // Copies the next n selected elements of in (selection: bits from `position` on) to out;
  // returns the position after the last one. `end`: number of bits, none is read past it.
  std::int64_t (*compress)(const float* in, const std::uint8_t* mask, std::int64_t position,
                           std::int64_t end, std::ptrdiff_t n, float* out);
  // The reverse: out[position .. returned) gets the n values where selected and 0 elsewhere.
  std::int64_t (*expand)(const float* in, const std::uint8_t* mask, std::int64_t position,
                         std::int64_t end, std::ptrdiff_t n, float* out);
  // Smallest and largest element (n > 0); false where any is not finite.
  bool (*extent)(const float* w, std::ptrdiff_t n, float* low, float* high);
  // Number of bits set in `bytes` bytes (any number).
  std::int64_t (*popcount)(const std::uint8_t* mask, std::int64_t bytes);

  // Any n. Codes of `width` bits, 1 <= width <= 8 (bytes) or <= 16 (words), LSB first.
  // Writes (n * width + 7) / 8 bytes exactly; reads no byte past that. Packing returns the bits
  // that any code has, 0 where every code of its type fits; bits beyond the width are not packed.
  std::uint32_t (*pack8)(const std::uint8_t* codes, std::ptrdiff_t n, int width, std::uint8_t* out);
  void (*unpack8)(const std::uint8_t* in, std::ptrdiff_t n, int width, std::uint8_t* codes);
  std::uint32_t (*pack16)(const std::uint16_t* codes, std::ptrdiff_t n, int width,
                          std::uint8_t* out);
  void (*unpack16)(const std::uint8_t* in, std::ptrdiff_t n, int width, std::uint16_t* codes);

  // Devices: weights (n,) of one polarity -> conductances. draw.purpose is not looked at.
  void (*program)(const float* w, float* g, std::ptrdiff_t n, const Target& target,
                  const Programming& device, const Draw& draw, std::int64_t index);
  // The same for both polarities, drawn as cells draw.cell and draw.cell + 1.
  void (*program_pair)(const float* w, float* positive, float* negative, std::ptrdiff_t n,
                       const Target& target, const Programming& device, const Draw& draw,
                       std::int64_t index);
  void (*age)(const float* w, const float* programmed, float* g, std::ptrdiff_t n,
              const Target& target, const Aging& device, const Draw& draw, std::int64_t index);

  // Products. A tile's rows are padded to a multiple of row_step with zeros; input codes take
  // code_bytes each, their squares 2. In products with narrow weights, of kNarrowLevels, codes and
  // weights take narrow_code_bytes, and a panel narrow_extra_bytes behind its weights. In the float
  // products rows are padded to float_row_step, and numbers are made of float_parts parts of
  // float_bytes each. enter and leave stand around a thread's products.
  int row_step, code_bytes, narrow_code_bytes, narrow_extra_bytes;
  int float_row_step, float_bytes, float_parts;
  // What a weight takes once, and with each input, about, in ns: to share work among threads.
  double per_weight, per_product;
  void (*enter)();
  void (*leave)();

  // The bits of the largest magnitude of x (times row_scale where given), not below infinity's
  // where any is not finite; and how many magnitudes exceed limit.
  std::int32_t (*peak)(const float* x, const float* row_scale, std::ptrdiff_t n);
  std::ptrdiff_t (*count_beyond)(const float* x, const float* row_scale, std::ptrdiff_t n,
                                 float limit);
  // n inputs of one tile -> codes and, where asked, squares: `padded` of each are written.
  void (*dac)(const float* x, const float* row_scale, std::ptrdiff_t n, std::ptrdiff_t padded,
              const Dac& dac, bool narrow, void* codes, void* squares,
              std::ptrdiff_t squares_stride);
  // The same for float products; parts lie part_stride bytes apart, `parts` and `square_parts` of
  // them are written.
  void (*dac_float)(const float* x, const float* row_scale, std::ptrdiff_t n, std::ptrdiff_t padded,
                    const Dac& dac, int parts, int square_parts, std::ptrdiff_t part_stride,
                    void* values, void* squares);

  // Weights of one tile, `columns` <= kGroup rows of ld floats each -> a panel and each column's
  // peak; returns the furthest that sums are to be expected to reach, over the columns. negative
  // may be null. levels == 0: float32 panels.
  float (*pack)(const float* positive, const float* negative, std::ptrdiff_t ld, int columns,
                int rows, float inverse_span, int levels, void* panel, float* peak);

  // Sums (m, kGroup), m <= kRowBlock, of input rows `stride` bytes apart times a panel's first
  // `columns` outputs. `rows`: of the tile, padded.
  void (*multiply)(const void* codes, std::ptrdiff_t stride, int m, const void* panel, int rows,
                   int columns, bool narrow, std::int32_t* sums);
  void (*multiply_squares)(const void* squares, std::ptrdiff_t stride, std::ptrdiff_t high, int m,
                           const void* panel, int rows, int columns, std::int32_t* sums);
  // parts: of the inputs that are not 0.
  void (*multiply_float)(const void* values, std::ptrdiff_t stride, std::ptrdiff_t part_stride,
                         int parts, int m, const void* panel, int rows, int columns, float* sums);

  // Noise, ADC and digital accumulation of one pass: total (m, kGroup). `sums` and `squares` are
  // int32 where integer. noise_width: outputs of a patch of normals; the first patch starts at
  // `index`, the next ones index_step further. inside, where given: bits, `columns` of each row.
  void (*read)(const void* sums, const void* squares, bool integer, const float* peak,
               const float* variance_peak, int m, int columns, const Read& read, const Draw& draw,
               int noise_width, std::int64_t index, std::int64_t index_step, float* total,
               std::uint8_t* inside, std::ptrdiff_t inside_stride);
  // y = total scale range (+ bias).
  void (*finish)(const float* total, int m, int columns, const float* scale, const float* bias,
                 const float* ranges, float* y, std::ptrdiff_t stride);

  // Gradients of products. n inputs -> converted inputs in steps of the DAC, `padded` of them
  // (whole vectors of 16).
  void (*input_values)(const float* x, const float* row_scale, std::ptrdiff_t n,
                       std::ptrdiff_t padded, const Dac& dac, float* values);
  // sums (columns, ld) += the products of g (rows, kGroup) and x (rows, ld), summed row after row;
  // width: of x and sums, whole vectors of 16.
  void (*add_outer)(const float* g, int columns, const float* x, std::ptrdiff_t ld_x,
                    std::ptrdiff_t width, int rows, float* sums, std::ptrdiff_t ld);

  // Parity checks of `lanes` code positions (a multiple of 16) at once: values, messages
  // (degree, lanes), 2 <= degree <= kMaxDegree. Messages and the values they are part of are
  // replaced by new ones.
  void (*check_nodes)(float* values, float* messages, int degree, std::ptrdiff_t lanes);

  // kBlock words of 4 bytes, under a key of kBlock + 4 words -> two digests.
  void (*digest)(const void* words, const std::int32_t* key, std::uint64_t* out);
};

}  // namespace noisycells
