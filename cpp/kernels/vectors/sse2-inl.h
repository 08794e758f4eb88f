// Baseline of x86-64 (SSE2): 4 lanes. Fused multiply-adds are emulated exactly.
#pragma once

constexpr int W = 4;
struct F {
  __m128 v;
};
struct I {
  __m128i v;
};
struct M {
  __m128i v;
};  // all ones or all zeros per lane

NC_INLINE F load(const float* p) { return {_mm_loadu_ps(p)}; }
NC_INLINE void store(float* p, F a) { _mm_storeu_ps(p, a.v); }
NC_INLINE I load_i(const std::int32_t* p) {
  return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))};
}
NC_INLINE void store_i(std::int32_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), a.v);
}
NC_INLINE I load_u8(const std::uint8_t* p) { return {_mm_setr_epi32(p[0], p[1], p[2], p[3])}; }
NC_INLINE void store_u8(std::uint8_t* p, I a) {
  alignas(16) std::int32_t i[W];
  _mm_store_si128(reinterpret_cast<__m128i*>(i), a.v);
  for (int k = 0; k < W; ++k) p[k] = static_cast<std::uint8_t>(i[k]);
}
NC_INLINE F set(float x) { return {_mm_set1_ps(x)}; }
NC_INLINE I set_i(std::int32_t x) { return {_mm_set1_epi32(x)}; }

NC_INLINE F operator+(F a, F b) { return {_mm_add_ps(a.v, b.v)}; }
NC_INLINE F operator-(F a, F b) { return {_mm_sub_ps(a.v, b.v)}; }
NC_INLINE F operator*(F a, F b) { return {_mm_mul_ps(a.v, b.v)}; }
NC_INLINE F operator/(F a, F b) { return {_mm_div_ps(a.v, b.v)}; }

// The float64 product of two float32 is exact; the sum is rounded to odd by the error of a
// two-sum, so that the conversion to float32 rounds once (Boldo & Melquiond 2008).
NC_INLINE __m128d fma_half(__m128d a, __m128d b, __m128d c) {
  const __m128d p = _mm_mul_pd(a, b);
  const __m128d s = _mm_add_pd(p, c);
  const __m128d back = _mm_sub_pd(s, p);
  const __m128d err = _mm_add_pd(_mm_sub_pd(p, _mm_sub_pd(s, back)), _mm_sub_pd(c, back));
  const __m128i bits = _mm_castpd_si128(s);
  const __m128i one = _mm_set1_epi64x(1);
  const __m128i even = _mm_sub_epi64(_mm_and_si128(bits, one), one);  // all ones where even
  const __m128i inexact = _mm_castpd_si128(_mm_cmpneq_pd(err, _mm_setzero_pd()));
  const __m128i opposite = _mm_srli_epi64(_mm_xor_si128(bits, _mm_castpd_si128(err)), 63);
  const __m128i step = _mm_sub_epi64(one, _mm_add_epi64(opposite, opposite));  // +1 or -1
  return _mm_castsi128_pd(_mm_add_epi64(bits, _mm_and_si128(step, _mm_and_si128(even, inexact))));
}
NC_INLINE F fma(F a, F b, F c) {
  const __m128 low =
      _mm_cvtpd_ps(fma_half(_mm_cvtps_pd(a.v), _mm_cvtps_pd(b.v), _mm_cvtps_pd(c.v)));
  const __m128 high = _mm_cvtpd_ps(fma_half(_mm_cvtps_pd(_mm_movehl_ps(a.v, a.v)),
                                            _mm_cvtps_pd(_mm_movehl_ps(b.v, b.v)),
                                            _mm_cvtps_pd(_mm_movehl_ps(c.v, c.v))));
  return {_mm_movelh_ps(low, high)};
}
NC_INLINE F sqrt(F a) { return {_mm_sqrt_ps(a.v)}; }
NC_INLINE F min(F a, F b) { return {_mm_min_ps(a.v, b.v)}; }
NC_INLINE F max(F a, F b) { return {_mm_max_ps(a.v, b.v)}; }
NC_INLINE F to_float(I a) { return {_mm_cvtepi32_ps(a.v)}; }
NC_INLINE I truncate(F a) { return {_mm_cvttps_epi32(a.v)}; }
NC_INLINE I round_even(F a) { return {_mm_cvtps_epi32(a.v)}; }
NC_INLINE F as_float(I a) { return {_mm_castsi128_ps(a.v)}; }
NC_INLINE I as_int(F a) { return {_mm_castps_si128(a.v)}; }

