#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "images.h"
#include "noisycells/crossbar.h"
#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {
namespace {

constexpr std::ptrdiff_t kRows = 64;           // input vectors at once
constexpr std::ptrdiff_t kPartRows = 1024;     // of a part of the batch, at least
constexpr std::ptrdiff_t kParts = 16;
constexpr std::ptrdiff_t kSums = std::ptrdiff_t{1} << 22;  // of all parts, about
constexpr std::ptrdiff_t kVector = 16;         // numbers of the widest vectors

std::ptrdiff_t padded(std::ptrdiff_t n) { return (n + kVector - 1) / kVector * kVector; }

// A block of gradients of kGroup outputs, times the steps of the DAC, without those whose sums
// the ADC cut off.
void gradients(const float* grad, std::ptrdiff_t n, int columns, std::ptrdiff_t rows,
               const float* steps, const std::uint8_t* inside, std::ptrdiff_t inside_bytes,
               float* out) {
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

}  // namespace

void weight_gradient(const float* x, const Patches* patches, std::ptrdiff_t batch,
                     const float* grad, std::ptrdiff_t n, std::ptrdiff_t k, int tile_rows,
                     const WeightGradient& how, float* total, int threads) {
  const Kernels& kernel = kernels();
  const auto tiles = (k + tile_rows - 1) / tile_rows;
  const auto rows_of = [&](std::ptrdiff_t tile) {
    return std::min<std::ptrdiff_t>(tile_rows, k - tile * tile_rows);
  };
  const std::ptrdiff_t tile_width = padded(tile_rows);
  const std::ptrdiff_t width = (tiles - 1) * tile_width + padded(rows_of(tiles - 1));
  const std::ptrdiff_t groups = (n + kGroup - 1) / kGroup;
  const std::ptrdiff_t inside_bytes = (n + 7) / 8;

  // The batch is summed in parts that depend on sizes alone: so no sum depends on the threads.
  const std::ptrdiff_t most = std::min(kParts, (batch + kPartRows - 1) / kPartRows);
  const std::ptrdiff_t parts =
      std::max<std::ptrdiff_t>(1, std::min(most, kSums / (groups * kGroup * width)));
  const std::ptrdiff_t part_rows = (batch + parts - 1) / parts;
  std::vector<float> sums(static_cast<std::size_t>(parts * n * width));
  std::unique_ptr<Images> images;
  if (patches) images = std::make_unique<Images>(x, *patches, batch, threads);
  std::vector<float> driven;  // an input whose weights are all 0 is taken as driven
  if (how.row_scale)
    for (std::ptrdiff_t i = 0; i < k; ++i)
      driven.push_back(how.row_scale[i] > 0 ? how.row_scale[i] : 1.0f);

  parallel_for(parts * groups, 1, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    // Vectors are loaded whole.
    std::vector<float> gathered(static_cast<std::size_t>(images ? kRows * k + 4 : 0));
    std::vector<float> large, values(static_cast<std::size_t>(kRows * width));
    alignas(64) float masked[kRows * kGroup], steps[kRows];
    for (std::ptrdiff_t unit = begin; unit < end; ++unit) {
      const std::ptrdiff_t part = unit / groups, column = unit % groups * kGroup;
      const int columns = static_cast<int>(std::min<std::ptrdiff_t>(kGroup, n - column));
      float* sum = sums.data() + (part * n + column) * width;
      const std::ptrdiff_t last = std::min((part + 1) * part_rows, batch);
      for (std::ptrdiff_t first = part * part_rows; first < last; first += kRows) {
        const std::ptrdiff_t rows = std::min(kRows, last - first);
        const float* input = x + first * k;
        if (images) {
          images->gather(first, rows, gathered.data());
          input = gathered.data();
        }
        for (std::ptrdiff_t r = 0; r < rows; ++r, input += k) {
          float range = how.fixed_range;
          if (!(range > 0)) {
            const std::int32_t top = kernel.peak(input, how.row_scale, k);
            std::memcpy(&range, &top, sizeof range);
          }
          const auto levels = static_cast<float>(how.dac_levels);
          steps[r] = range / levels;
          const bool tiny = range > 0 && range < kTiny;
          const float* const driven_by = tiny ? enlarged(input, k, &large) : input;
          const float inverse = range > 0 ? levels / (tiny ? range * kEnlarged : range) : 0.0f;
          // Driven inputs reach their vector's own range at most; others pass as they are.
          const Dac dac{inverse, how.fixed_range > 0 ? how.dac_levels : 1 << 24, how.shift,
                        how.digit};
          for (std::ptrdiff_t t = 0; t < tiles; ++t)
            kernel.input_values(driven_by + t * tile_rows,
                                how.row_scale ? driven.data() + t * tile_rows : nullptr,
                                rows_of(t), padded(rows_of(t)), dac,
                                values.data() + r * width + t * tile_width);
        }
        const float* from = grad + first * n + column;
        for (std::ptrdiff_t t = 0; t < tiles; ++t) {
          if (t == 0 || how.inside)
            gradients(from, n, columns, rows, steps,
                      how.inside ? how.inside + (t * batch + first) * inside_bytes + column / 8
                                 : nullptr,
                      inside_bytes, masked);
          kernel.add_outer(masked, columns, values.data() + t * tile_width, width,
                           padded(rows_of(t)), static_cast<int>(rows), sum + t * tile_width,
                           width);
        }
      }
    }
  });
  parallel_for(n, grain(kCopied * static_cast<double>(parts * k)), threads,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t j = begin; j < end; ++j)
      for (std::ptrdiff_t t = 0; t < tiles; ++t) {
        float* to = total + j * k + t * tile_rows;
        const std::ptrdiff_t count = rows_of(t);
        for (std::ptrdiff_t part = 0; part < parts; ++part) {
          const float* of_part = sums.data() + (part * n + j) * width + t * tile_width;
          for (std::ptrdiff_t i = 0; i < count; ++i)
            to[i] = part == 0 ? of_part[i] : to[i] + of_part[i];
        }
      }
  });
}

}  // namespace noisycells
