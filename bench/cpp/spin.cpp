// Multiply-adds in registers, compiled once per SIMD level as kernels/table.cpp is.
#include "noisycells/kernels.h"

#include <type_traits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include NOISYCELLS_LEVEL_FILE

namespace noisycells {
namespace NOISYCELLS_LEVEL {
namespace {

#include "product-inl.h"

#include "peak-inl.h"

}  // namespace

std::int64_t spin(bool integer, std::int64_t rounds, float* numbers);  // declared in peak.cpp
std::int64_t spin(bool integer, std::int64_t rounds, float* numbers) {
  enter();
  const std::int64_t operations =
      integer ? spin_integer(rounds, numbers) : spin_float(rounds, numbers);
  leave();
  return operations;
}

}  // namespace NOISYCELLS_LEVEL
}  // namespace noisycells
