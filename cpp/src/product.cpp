// Products with a packed array, in parallel. A chunk of the input vectors becomes codes; then each
// group of outputs is multiplied with a block of vectors, pass after pass.
#include <algorithm>
#include <atomic>

#include "align.h"
#include "bits.h"
#include "images.h"
#include "noisycells/crossbar.h"
#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"
#include "shares.h"
#include "tiny.h"

namespace noisycells {
namespace {

constexpr std::ptrdiff_t kChunkBytes = 1 << 20;  // input codes that are kept at once, about
constexpr std::ptrdiff_t kOwnRows = 128;  // vectors of a thread, from which on it shares none
constexpr std::ptrdiff_t kReadBeyond = 32;  // vectors: tiles of rows are read whole

// Vectors this many bytes apart do not meet in the same few cache sets.
std::ptrdiff_t stride(std::ptrdiff_t bytes) { return (bytes + 63) / 128 * 128 + 64; }

int bit_length(int value) {
  int bits = 0;
  while (value >> bits) ++bits;
  return bits;
}

int largest_digit(const Product& how) {
  if (how.slice_bits) return (1 << how.slice_bits) - 1;
  return how.dac_levels ? how.dac_levels : 1;
}

// What a slice of the inputs counts digitally.
float slice_factor(const Product& how, int slice) {
  if (!how.slice_bits) return 1.0f;
  return static_cast<float>((1 << slice * how.slice_bits) * largest_digit(how)) /
         static_cast<float>(how.dac_levels);
}

}  // namespace

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

// Input codes of the vectors first .. first + vectors, a slice after the other.
struct CrossbarArray::Chunk {
  std::ptrdiff_t first, vectors;
  std::ptrdiff_t most;      // vectors at once
  std::ptrdiff_t capacity;  // vectors there is room for
  int slices;
  std::ptrdiff_t code_stride;   // bytes a vector
  std::ptrdiff_t square_stride;
  std::ptrdiff_t code_bytes, square_bytes;  // of one part of an input
  std::ptrdiff_t part_stride;   // bytes
  int parts, square_parts;      // of an input in the float products
  std::unique_ptr<char[]> memory;
  char* codes;
  char* squares;
  std::unique_ptr<float[]> ranges;
};

// A group of outputs and a block of at most kRowBlock vectors, and sums of one pass over them.
struct CrossbarArray::Block {
  std::ptrdiff_t group;
  int columns;
  std::ptrdiff_t row;  // of the chunk
  int rows;
  alignas(kAlign) float total[kRowBlock * kGroup];
  alignas(kAlign) std::int32_t sums[kRowBlock * kGroup];
  alignas(kAlign) std::int32_t squares[kRowBlock * kGroup];
};

// One analog read: a tile of rows of a plane under a slice of the inputs.
struct CrossbarArray::Pass {
  int number, slice, plane, tile;
  std::ptrdiff_t offset;  // of the tile's first row, padded
};

std::int64_t CrossbarArray::product(const float* x, const Patches* patches, std::ptrdiff_t batch,
                                    float* y, const Product& how, int threads) const {
  std::unique_ptr<Images> images;
  if (patches) images = std::make_unique<Images>(x, *patches, batch, threads);
  const std::ptrdiff_t parts = threads > 0 ? threads : get_num_threads();
  std::atomic<std::int64_t> clipped{0};
  std::atomic<bool> finite{true};
  const Work work{x, images.get(), batch, y, &how, &clipped, &finite};
  if (batch >= parts * kOwnRows) {  // each thread its own vectors: they never wait for each other
    parallel_for(batch, kRowBlock, threads,
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) { multiply(work, begin, end, 1); });
  } else {
    multiply(work, 0, batch, threads);
  }
  return finite ? clipped.load() : -1;
}

