#include "noisycells/crossbar.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "images.h"
#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {
namespace {

constexpr std::ptrdiff_t kChunkBytes = 1 << 20;  // input codes that are kept at once, about
constexpr std::ptrdiff_t kOwnRows = 128;  // vectors of a thread, from which on it shares none
constexpr std::size_t kAlign = 64;

char* aligned(char* p) {
  return p + (kAlign - reinterpret_cast<std::uintptr_t>(p) % kAlign) % kAlign;
}

// Vectors this many bytes apart do not meet in the same few cache sets.
std::ptrdiff_t stride(std::ptrdiff_t bytes) { return (bytes + 63) / 128 * 128 + 64; }

// f(begin, end, inverse) on pieces of at most kBlock elements that have one inverse.
template <class F>
void in_blocks(const float* inverse, int inverse_stride, float sign, std::ptrdiff_t n,
               std::ptrdiff_t k, int threads, F f) {
  const auto piece = [&](std::ptrdiff_t begin, std::ptrdiff_t end, float scale) {
    for (std::ptrdiff_t i = begin; i < end; i += kBlock) f(i, std::min(i + kBlock, end), scale);
  };
  if (inverse_stride == 0) {
    parallel_for(n * k, grain(kDevice) / kBlock * kBlock, threads,
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                   piece(begin, end, sign * inverse[0]);
                 });
    return;
  }
  parallel_for(n, grain(kDevice * static_cast<double>(k)), threads,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 for (std::ptrdiff_t j = begin; j < end; ++j)
                   piece(j * k, (j + 1) * k, sign * inverse[j]);
               });
}

int bit_length(int value) {
  int bits = 0;
  while (value >> bits) ++bits;
  return bits;
}

}  // namespace

void program(const float* w, const float* inverse, int inverse_stride, float sign, float g_min,
             float span, std::ptrdiff_t n, std::ptrdiff_t k, float* g, const Programming& device,
             const Draw& draw, int threads) {
  const Kernels& kernel = kernels();
  in_blocks(inverse, inverse_stride, sign, n, k, threads,
            [&](std::ptrdiff_t i, std::ptrdiff_t end, float scale) {
              kernel.program(w + i, g + i, end - i, {scale, g_min, span}, device, draw, i);
            });
}

void program_pair(const float* w, const float* inverse, int inverse_stride, float g_min,
                  float span, std::ptrdiff_t n, std::ptrdiff_t k, float* positive,
                  float* negative, const Programming& device, const Draw& draw, int threads) {
  const Kernels& kernel = kernels();
  in_blocks(inverse, inverse_stride, 1.0f, n, k, threads,
            [&](std::ptrdiff_t i, std::ptrdiff_t end, float scale) {
              kernel.program_pair(w + i, positive + i, negative + i, end - i,
                                  {scale, g_min, span}, device, draw, i);
            });
}

void age(const float* w, const float* inverse, int inverse_stride, float sign, float g_min,
         float span, const float* programmed, std::ptrdiff_t n, std::ptrdiff_t k, float* g,
         const Aging& device, const Draw& draw, int threads) {
  const Kernels& kernel = kernels();
  in_blocks(inverse, inverse_stride, sign, n, k, threads,
            [&](std::ptrdiff_t i, std::ptrdiff_t end, float scale) {
              kernel.age(w + i, programmed + i, g + i, end - i, {scale, g_min, span}, device,
                         draw, i);
            });
}

