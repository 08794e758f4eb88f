// The vector type that every kernel is written in: F (float), I (32-bit integers), M (mask).
// Included inside the anonymous namespace of one SIMD level's translation unit. All functions
// are exact IEEE operations, so results agree at every level bit for bit.
//
// 64-bit lanes: "even" lanes are the low halves. unpack_* work within 128-bit lanes.

#pragma once

#define NC_INLINE inline __attribute__((always_inline))

#include NOISYCELLS_VECTORS

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

NC_INLINE F magnitude(F x) { return as_float(as_int(x) & set_i(INT32_MAX)); }
NC_INLINE F select_sign(F value, I sign_bits) { return as_float(as_int(value) ^ sign_bits); }

// The first n of W elements, the rest 0; and only those stored. No others are touched.
NC_INLINE F load_first(const float* p, std::ptrdiff_t n) {
  if (n >= W) return load(p);
#if defined(__AVX512F__)
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p)};
#else
  alignas(64) float lanes[W] = {};
  for (std::ptrdiff_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
#endif
}
NC_INLINE void store_first(float* p, F a, std::ptrdiff_t n) {
  if (n >= W) return store(p, a);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), a.v);
#else
  alignas(64) float lanes[W];
  store(lanes, a);
  for (std::ptrdiff_t i = 0; i < n; ++i) p[i] = lanes[i];
#endif
}

// Four rows, in each lane 4 x 4.
NC_INLINE void transpose_lanes(F& r0, F& r1, F& r2, F& r3) {
  const F a = unpack_low(r0, r1), b = unpack_low(r2, r3);
  const F c = unpack_high(r0, r1), d = unpack_high(r2, r3);
  r0 = unpack_low_pairs(a, b);
  r1 = unpack_high_pairs(a, b);
  r2 = unpack_low_pairs(c, d);
  r3 = unpack_high_pairs(c, d);
}

// W rows -> W columns.
NC_INLINE void transpose(F (&r)[W]) {
  for (int i = 0; i < W; i += 4) transpose_lanes(r[i], r[i + 1], r[i + 2], r[i + 3]);
#if defined(__AVX512F__)
  for (int i = 0; i < 4; ++i) {
    const __m512 a = r[i].v, b = r[i + 4].v, c = r[i + 8].v, d = r[i + 12].v;
    const __m512 ab0 = _mm512_shuffle_f32x4(a, b, 0x44), ab1 = _mm512_shuffle_f32x4(a, b, 0xEE);
    const __m512 cd0 = _mm512_shuffle_f32x4(c, d, 0x44), cd1 = _mm512_shuffle_f32x4(c, d, 0xEE);
    r[i].v = _mm512_shuffle_f32x4(ab0, cd0, 0x88);
    r[i + 4].v = _mm512_shuffle_f32x4(ab0, cd0, 0xDD);
    r[i + 8].v = _mm512_shuffle_f32x4(ab1, cd1, 0x88);
    r[i + 12].v = _mm512_shuffle_f32x4(ab1, cd1, 0xDD);
  }
#elif defined(__AVX2__)
  for (int i = 0; i < 4; ++i) {
    const __m256 a = r[i].v, b = r[i + 4].v;
    r[i].v = _mm256_permute2f128_ps(a, b, 0x20);
    r[i + 4].v = _mm256_permute2f128_ps(a, b, 0x31);
  }
#endif
}

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
