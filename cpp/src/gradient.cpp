// Gradients of weights through a crossbar, in parallel over parts of the batch and groups of
// outputs.
#include <algorithm>
#include <memory>
#include <vector>

#include "bits.h"
#include "images.h"
#include "noisycells/crossbar.h"
#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"
#include "shares.h"
#include "tiny.h"

namespace noisycells {
namespace {

constexpr std::ptrdiff_t kRows = 64;           // input vectors at once
constexpr std::ptrdiff_t kPartRows = 1024;     // of a part of the batch, at least
constexpr std::ptrdiff_t kParts = 16;
constexpr std::ptrdiff_t kSums = std::ptrdiff_t{1} << 22;  // of all parts, about
constexpr std::ptrdiff_t kVector = 16;         // numbers of the widest vectors

std::ptrdiff_t padded(std::ptrdiff_t n) { return (n + kVector - 1) / kVector * kVector; }

// The sizes of one gradient, and what its threads share.
struct Job {
  const float* x;
  const Images* images;  // where the inputs are patches
  std::ptrdiff_t batch;
  const float* grad;
  std::ptrdiff_t n, k, tile_rows;
  const WeightGradient& how;
  const Kernels& kernel;

  std::ptrdiff_t tiles() const { return (k + tile_rows - 1) / tile_rows; }
  std::ptrdiff_t rows_of(std::ptrdiff_t tile) const {
    return std::min(tile_rows, k - tile * tile_rows);
  }
  // Numbers between the tiles of a vector, and of all of them; whole vectors of the processor.
  std::ptrdiff_t tile_width() const { return padded(tile_rows); }
  std::ptrdiff_t width() const {
    return (tiles() - 1) * tile_width() + padded(rows_of(tiles() - 1));
  }
  std::ptrdiff_t groups() const { return (n + kGroup - 1) / kGroup; }
  std::ptrdiff_t inside_bytes() const { return (n + 7) / 8; }
  // The batch is summed in parts that depend on sizes alone: so no sum depends on the threads.
  std::ptrdiff_t parts() const {
    const std::ptrdiff_t most = std::min(kParts, (batch + kPartRows - 1) / kPartRows);
    return std::max<std::ptrdiff_t>(1, std::min(most, kSums / (groups() * kGroup * width())));
  }
};

// A thread's room for a block of input vectors and of the gradients of a group of outputs.
struct Room {
  explicit Room(const Job& job)
      : gathered(static_cast<std::size_t>(job.images ? kRows * job.k + 4 : 0)),  // loaded whole
        values(static_cast<std::size_t>(kRows * job.width())) {}