NC_INLINE I operator+(I a, I b) { return {_mm_add_epi32(a.v, b.v)}; }
NC_INLINE I operator-(I a, I b) { return {_mm_sub_epi32(a.v, b.v)}; }
NC_INLINE I operator&(I a, I b) { return {_mm_and_si128(a.v, b.v)}; }
NC_INLINE I operator|(I a, I b) { return {_mm_or_si128(a.v, b.v)}; }
NC_INLINE I operator^(I a, I b) { return {_mm_xor_si128(a.v, b.v)}; }
NC_INLINE I xor3(I a, I b, I c) { return a ^ b ^ c; }
template <int n>
NC_INLINE I shift_left(I a) {
  return {_mm_slli_epi32(a.v, n)};
}
template <int n>
NC_INLINE I shift_right(I a) {
  return {_mm_srli_epi32(a.v, n)};
}
template <int n>
NC_INLINE I shift_right_signed(I a) {
  return {_mm_srai_epi32(a.v, n)};
}
NC_INLINE I shift_right_by(I a, int n) { return {_mm_srl_epi32(a.v, _mm_cvtsi32_si128(n))}; }
NC_INLINE I shift_left_by(I a, int n) { return {_mm_sll_epi32(a.v, _mm_cvtsi32_si128(n))}; }

NC_INLINE I add_64(I a, I b) { return {_mm_add_epi64(a.v, b.v)}; }
NC_INLINE I multiply_even(I a, I b) { return {_mm_mul_epu32(a.v, b.v)}; }
NC_INLINE I high_half(I a) { return {_mm_srli_epi64(a.v, 32)}; }
NC_INLINE I join_even(I a, I b) {
  const __m128i low = _mm_and_si128(a.v, _mm_set1_epi64x(0xFFFFFFFF));
  return {_mm_or_si128(low, _mm_slli_epi64(b.v, 32))};
}

NC_INLINE M greater(F a, F b) { return {_mm_castps_si128(_mm_cmpgt_ps(a.v, b.v))}; }
NC_INLINE M any_bit(I a, I b) {
  const __m128i none = _mm_cmpeq_epi32(_mm_and_si128(a.v, b.v), _mm_setzero_si128());
  return {_mm_xor_si128(none, _mm_set1_epi32(-1))};
}
NC_INLINE M less_unsigned(I a, I b) {
  const __m128i flip = _mm_set1_epi32(INT32_MIN);
  return {_mm_cmpgt_epi32(_mm_xor_si128(b.v, flip), _mm_xor_si128(a.v, flip))};
}
NC_INLINE M greater_i(I a, I b) { return {_mm_cmpgt_epi32(a.v, b.v)}; }
NC_INLINE I select_i(M m, I yes, I no) {
  return {_mm_or_si128(_mm_and_si128(m.v, yes.v), _mm_andnot_si128(m.v, no.v))};
}
NC_INLINE F select(M m, F yes, F no) { return as_float(select_i(m, as_int(yes), as_int(no))); }
NC_INLINE I min_i(I a, I b) { return select_i(greater_i(a, b), b, a); }
NC_INLINE I max_i(I a, I b) { return select_i(greater_i(a, b), a, b); }

// c + the sums of the products of neighboring 16-bit integers.
NC_INLINE I multiply_add_pairs(I a, I b, I c) {
  return {_mm_add_epi32(c.v, _mm_madd_epi16(a.v, b.v))};
}
// Rounds twice: the emulated fma would take thirty times as long.
NC_INLINE F multiply_add(F a, F b, F c) { return a * b + c; }
NC_INLINE void store_i16(std::int16_t* p, I a) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(a.v, a.v));
}
NC_INLINE std::uint32_t mask_bits(M m) {
  return static_cast<std::uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(m.v)));
}
constexpr int kRowsAtOnce = 6;  // of a product, times two vectors of outputs

NC_INLINE F unpack_low(F a, F b) { return {_mm_unpacklo_ps(a.v, b.v)}; }
NC_INLINE F unpack_high(F a, F b) { return {_mm_unpackhi_ps(a.v, b.v)}; }
NC_INLINE F unpack_low_pairs(F a, F b) { return {_mm_movelh_ps(a.v, b.v)}; }
NC_INLINE F unpack_high_pairs(F a, F b) { return {_mm_movehl_ps(b.v, a.v)}; }

#include "lookup_scalar-inl.h"