void CrossbarArray::multiply(const Work& work, std::ptrdiff_t begin, std::ptrdiff_t end,
                             int threads) const {
  Chunk chunk = layout(*work.how, end - begin, threads);
  for (chunk.first = begin; chunk.first < end; chunk.first += chunk.most) {
    chunk.vectors = std::min(chunk.most, end - chunk.first);
    convert(work, chunk, threads);
    if (!*work.finite) return;
    multiply_chunk(work, chunk, threads);
  }
}

// ---- inputs

CrossbarArray::Chunk CrossbarArray::layout(const Product& how, std::ptrdiff_t vectors,
                                           int threads) const {
  Chunk chunk{};
  chunk.slices = slices(how.dac_levels, how.slice_bits);
  chunk.code_bytes = !integer_ ? kernels_->float_bytes
                     : narrow_ ? kernels_->narrow_code_bytes
                               : kernels_->code_bytes;
  chunk.square_bytes = integer_ ? kernels_->code_bytes : kernels_->float_bytes;
  const int most = integer_ ? 1 : kernels_->float_parts;
  // A part holds 8 bits.
  chunk.parts = std::min(most, how.dac_levels == 0 ? 3 : how.dac_levels <= 256 ? 1 : 2);
  chunk.square_parts = std::min(most, how.dac_levels != 0 && how.dac_levels <= 256 ? 2 : 3);
  chunk.part_stride = padded_k_ * chunk.code_bytes;
  chunk.code_stride = stride(chunk.part_stride * chunk.parts);
  if (how.weight_noise)
    chunk.square_stride = stride(integer_ ? padded_k_ * 2 : chunk.part_stride * chunk.square_parts);
  const std::ptrdiff_t bytes = chunk.slices * (chunk.code_stride + chunk.square_stride);
  const std::ptrdiff_t shares = threads > 0 ? threads : get_num_threads();
  chunk.most = std::max<std::ptrdiff_t>(1, shares * kChunkBytes / bytes);
  chunk.most = std::min((chunk.most + kRowBlock - 1) / kRowBlock * kRowBlock, vectors);
  chunk.capacity = chunk.most + kReadBeyond;
  chunk.memory.reset(new char[static_cast<std::size_t>(chunk.capacity * bytes) + kAlign]);
  chunk.codes = aligned(chunk.memory.get());
  chunk.squares = chunk.codes + chunk.slices * chunk.capacity * chunk.code_stride;
  chunk.ranges.reset(new float[static_cast<std::size_t>(chunk.most)]);
  return chunk;
}

void CrossbarArray::convert(const Work& work, const Chunk& chunk, int threads) const {
  const double input =
      static_cast<double>(k_) * chunk.slices * (work.images ? kPatchInput : kInput);
  parallel_for(chunk.vectors, grain(input), threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    std::int64_t clipped = 0;
    bool finite = true;
    // Several patches before the first is looked at: its lines, just written, could not be read
    // back as vectors at once.
    std::vector<float> gathered(work.images ? static_cast<std::size_t>(kGathered * k_) + 4 : 0);
    for (std::ptrdiff_t row = begin; row < end; ++row) {
      const float* input = work.x + (chunk.first + row) * k_;
      if (work.images) {
        const std::ptrdiff_t i = (row - begin) % kGathered;
        if (i == 0)
          work.images->gather(chunk.first + row, std::min(kGathered, end - row), gathered.data());
        input = gathered.data() + i * k_;
      }
      chunk.ranges[static_cast<std::size_t>(row)] = full_scale(input, *work.how, clipped, finite);
      encode(input, row, *work.how, chunk);
    }
    *work.clipped += clipped;
    if (!finite) *work.finite = false;
  });
}

float CrossbarArray::full_scale(const float* input, const Product& how, std::int64_t& clipped,
                                bool& finite) const {
  const std::int32_t top = kernels_->peak(input, how.row_scale, k_);
  if (top >= 0x7F800000) finite = false;  // the bits of infinity
  if (how.fixed_range > 0) {
    if (how.dac_levels && top > bits_of(how.fixed_range))
      clipped += kernels_->count_beyond(input, how.row_scale, k_, how.fixed_range);
    return how.fixed_range;
  }
  return float_of(top);
}