  std::vector<float> gathered, values, large;
  alignas(64) float masked[kRows * kGroup], steps[kRows];
};

// An input whose weights are all 0 is taken as driven.
std::vector<float> driven_scales(const WeightGradient& how, std::ptrdiff_t k) {
  std::vector<float> driven;
  if (how.row_scale)
    for (std::ptrdiff_t i = 0; i < k; ++i)
      driven.push_back(how.row_scale[i] > 0 ? how.row_scale[i] : 1.0f);
  return driven;
}

// `rows` vectors from `first` on, in steps of the DAC, and their steps.
void convert(const Job& job, const float* driven, std::ptrdiff_t first, std::ptrdiff_t rows,
             Room& room) {
  const WeightGradient& how = job.how;
  const std::ptrdiff_t tiles = job.tiles(), tile_width = job.tile_width(), width = job.width();
  const float* input = job.x + first * job.k;
  if (job.images) {
    job.images->gather(first, rows, room.gathered.data());
    input = room.gathered.data();
  }
  for (std::ptrdiff_t r = 0; r < rows; ++r, input += job.k) {
    const float range = how.fixed_range > 0
                            ? how.fixed_range
                            : float_of(job.kernel.peak(input, how.row_scale, job.k));
    const auto levels = static_cast<float>(how.dac_levels);
    room.steps[r] = range / levels;
    const bool tiny = range > 0 && range < kTiny;
    const float* from = tiny ? enlarged(input, driven, job.k, &room.large) : input;
    const float* scales = tiny ? nullptr : driven;
    const float inverse = range > 0 ? levels / (tiny ? range * kEnlarged : range) : 0.0f;
    // Driven inputs reach their vector's own range at most; others pass as they are.
    const Dac dac{inverse, how.fixed_range > 0 ? how.dac_levels : 1 << 24, how.shift, how.digit};
    for (std::ptrdiff_t t = 0; t < tiles; ++t)
      job.kernel.input_values(
          from + t * job.tile_rows, scales ? scales + t * job.tile_rows : nullptr, job.rows_of(t),
          padded(job.rows_of(t)), dac, room.values.data() + r * width + t * tile_width);
  }
}

// A block of gradients of kGroup outputs, times the steps of the DAC, without those whose sums
// the ADC cut off.
void mask(const float* grad, std::ptrdiff_t n, int columns, std::ptrdiff_t rows, const float* steps,
          const std::uint8_t* inside, std::ptrdiff_t inside_bytes, float* out) {
  for (std::ptrdiff_t r = 0; r < rows; ++r, grad += n, out += kGroup) {
    for (int c = 0; c < columns; ++c) out[c] = grad[c] * steps[r];
    if (!inside) continue;
    for (int c = 0; c < columns; c += 8) {
      const unsigned live = columns - c < 8 ? (1u << (columns - c)) - 1 : 0xFFu;
      const unsigned bits = inside[r * inside_bytes + c / 8];
      if ((bits & live) == live) continue;
      for (int i = c; i < std::min(c + 8, columns); ++i)
        if (!(bits >> (i - c) & 1)) out[i] = 0;
    }
  }
}

// Adds the products of the block's gradients, of outputs from `column` on, and its inputs.
void add_products(const Job& job, std::ptrdiff_t first, std::ptrdiff_t rows, std::ptrdiff_t column,
                  float* sum, Room& room) {
  const std::ptrdiff_t tiles = job.tiles(), tile_width = job.tile_width(), width = job.width();
  const int columns = static_cast<int>(std::min<std::ptrdiff_t>(kGroup, job.n - column));
  const std::ptrdiff_t inside_bytes = job.inside_bytes();
  const std::uint8_t* inside = job.how.inside;
  const float* from = job.grad + first * job.n + column;
  for (std::ptrdiff_t t = 0; t < tiles; ++t) {
    if (t == 0 || inside)
      mask(from, job.n, columns, rows, room.steps,
           inside ? inside + (t * job.batch + first) * inside_bytes + column / 8 : nullptr,
           inside_bytes, room.masked);
    job.kernel.add_outer(room.masked, columns, room.values.data() + t * tile_width, width,
                         padded(job.rows_of(t)), static_cast<int>(rows), sum + t * tile_width,
                         width);
  }
}

// total (n, k) = the sums of all parts (parts, n, width), without their padding.
void add_parts(const Job& job, const float* sums, float* total, int threads) {
  const std::ptrdiff_t parts = job.parts(), width = job.width();
  const std::ptrdiff_t tiles = job.tiles(), tile_width = job.tile_width();
  parallel_for(job.n, grain(kCopied * static_cast<double>(parts * job.k)), threads,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 for (std::ptrdiff_t j = begin; j < end; ++j)
                   for (std::ptrdiff_t t = 0; t < tiles; ++t) {
                     float* to = total + j * job.k + t * job.tile_rows;
                     const std::ptrdiff_t count = job.rows_of(t);
                     for (std::ptrdiff_t part = 0; part < parts; ++part) {
                       const float* of_part = sums + (part * job.n + j) * width + t * tile_width;
                       for (std::ptrdiff_t i = 0; i < count; ++i)
                         to[i] = part == 0 ? of_part[i] : to[i] + of_part[i];
                     }
                   }
               });
}

}  // namespace

void weight_gradient(const float* x, const Patches* patches, std::ptrdiff_t batch,
                     const float* grad, std::ptrdiff_t n, std::ptrdiff_t k, int tile_rows,
                     const WeightGradient& how, float* total, int threads) {
  std::unique_ptr<Images> images;
  if (patches) images = std::make_unique<Images>(x, *patches, batch, threads);
  const Job job{x, images.get(), batch, grad, n, k, tile_rows, how, kernels()};
  const std::vector<float> driven = driven_scales(how, k);
  const std::ptrdiff_t parts = job.parts(), groups = job.groups(), width = job.width();
  const std::ptrdiff_t part_rows = (batch + parts - 1) / parts;
  std::vector<float> sums(static_cast<std::size_t>(parts * n * width));
  parallel_for(parts * groups, 1, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    Room room(job);
    for (std::ptrdiff_t unit = begin; unit < end; ++unit) {
      const std::ptrdiff_t part = unit / groups, column = unit % groups * kGroup;
      const std::ptrdiff_t last = std::min((part + 1) * part_rows, batch);
      for (std::ptrdiff_t first = part * part_rows; first < last; first += kRows) {
        const std::ptrdiff_t rows = std::min(kRows, last - first);
        convert(job, driven.empty() ? nullptr : driven.data(), first, rows, room);
        add_products(job, first, rows, column, sums.data() + (part * n + column) * width, room);
      }
    }
  });
  add_parts(job, sums.data(), total, threads);
}

}  // namespace noisycells