CrossbarArray::CrossbarArray(std::ptrdiff_t n, std::ptrdiff_t k, int rows, int planes,
                             bool integer, bool narrow, bool variance)
    : n_(n), k_(k), groups_((n + kGroup - 1) / kGroup), rows_(rows), planes_(planes),
      tiles_(static_cast<int>((k + rows - 1) / rows)), integer_(integer), narrow_(narrow),
      variance_(variance), kernels_(&kernels()) {
  padded_k_ = 0;
  for (int t = 0; t < tiles_; ++t) padded_k_ += padded_rows(t);
  const int float_bytes = kernels_->float_bytes * kernels_->float_parts;
  weight_bytes_ = kGroup * (!integer ? float_bytes : narrow ? kernels_->code_bytes : 2);
  variance_bytes_ = kGroup * (!variance ? 0 : integer ? kernels_->code_bytes : float_bytes);
  group_bytes_ = planes * padded_k_ * (weight_bytes_ + variance_bytes_);
  memory_.reset(new char[static_cast<std::size_t>(groups_ * group_bytes_) + kAlign]);
  panels_ = aligned(memory_.get());
  peaks_.reset(new float[static_cast<std::size_t>(groups_ * planes * tiles_ * kGroup *
                                                  (variance ? 2 : 1))]);
  packed_.resize(static_cast<std::size_t>(planes));
}

bool CrossbarArray::packed() const {
  return std::find(packed_.begin(), packed_.end(), false) == packed_.end();
}

int CrossbarArray::tile_rows(int tile) const {
  const std::ptrdiff_t before = static_cast<std::ptrdiff_t>(tile) * rows_;
  return static_cast<int>(std::min<std::ptrdiff_t>(rows_, k_ - before));
}

int CrossbarArray::padded_rows(int tile) const {
  const int step = integer_ ? kernels_->row_step : kernels_->float_row_step;
  return (tile_rows(tile) + step - 1) / step * step;
}

char* CrossbarArray::panel(std::ptrdiff_t group, int plane, int tile, bool variance) const {
  const std::ptrdiff_t before =
      plane * padded_k_ + static_cast<std::ptrdiff_t>(tile) * padded_rows(0);
  return panels_ + group * group_bytes_ + before * (weight_bytes_ + variance_bytes_) +
         (variance ? padded_rows(tile) * weight_bytes_ : 0);
}

float* CrossbarArray::peaks(std::ptrdiff_t group, int plane, int tile, bool variance) const {
  const std::ptrdiff_t at = (group * planes_ + plane) * tiles_ + tile;
  const std::ptrdiff_t all = groups_ * planes_ * tiles_;
  return peaks_.get() + (at + (variance ? all : 0)) * kGroup;
}

void CrossbarArray::pack(int plane, const float* positive, const float* negative,
                         float inverse_span, const float* variance, float* reach,
                         int threads) {
  if (!positive) {  // -(negative) inverse_span
    positive = negative;
    negative = nullptr;
    inverse_span = -inverse_span;
  }
  std::vector<float> each(static_cast<std::size_t>(groups_ * tiles_));
  const int levels = !integer_ ? 0 : narrow_ ? kNarrowLevels : kWeightLevels;
  const double panel_weights = static_cast<double>(kGroup * tile_rows(0));
  parallel_for(groups_ * tiles_, grain(kInput * 2 * panel_weights), threads,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t i = begin; i < end; ++i) {
      const std::ptrdiff_t group = i / tiles_;
      const int tile = static_cast<int>(i % tiles_);
      const std::ptrdiff_t at = group * kGroup * k_ + static_cast<std::ptrdiff_t>(tile) * rows_;
      const int columns = static_cast<int>(std::min<std::ptrdiff_t>(kGroup, n_ - group * kGroup));
      each[static_cast<std::size_t>(i)] = kernels_->pack(
          positive + at, negative ? negative + at : nullptr, k_, columns, tile_rows(tile),
          inverse_span, levels, panel(group, plane, tile, false),
          peaks(group, plane, tile, false));
      if (variance_)
        kernels_->pack(variance + at, nullptr, k_, columns, tile_rows(tile), 1.0f,
                       integer_ ? kVarianceLevels : 0, panel(group, plane, tile, true),
                       peaks(group, plane, tile, true));
    }
  });
  std::fill(reach, reach + tiles_, 0.0f);
  for (std::ptrdiff_t i = 0; i < groups_ * tiles_; ++i)
    reach[i % tiles_] = std::max(reach[i % tiles_], each[static_cast<std::size_t>(i)]);
  packed_[static_cast<std::size_t>(plane)] = true;
}

