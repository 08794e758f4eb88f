#include "noisycells/peak.h"

#include <atomic>

#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {

std::int64_t multiply_adds(bool integer, std::int64_t rounds, int threads) {
  const Kernels& k = kernels();
  if (threads <= 0) threads = get_num_threads();
  std::atomic<std::int64_t> operations{0};
  parallel_for(threads, 1, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    alignas(64) float numbers[256];
    for (float& x : numbers) x = 0.7f;  // 0.7 x + 0.7 again and again stays finite
    k.enter();
    for (; begin < end; ++begin) operations += k.spin(integer, rounds, numbers);
    k.leave();
  });
  return operations;
}

}  // namespace noisycells
