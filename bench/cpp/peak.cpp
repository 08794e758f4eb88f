// How fast the processor multiplies and adds: a shared library for bench/limits.py, built with
// -DNOISYCELLS_BENCH=ON.
#include <atomic>
#include <cstdint>
#include <cstring>

#include "noisycells/parallel.h"

#define NOISYCELLS_NEEDS(name, condition)                                              \
  namespace noisycells::name {                                                         \
  std::int64_t spin(bool integer, std::int64_t rounds, float* numbers); /* spin.cpp */ \
  }
#include "levels.inc"

namespace {

struct Level {
  const char* name;
  std::int64_t (*spin)(bool, std::int64_t, float*);
};

#define NOISYCELLS_ENTRY(name) {#name, &noisycells::name::spin},
const Level levels[] = {NOISYCELLS_LEVELS(NOISYCELLS_ENTRY)};

}  // namespace

// Runs `rounds` rounds of multiply-adds in the registers of each of `threads` threads at a SIMD
// level that this processor has: of float32, or of integers as products of 16-bit weights take
// them. Returns how many operations that was, a multiply-add being two; 0: no such level.
extern "C" __attribute__((visibility("default"))) std::int64_t noisycells_multiply_adds(
    const char* level, int integer, std::int64_t rounds, int threads) {
  for (const Level& l : levels) {
    if (std::strcmp(l.name, level) != 0) continue;
    std::atomic<std::int64_t> operations{0};
    noisycells::parallel_for(threads, 1, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      alignas(64) float numbers[256];
      for (float& x : numbers) x = 0.7f;  // 0.7 x + 0.7 again and again stays finite
      for (; begin < end; ++begin) operations += l.spin(integer != 0, rounds, numbers);
    });
    return operations;
  }
  return 0;
}