int CrossbarArray::slices(int dac_levels, int slice_bits) {
  return slice_bits ? (bit_length(dac_levels) + slice_bits - 1) / slice_bits : 1;
}

// What a product works on and reports.
struct CrossbarArray::Work {
  const float* x;
  const Images* images;  // where the inputs are patches
  std::ptrdiff_t batch;
  float* y;
  const Product* how;
  std::atomic<std::int64_t>* clipped;
  std::atomic<bool>* finite;
};

// Input codes of the vectors of one chunk, a slice after the other.
struct CrossbarArray::Block {
  std::ptrdiff_t capacity;      // vectors
  std::ptrdiff_t code_stride;   // bytes a vector
  std::ptrdiff_t square_stride;
  int code_bytes;               // of one part of an input
  int parts, square_parts;      // of an input in the float products
  char* codes;
  char* squares;
  float* ranges;
};

void CrossbarArray::prepare(const float* input, std::ptrdiff_t row, const Product& how,
                            const Block& block, std::int64_t* clipped, bool* finite) const {
  const std::int32_t top = kernels_->peak(input, how.row_scale, k_);
  if (top >= 0x7F800000) *finite = false;
  std::int32_t limit;
  std::memcpy(&limit, &how.fixed_range, sizeof limit);
  if (how.fixed_range > 0 && how.dac_levels && top > limit)
    *clipped += kernels_->count_beyond(input, how.row_scale, k_, how.fixed_range);
  float range = how.fixed_range;
  if (!(range > 0)) std::memcpy(&range, &top, sizeof range);
  block.ranges[row] = range;
  const float full = static_cast<float>(how.dac_levels ? how.dac_levels : 1);
  std::vector<float> large;
  if (range > 0 && range < kTiny) {
    input = enlarged(input, k_, &large);
    range *= kEnlarged;
  }
  const float inverse = range > 0 ? full / range : 0;

  const int slices = CrossbarArray::slices(how.dac_levels, how.slice_bits);
  const int digit = how.slice_bits ? (1 << how.slice_bits) - 1 : 0;
  for (int s = 0; s < slices; ++s) {
    const Dac dac{inverse, how.dac_levels, s * how.slice_bits, digit};
    const std::ptrdiff_t at = s * block.capacity + row;
    char* codes = block.codes + at * block.code_stride;
    char* squares = how.weight_noise ? block.squares + at * block.square_stride : nullptr;
    std::ptrdiff_t offset = 0;
    for (int t = 0; t < tiles_; offset += padded_rows(t) * block.code_bytes, ++t) {
      const std::ptrdiff_t from = static_cast<std::ptrdiff_t>(t) * rows_;
      const float* scale = how.row_scale ? how.row_scale + from : nullptr;
      char* square_at = squares ? squares + offset : nullptr;
      if (integer_)
        kernels_->dac(input + from, scale, tile_rows(t), padded_rows(t), dac, codes + offset,
                      square_at, padded_k_);
      else
        kernels_->dac_float(input + from, scale, tile_rows(t), padded_rows(t), dac, block.parts,
                            block.square_parts, padded_k_ * block.code_bytes, codes + offset,
                            square_at);
    }
  }
}

std::int64_t CrossbarArray::product(const float* x, const Patches* patches, std::ptrdiff_t batch,
                                    float* y, const Product& how, int threads) const {
  std::unique_ptr<Images> images;
  if (patches) images = std::make_unique<Images>(x, *patches, batch, threads);
  const std::ptrdiff_t parts = threads > 0 ? threads : get_num_threads();
  std::atomic<std::int64_t> clipped{0};
  std::atomic<bool> finite{true};
  const Work work{x, images.get(), batch, y, &how, &clipped, &finite};
  if (batch >= parts * kOwnRows) {  // each thread its own vectors: they never wait for each other
    parallel_for(batch, kRowBlock, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      multiply(work, begin, end, 1);
    });
  } else {
    multiply(work, 0, batch, threads);
  }
  return finite ? clipped.load() : -1;
}

