#include "noisycells/rng.h"

#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {
namespace {
constexpr std::ptrdiff_t kGrain = 16 * kBlock;
}

void random_words(std::uint32_t* out, std::ptrdiff_t n, const Draw& draw, std::int64_t index,
                  int threads) {
  const Kernels& k = kernels();
  parallel_for(n, kGrain, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    k.words(out + begin, end - begin, draw, index + begin);
  });
}

void standard_normal(float* out, std::ptrdiff_t n, const Draw& draw, std::int64_t index,
                     int threads) {
  const Kernels& k = kernels();
  parallel_for(n, kGrain, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    k.normals(out + begin, end - begin, draw, index + begin);
  });
}

}  // namespace noisycells
