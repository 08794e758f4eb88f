// Devices of a crossbar in parallel: programming and aging, in pieces of at most kBlock.
#include <algorithm>

#include "noisycells/crossbar.h"
#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"
#include "shares.h"

namespace noisycells {
namespace {

// f(begin, end, inverse) on pieces of at most kBlock elements that have one inverse.
template <class F>
void in_blocks(const float* inverse, int inverse_stride, float sign, std::ptrdiff_t n,
               std::ptrdiff_t k, int threads, F f) {
  const auto piece = [&](std::ptrdiff_t begin, std::ptrdiff_t end, float scale) {
    for (std::ptrdiff_t i = begin; i < end; i += kBlock) f(i, std::min(i + kBlock, end), scale);
  };
  if (inverse_stride == 0) {
    parallel_for(
        n * k, grain(kDevice) / kBlock * kBlock, threads,
        [&](std::ptrdiff_t begin, std::ptrdiff_t end) { piece(begin, end, sign * inverse[0]); });
    return;
  }
  parallel_for(n, grain(kDevice * static_cast<double>(k)), threads,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 for (std::ptrdiff_t j = begin; j < end; ++j)
                   piece(j * k, (j + 1) * k, sign * inverse[j]);
               });
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

void program_pair(const float* w, const float* inverse, int inverse_stride, float g_min, float span,
                  std::ptrdiff_t n, std::ptrdiff_t k, float* positive, float* negative,
                  const Programming& device, const Draw& draw, int threads) {
  const Kernels& kernel = kernels();
  in_blocks(inverse, inverse_stride, 1.0f, n, k, threads,
            [&](std::ptrdiff_t i, std::ptrdiff_t end, float scale) {
              kernel.program_pair(w + i, positive + i, negative + i, end - i, {scale, g_min, span},
                                  device, draw, i);
            });
}

void age(const float* w, const float* inverse, int inverse_stride, float sign, float g_min,
         float span, const float* programmed, std::ptrdiff_t n, std::ptrdiff_t k, float* g,
         const Aging& device, const Draw& draw, int threads) {
  const Kernels& kernel = kernels();
  in_blocks(inverse, inverse_stride, sign, n, k, threads,
            [&](std::ptrdiff_t i, std::ptrdiff_t end, float scale) {
              kernel.age(w + i, programmed + i, g + i, end - i, {scale, g_min, span}, device, draw,
                         i);
            });
}

}  // namespace noisycells