void CrossbarArray::encode(const float* input, std::ptrdiff_t row, const Product& how,
                           const Chunk& chunk) const {
  float range = chunk.ranges[static_cast<std::size_t>(row)];
  const float* row_scale = how.row_scale;
  std::vector<float> large;
  if (range > 0 && range < kTiny) {
    input = enlarged(input, row_scale, k_, &large);
    row_scale = nullptr;
    range *= kEnlarged;
  }
  const float full = static_cast<float>(how.dac_levels ? how.dac_levels : 1);
  const float inverse = range > 0 ? full / range : 0.0f;
  const int digit = how.slice_bits ? largest_digit(how) : 0;
  for (int s = 0; s < chunk.slices; ++s) {
    const Dac dac{inverse, how.dac_levels, s * how.slice_bits, digit};
    const std::ptrdiff_t at = s * chunk.capacity + row;
    char* codes = chunk.codes + at * chunk.code_stride;
    char* squares = chunk.squares + at * chunk.square_stride;
    std::ptrdiff_t row_offset = 0;
    for (int t = 0; t < tiles_; row_offset += padded_rows(t), ++t) {
      const std::ptrdiff_t offset = row_offset * chunk.code_bytes;
      const std::ptrdiff_t from = static_cast<std::ptrdiff_t>(t) * rows_;
      const float* scale = row_scale ? row_scale + from : nullptr;
      char* square_at = how.weight_noise ? squares + row_offset * chunk.square_bytes : nullptr;
      if (integer_)
        kernels_->dac(input + from, scale, tile_rows(t), padded_rows(t), dac, narrow_,
                      codes + offset, square_at, padded_k_);
      else
        kernels_->dac_float(input + from, scale, tile_rows(t), padded_rows(t), dac, chunk.parts,
                            chunk.square_parts, chunk.part_stride, codes + offset, square_at);
    }
  }
}

// ---- sums

void CrossbarArray::multiply_chunk(const Work& work, const Chunk& chunk, int threads) const {
  const std::ptrdiff_t row_blocks = (chunk.vectors + kRowBlock - 1) / kRowBlock;
  const auto rows = static_cast<double>(std::min<std::ptrdiff_t>(kRowBlock, chunk.vectors));
  const double reads = rows * kGroup * kOutput * tiles_;
  const double sums = kGroup * static_cast<double>(padded_k_) *
                      (kernels_->per_weight + rows * kernels_->per_product);
  parallel_for(
      groups_ * row_blocks, grain((reads + sums) * planes_ * chunk.slices), threads,
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        Block block;  // its sums are written before they are read
        kernels_->enter();
        for (std::ptrdiff_t i = begin; i < end; ++i) {
          block.group = i / row_blocks;
          block.columns =
              static_cast<int>(std::min<std::ptrdiff_t>(kGroup, n_ - block.group * kGroup));
          block.row = i % row_blocks * kRowBlock;
          block.rows =
              static_cast<int>(std::min<std::ptrdiff_t>(kRowBlock, chunk.vectors - block.row));
          multiply_block(work, chunk, block);
        }
        kernels_->leave();
      });
}

void CrossbarArray::multiply_block(const Work& work, const Chunk& chunk, Block& block) const {
  const Product& how = *work.how;
  std::fill_n(block.total, block.rows * kGroup, 0.0f);
  Pass pass{};
  for (pass.slice = 0; pass.slice < chunk.slices; ++pass.slice)
    for (pass.plane = 0; pass.plane < planes_; ++pass.plane) {
      pass.offset = 0;
      for (pass.tile = 0; pass.tile < tiles_; ++pass.tile, ++pass.number) {
        multiply_tile(how, chunk, pass, block);
        read(work, chunk, pass, block);
        pass.offset += padded_rows(pass.tile);
      }
    }
  const std::ptrdiff_t column = block.group * kGroup;
  kernels_->finish(block.total, block.rows, block.columns, how.scale + column,
                   how.bias ? how.bias + column : nullptr, chunk.ranges.get() + block.row,
                   work.y + (chunk.first + block.row) * n_ + column, n_);
}