void CrossbarArray::multiply(const Work& work, std::ptrdiff_t begin_row, std::ptrdiff_t end_row,
                             int threads) const {
  const Product& how = *work.how;
  const std::ptrdiff_t batch = work.batch, vectors_in_all = end_row - begin_row;
  const int slices = CrossbarArray::slices(how.dac_levels, how.slice_bits);
  const int digit = how.slice_bits ? (1 << how.slice_bits) - 1
                    : how.dac_levels ? how.dac_levels : 1;
  Block block;
  block.code_bytes = integer_ ? kernels_->code_bytes : kernels_->float_bytes;
  const int most = integer_ ? 1 : kernels_->float_parts;
  // A part holds 8 bits.
  block.parts = std::min(most, how.dac_levels == 0 ? 3 : how.dac_levels <= 256 ? 1 : 2);
  block.square_parts = std::min(most, how.dac_levels != 0 && how.dac_levels <= 256 ? 2 : 3);
  block.code_stride = stride(padded_k_ * block.code_bytes * block.parts);
  block.square_stride =
      how.weight_noise ? stride(padded_k_ * (integer_ ? 2 : block.code_bytes * block.square_parts))
                       : 0;
  const std::ptrdiff_t vector_bytes = slices * (block.code_stride + block.square_stride);
  const std::ptrdiff_t parts = threads > 0 ? threads : get_num_threads();
  std::ptrdiff_t chunk = std::max<std::ptrdiff_t>(1, parts * kChunkBytes / vector_bytes);
  chunk = std::min((chunk + kRowBlock - 1) / kRowBlock * kRowBlock, vectors_in_all);
  block.capacity = chunk + 32;  // tiles of rows are read whole
  const auto bytes = static_cast<std::size_t>(block.capacity * vector_bytes);
  std::unique_ptr<char[]> memory(new char[bytes + kAlign]);
  block.codes = aligned(memory.get());
  block.squares = block.codes + slices * block.capacity * block.code_stride;
  std::vector<float> ranges(static_cast<std::size_t>(chunk));
  block.ranges = ranges.data();

  const int noise_width = n_ <= 16 ? 16 : n_ <= 32 ? 32 : kGroup;
  const std::ptrdiff_t inside_bytes = (n_ + 7) / 8;
  for (std::ptrdiff_t first = begin_row; first < end_row; first += chunk) {
    const std::ptrdiff_t vectors = std::min(chunk, end_row - first);
    const double input = static_cast<double>(k_) * slices * (work.images ? kPatchInput : kInput);
    parallel_for(vectors, grain(input), threads,
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                   std::int64_t count = 0;
                   bool all_finite = true;
                   // Several patches before the first is looked at: its lines, just written,
                   // could not be read back as vectors at once.
                   std::vector<float> gathered(
                       work.images ? static_cast<std::size_t>(kGathered * k_) + 4 : 0);
                   for (std::ptrdiff_t row = begin; row < end; ++row) {
                     const float* input = work.x + (first + row) * k_;
                     if (work.images) {
                       const std::ptrdiff_t i = (row - begin) % kGathered;
                       if (i == 0)
                         work.images->gather(first + row, std::min(kGathered, end - row),
                                             gathered.data());
                       input = gathered.data() + i * k_;
                     }
                     prepare(input, row, how, block, &count, &all_finite);
                   }
                   *work.clipped += count;
                   if (!all_finite) *work.finite = false;
                 });
    if (!*work.finite) return;

    const std::ptrdiff_t part_stride = padded_k_ * block.code_bytes;
    const std::ptrdiff_t row_blocks = (vectors + kRowBlock - 1) / kRowBlock;
    const double rows_at_once = static_cast<double>(std::min<std::ptrdiff_t>(kRowBlock, vectors));
    const double reads = rows_at_once * kGroup * kOutput * tiles_;
    const double sums = kGroup * static_cast<double>(padded_k_) *
                        (kernels_->per_weight + rows_at_once * kernels_->per_product);
    parallel_for(groups_ * row_blocks, grain((reads + sums) * planes_ * slices), threads,
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      alignas(kAlign) float total[kRowBlock * kGroup];
      alignas(kAlign) std::int32_t sums[kRowBlock * kGroup], squares[kRowBlock * kGroup];
      kernels_->enter();
      for (std::ptrdiff_t i = begin; i < end; ++i) {
        const std::ptrdiff_t group = i / row_blocks;
        const std::ptrdiff_t row = i % row_blocks * kRowBlock;
        const int m = static_cast<int>(std::min<std::ptrdiff_t>(kRowBlock, vectors - row));
        const int columns = static_cast<int>(std::min<std::ptrdiff_t>(kGroup, n_ - group * kGroup));
        std::fill(total, total + m * kGroup, 0.0f);
        int pass = 0;
        for (int s = 0; s < slices; ++s) {
          const float weight = how.slice_bits
              ? static_cast<float>((1 << s * how.slice_bits) * digit) /
                    static_cast<float>(how.dac_levels)
              : 1.0f;
          const std::ptrdiff_t at = s * block.capacity + row;
          for (int plane = 0; plane < planes_; ++plane) {
            std::ptrdiff_t offset = 0;
            for (int t = 0; t < tiles_; offset += padded_rows(t), ++t, ++pass) {
              const char* codes = block.codes + at * block.code_stride + offset * block.code_bytes;
              const char* squared =
                  block.squares + at * block.square_stride + offset * block.code_bytes;
              const int rows = padded_rows(t);
              const char* weights = panel(group, plane, t, false);
              if (integer_)
                kernels_->multiply(codes, block.code_stride, m, weights, rows, columns,
                                   narrow_, sums);
              else
                kernels_->multiply_float(codes, block.code_stride, part_stride, block.parts, m,
                                         weights, rows, columns,
                                         reinterpret_cast<float*>(sums));
              if (how.weight_noise) {
                const char* variances = panel(group, plane, t, true);
                if (integer_)
                  kernels_->multiply_squares(squared, block.square_stride, padded_k_, m,
                                             variances, rows, columns, squares);
                else
                  kernels_->multiply_float(squared, block.square_stride, part_stride,
                                           block.square_parts, m, variances, rows, columns,
                                           reinterpret_cast<float*>(squares));
              }
              const double levels = !integer_ ? 1 : narrow_ ? kNarrowLevels : kWeightLevels;
              const double variance_levels = integer_ ? kVarianceLevels : 1;
              const float factor = how.plane_factors[plane] * weight;
              const float step = how.adc_levels ? how.steps[pass] : 0;
              const Read read{static_cast<float>(1 / (levels * digit)),
                              static_cast<float>(1 / (variance_levels * digit * digit)),
                              how.output_noise, how.output_noise > 0, how.weight_noise,
                              how.adc_levels ? 1 / step : 0,
                              static_cast<float>(how.adc_levels),
                              how.adc_levels ? step * factor : factor};
              const Draw draw{how.seed, how.stream, kMatmul, static_cast<std::uint32_t>(pass)};
              std::uint8_t* inside =
                  how.inside ? how.inside + (pass * batch + first + row) * inside_bytes +
                                   group * (kGroup / 8)
                             : nullptr;
              kernels_->read(sums, squares, integer_, peaks(group, plane, t, false),
                             variance_ ? peaks(group, plane, t, true) : nullptr, m, columns,
                             read, draw, noise_width,
                             ((first + row) / (kPatch / noise_width) * groups_ + group) * kPatch,
                             groups_ * kPatch, total, inside, inside_bytes);
            }
          }
        }
        const std::ptrdiff_t column = group * kGroup;
        kernels_->finish(total, m, columns, how.scale + column,
                         how.bias ? how.bias + column : nullptr, block.ranges + row,
                         work.y + (first + row) * n_ + column, n_);
      }
      kernels_->leave();
    });
  }
}

}  // namespace noisycells
