// The vector type that every kernel is written in: F (float), I (32-bit integers), M (mask).
// Included inside the anonymous namespace of one SIMD level's translation unit. All functions
// are exact IEEE operations, so results agree at every level bit for bit.
//
// 64-bit lanes: "even" lanes are the low halves. unpack_* work within 128-bit lanes.

#define NC_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include "simd_avx512-inl.h"
#elif defined(__AVX2__)
#include "simd_avx2-inl.h"
#elif defined(__SSE2__)
#include "simd_sse2-inl.h"
#else
#include "simd_portable-inl.h"
#endif

// Lines that will be written, a page ahead: stores to lines that are already owned run at more
// than twice the bandwidth. Never faults, so it may point past the end.
NC_INLINE void prefetch_to_write(void* p, std::ptrdiff_t bytes) {
  for (std::ptrdiff_t k = 0; k < bytes; k += 64)
    __builtin_prefetch(static_cast<char*>(p) + 4096 + k, 1);
}
NC_INLINE void prefetch(const void* to_read, void* to_write, std::ptrdiff_t bytes) {
  for (std::ptrdiff_t k = 0; k < bytes; k += 64) {
    __builtin_prefetch(static_cast<const char*>(to_read) + k, 0);
    __builtin_prefetch(static_cast<char*>(to_write) + k, 1);
  }
}
NC_INLINE void prefetch_to_read(const void* p) {
  __builtin_prefetch(static_cast<const char*>(p) + 4096, 0);
}

NC_INLINE F select_sign(F value, I sign_bits) { return as_float(as_int(value) ^ sign_bits); }

// Where a block's elements lie in a table of n rows: twice the row, and the fraction beyond it.
// Rows are found for the whole block before any is looked up: the look-up takes each row's
// address from memory, and reading back a vector that was only just stored would stall.
constexpr std::ptrdiff_t kRoom = kBlock + 16;  // buffers may be written a vector past the block

struct Rows {
  alignas(64) std::uint32_t twice[kRoom];
  alignas(64) float fraction[kRoom];

  // t: position in rows, clipped to the table.
  NC_INLINE void put(std::ptrdiff_t i, F t, std::int32_t n) {
    t = min(max(t, set(0.0f)), set(static_cast<float>(n - 1)));
    const I row = min_i(truncate(t), set_i(n - 2));
    store(fraction + i, t - to_float(row));
    store_i(reinterpret_cast<std::int32_t*>(twice) + i, row + row);
  }
};