void CrossbarArray::multiply_tile(const Product& how, const Chunk& chunk, const Pass& pass,
                                  Block& block) const {
  const std::ptrdiff_t at = pass.slice * chunk.capacity + block.row;
  const char* codes = chunk.codes + at * chunk.code_stride + pass.offset * chunk.code_bytes;
  const char* squares = chunk.squares + at * chunk.square_stride + pass.offset * chunk.square_bytes;
  const char* weights = panel(block.group, pass.plane, pass.tile, false);
  const char* variances =
      how.weight_noise ? panel(block.group, pass.plane, pass.tile, true) : nullptr;
  const int rows = padded_rows(pass.tile);
  if (integer_) {
    kernels_->multiply(codes, chunk.code_stride, block.rows, weights, rows, block.columns, narrow_,
                       block.sums);
    if (variances)
      kernels_->multiply_squares(squares, chunk.square_stride, padded_k_, block.rows, variances,
                                 rows, block.columns, block.squares);
  } else {
    kernels_->multiply_float(codes, chunk.code_stride, chunk.part_stride, chunk.parts, block.rows,
                             weights, rows, block.columns, reinterpret_cast<float*>(block.sums));
    if (variances)
      kernels_->multiply_float(squares, chunk.square_stride, chunk.part_stride, chunk.square_parts,
                               block.rows, variances, rows, block.columns,
                               reinterpret_cast<float*>(block.squares));
  }
}

// ---- what follows the sums

Read CrossbarArray::read_of(const Product& how, const Pass& pass) const {
  const double levels = !integer_ ? 1 : narrow_ ? kNarrowLevels : kWeightLevels;
  const double variance_levels = integer_ ? kVarianceLevels : 1;
  const int digit = largest_digit(how);
  const float factor = how.plane_factors[pass.plane] * slice_factor(how, pass.slice);
  const float step = how.adc_levels ? how.steps[pass.number] : 0;
  Read read{};
  read.unit = static_cast<float>(1 / (levels * digit));
  read.unit_variance = static_cast<float>(1 / (variance_levels * digit * digit));
  read.noise = how.output_noise;
  read.output_noise = how.output_noise > 0;
  read.weight_noise = how.weight_noise;
  read.inv_step = how.adc_levels ? 1 / step : 0;
  read.top = static_cast<float>(how.adc_levels);
  read.gain = how.adc_levels ? step * factor : factor;
  return read;
}

void CrossbarArray::read(const Work& work, const Chunk& chunk, const Pass& pass,
                         Block& block) const {
  const Product& how = *work.how;
  const std::ptrdiff_t row = chunk.first + block.row;
  const int noise_width = n_ <= 16 ? 16 : n_ <= 32 ? 32 : kGroup;
  const std::ptrdiff_t patch = row / (kPatch / noise_width) * groups_ + block.group;
  const std::ptrdiff_t inside_bytes = (n_ + 7) / 8;
  std::uint8_t* inside = nullptr;
  if (how.inside)
    inside =
        how.inside + (pass.number * work.batch + row) * inside_bytes + block.group * (kGroup / 8);
  const Draw draw{how.seed, how.stream, kMatmul, static_cast<std::uint32_t>(pass.number)};
  kernels_->read(block.sums, block.squares, integer_,
                 peaks(block.group, pass.plane, pass.tile, false),
                 variance_ ? peaks(block.group, pass.plane, pass.tile, true) : nullptr, block.rows,
                 block.columns, read_of(how, pass), draw, noise_width, patch * kPatch,
                 groups_ * kPatch, block.total, inside, inside_bytes);
}

}  // namespace noisycells
