// Devices of a crossbar, and products with its packed conductances, in parallel. Definitions:
// python/noisycells/reference/crossbar.py.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "noisycells/kernels.h"

namespace noisycells {

// Weights (n, k) -> conductances (n, k). inverse: one for each of the n outputs, or (stride 0)
// one for all; its sign is the polarity. threads == 0: the package setting.
void program(const float* w, const float* inverse, int inverse_stride, float sign, float g_min,
             float span, std::ptrdiff_t n, std::ptrdiff_t k, float* g, const Programming& device,
             const Draw& draw, int threads);
// Both polarities, drawn as cells draw.cell and draw.cell + 1.
void program_pair(const float* w, const float* inverse, int inverse_stride, float g_min, float span,
                  std::ptrdiff_t n, std::ptrdiff_t k, float* positive, float* negative,
                  const Programming& device, const Draw& draw, int threads);
void age(const float* w, const float* inverse, int inverse_stride, float sign, float g_min,
         float span, const float* programmed, std::ptrdiff_t n, std::ptrdiff_t k, float* g,
         const Aging& device, const Draw& draw, int threads);

// Where the input vectors come from: rows of a matrix, or the patches of a convolution.
struct Patches {
  std::ptrdiff_t channels;
  std::ptrdiff_t size[3], out[3], kernel[3], stride[3], padding[3], dilation[3];  // d, h, w
};

struct Product {
  int dac_levels, slice_bits, adc_levels;
  const float* steps;          // one a pass
  const float* plane_factors;  // one a plane
  float output_noise;
  bool weight_noise;
  float fixed_range;           // of inputs; 0: the largest magnitude of each vector
  const float* scale;          // one an output
  const float* bias;           // one an output, or null
  const float* row_scale;      // one an input, or null
  std::uint64_t seed, stream;
  std::uint8_t* inside;        // (passes, rows, (n + 7) / 8) bits, or null
};

// How inputs were converted in the pass whose gradient is asked for, and which sums its ADC took.
struct WeightGradient {
  int dac_levels, shift, digit;  // digit == 0: all digits at once
  float fixed_range;             // of inputs; 0: the largest magnitude of each vector
  const float* row_scale;        // one an input, or null
  const std::uint8_t* inside;    // (tiles, batch, (n + 7) / 8) bits, or null
};

// total (n, k) = the sum over the batch of the gradients (batch, n) of the outputs times the
// converted inputs, where the ADC of a tile of rows was within its range. x as in a product.
void weight_gradient(const float* x, const Patches* patches, std::ptrdiff_t batch,
                     const float* grad, std::ptrdiff_t n, std::ptrdiff_t k, int tile_rows,
                     const WeightGradient& how, float* total, int threads);

class CrossbarArray {
 public:
  CrossbarArray(std::ptrdiff_t n, std::ptrdiff_t k, int rows, int planes, bool integer, bool narrow,
                bool variance);

  // One plane's conductances, (n, k) each; negative and variance may be null. Writes to `reach`,
  // one a tile, how far its sums are to be expected to reach.
  void pack(int plane, const float* positive, const float* negative, float inverse_span,
            const float* variance, float* reach, int threads);

  // x (batch, k), or where `patches` is given the images that its batch vectors are cut from
  // -> y (batch, n). Returns how many inputs the DAC clipped, or -1 where any is not finite
  // (y is then of no use).
  std::int64_t product(const float* x, const Patches* patches, std::ptrdiff_t batch, float* y,
                       const Product& how, int threads) const;

  std::ptrdiff_t n() const { return n_; }
  std::ptrdiff_t k() const { return k_; }
  int planes() const { return planes_; }
  int tiles() const { return tiles_; }
  bool integer() const { return integer_; }
  bool has_variance() const { return variance_; }
  bool packed() const;  // every plane
  const Kernels& level() const { return *kernels_; }
  static int slices(int dac_levels, int slice_bits);

 private:
  struct Work;
  struct Chunk;
  struct Block;
  struct Pass;
  int tile_rows(int tile) const;
  int padded_rows(int tile) const;
  // A group's panels lie together: those of all planes and tiles.
  char* panel(std::ptrdiff_t group, int plane, int tile, bool variance) const;
  float* peaks(std::ptrdiff_t group, int plane, int tile, bool variance) const;
  // Products of the vectors begin .. end, chunk by chunk.
  void multiply(const Work& work, std::ptrdiff_t begin, std::ptrdiff_t end, int threads) const;
  // Room for the codes of as many vectors as are converted at once.
  Chunk layout(const Product& how, std::ptrdiff_t vectors, int threads) const;
  void convert(const Work& work, const Chunk& chunk, int threads) const;
  // Of one input vector; counts what the DAC clips.
  float full_scale(const float* input, const Product& how, std::int64_t& clipped,
                   bool& finite) const;
  void encode(const float* input, std::ptrdiff_t row, const Product& how, const Chunk& chunk) const;
  void multiply_chunk(const Work& work, const Chunk& chunk, int threads) const;
  void multiply_block(const Work& work, const Chunk& chunk, Block& block) const;
  // The analog sums of one pass, and where weights are noisy those of the squares.
  void multiply_tile(const Product& how, const Chunk& chunk, const Pass& pass, Block& block) const;
  // Their noise and ADC; adds them to the block's total.
  void read(const Work& work, const Chunk& chunk, const Pass& pass, Block& block) const;
  Read read_of(const Product& how, const Pass& pass) const;

  std::ptrdiff_t n_, k_, groups_, padded_k_;
  int rows_, planes_, tiles_;
  bool integer_, narrow_, variance_;
  const Kernels* kernels_;
  std::ptrdiff_t weight_bytes_, variance_bytes_;  // of one input row's part of a panel
  std::ptrdiff_t extra_bytes_;  // of a panel, behind its weights
  std::ptrdiff_t group_bytes_;
  std::unique_ptr<char[]> memory_;
  char* panels_;
  std::unique_ptr<float[]> peaks_;
  std::vector<bool> packed_;  // one a plane
};

}  // namespace noisycells
