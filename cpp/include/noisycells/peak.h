// How fast the processor multiplies and adds, for benchmarks.
#pragma once

#include <cstdint>

namespace noisycells {

// Runs `rounds` rounds of multiply-adds in the registers of each thread, at the SIMD level in use:
// of float32, or of integers as products of 16-bit weights take them. Returns how many operations
// that was, a multiply-add being two. threads == 0: the package setting.
std::int64_t multiply_adds(bool integer, std::int64_t rounds, int threads);

}  // namespace noisycells
