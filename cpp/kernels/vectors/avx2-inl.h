// AVX2 with FMA and BMI2: 8 lanes.
#pragma once

constexpr int W = 8;
struct F {
  __m256 v;
};
struct I {
  __m256i v;
};
struct M {
  __m256i v;
};  // all ones or all zeros per lane

NC_INLINE F load(const float* p) { return {_mm256_loadu_ps(p)}; }
NC_INLINE void store(float* p, F a) { _mm256_storeu_ps(p, a.v); }
NC_INLINE I load_i(const std::int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
}
NC_INLINE void store_i(std::int32_t* p, I a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v);
}
NC_INLINE I load_u8(const std::uint8_t* p) {
  return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))};
}
NC_INLINE void store_u8(std::uint8_t* p, I a) {
  const __m128i w = _mm_packus_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(w, w));
}
NC_INLINE F set(float x) { return {_mm256_set1_ps(x)}; }
NC_INLINE I set_i(std::int32_t x) { return {_mm256_set1_epi32(x)}; }

NC_INLINE F operator+(F a, F b) { return {_mm256_add_ps(a.v, b.v)}; }
NC_INLINE F operator-(F a, F b) { return {_mm256_sub_ps(a.v, b.v)}; }
NC_INLINE F operator*(F a, F b) { return {_mm256_mul_ps(a.v, b.v)}; }
NC_INLINE F operator/(F a, F b) { return {_mm256_div_ps(a.v, b.v)}; }
NC_INLINE F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
NC_INLINE F sqrt(F a) { return {_mm256_sqrt_ps(a.v)}; }
NC_INLINE F min(F a, F b) { return {_mm256_min_ps(a.v, b.v)}; }
NC_INLINE F max(F a, F b) { return {_mm256_max_ps(a.v, b.v)}; }
NC_INLINE F to_float(I a) { return {_mm256_cvtepi32_ps(a.v)}; }
NC_INLINE I truncate(F a) { return {_mm256_cvttps_epi32(a.v)}; }
NC_INLINE I round_even(F a) { return {_mm256_cvtps_epi32(a.v)}; }
NC_INLINE F as_float(I a) { return {_mm256_castsi256_ps(a.v)}; }
NC_INLINE I as_int(F a) { return {_mm256_castps_si256(a.v)}; }

NC_INLINE I operator+(I a, I b) { return {_mm256_add_epi32(a.v, b.v)}; }
NC_INLINE I operator-(I a, I b) { return {_mm256_sub_epi32(a.v, b.v)}; }
NC_INLINE I operator&(I a, I b) { return {_mm256_and_si256(a.v, b.v)}; }
NC_INLINE I operator|(I a, I b) { return {_mm256_or_si256(a.v, b.v)}; }
NC_INLINE I operator^(I a, I b) { return {_mm256_xor_si256(a.v, b.v)}; }
NC_INLINE I xor3(I a, I b, I c) { return a ^ b ^ c; }
NC_INLINE I min_i(I a, I b) { return {_mm256_min_epi32(a.v, b.v)}; }
NC_INLINE I max_i(I a, I b) { return {_mm256_max_epi32(a.v, b.v)}; }
template <int n>
NC_INLINE I shift_left(I a) {
  return {_mm256_slli_epi32(a.v, n)};
}
template <int n>
NC_INLINE I shift_right(I a) {
  return {_mm256_srli_epi32(a.v, n)};
}
template <int n>
NC_INLINE I shift_right_signed(I a) {
  return {_mm256_srai_epi32(a.v, n)};
}
NC_INLINE I shift_right_by(I a, int n) { return {_mm256_srl_epi32(a.v, _mm_cvtsi32_si128(n))}; }
NC_INLINE I shift_left_by(I a, int n) { return {_mm256_sll_epi32(a.v, _mm_cvtsi32_si128(n))}; }

NC_INLINE I add_64(I a, I b) { return {_mm256_add_epi64(a.v, b.v)}; }
NC_INLINE I multiply_even(I a, I b) { return {_mm256_mul_epu32(a.v, b.v)}; }
NC_INLINE I high_half(I a) { return {_mm256_srli_epi64(a.v, 32)}; }
NC_INLINE I join_even(I a, I b) {
  return {_mm256_blend_epi32(a.v, _mm256_shuffle_epi32(b.v, 0xA0), 0xAA)};
}

NC_INLINE M greater(F a, F b) { return {_mm256_castps_si256(_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ))}; }
NC_INLINE M any_bit(I a, I b) {
  const __m256i none = _mm256_cmpeq_epi32(_mm256_and_si256(a.v, b.v), _mm256_setzero_si256());
  return {_mm256_xor_si256(none, _mm256_set1_epi32(-1))};
}
NC_INLINE M less_unsigned(I a, I b) {
  const __m256i flip = _mm256_set1_epi32(INT32_MIN);
  return {_mm256_cmpgt_epi32(_mm256_xor_si256(b.v, flip), _mm256_xor_si256(a.v, flip))};
}
NC_INLINE M greater_i(I a, I b) { return {_mm256_cmpgt_epi32(a.v, b.v)}; }
NC_INLINE F select(M m, F yes, F no) {
  return {_mm256_blendv_ps(no.v, yes.v, _mm256_castsi256_ps(m.v))};
}
NC_INLINE I select_i(M m, I yes, I no) { return {_mm256_blendv_epi8(no.v, yes.v, m.v)}; }

// c + the sums of the products of neighboring 16-bit integers.
NC_INLINE I multiply_add_pairs(I a, I b, I c) {
  return {_mm256_add_epi32(c.v, _mm256_madd_epi16(a.v, b.v))};
}
NC_INLINE F multiply_add(F a, F b, F c) { return fma(a, b, c); }
NC_INLINE void store_i16(std::int16_t* p, I a) {
  const __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), w);
}
NC_INLINE std::uint32_t mask_bits(M m) {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(m.v)));
}
constexpr int kRowsAtOnce = 6;  // of a product, times two vectors of outputs

NC_INLINE F unpack_low(F a, F b) { return {_mm256_unpacklo_ps(a.v, b.v)}; }
NC_INLINE F unpack_high(F a, F b) { return {_mm256_unpackhi_ps(a.v, b.v)}; }
NC_INLINE F unpack_low_pairs(F a, F b) {
  return {_mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a.v), _mm256_castps_pd(b.v)))};
}
NC_INLINE F unpack_high_pairs(F a, F b) {
  return {_mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a.v), _mm256_castps_pd(b.v)))};
}

NC_INLINE F lookup8(const float* table, I index) {
  return {_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index.v)};
}
NC_INLINE I lookup8_i(const std::int32_t* table, I index) {
  return {_mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(table)),
                                      index.v)};
}

NC_INLINE void lookup_rows4(const float* table, const std::uint32_t* twice, F& c0, F& c1, F& c2,
                            F& c3) {
  const auto row = [&](int k) {
    return _mm_loadu_ps(table + 2 * static_cast<std::size_t>(twice[k]));
  };
  const auto rows = [&](int k) {
    return F{_mm256_insertf128_ps(_mm256_castps128_ps256(row(k)), row(k + 4), 1)};
  };
  const F r0 = rows(0), r1 = rows(1), r2 = rows(2), r3 = rows(3);
  const F a = unpack_low(r0, r1), b = unpack_low(r2, r3);
  const F c = unpack_high(r0, r1), d = unpack_high(r2, r3);
  c0 = unpack_low_pairs(a, b);
  c1 = unpack_high_pairs(a, b);
  c2 = unpack_low_pairs(c, d);
  c3 = unpack_high_pairs(c, d);
}

NC_INLINE void lookup_rows2(const float* table, const std::uint32_t* twice, F& c0, F& c1) {
  const auto pair = [&](int low, int high) {
    const __m128d half = _mm_load_sd(reinterpret_cast<const double*>(table + twice[low]));
    return _mm_castpd_ps(_mm_loadh_pd(half, reinterpret_cast<const double*>(table + twice[high])));
  };
  const __m256 a = _mm256_insertf128_ps(_mm256_castps128_ps256(pair(0, 1)), pair(4, 5), 1);
  const __m256 b = _mm256_insertf128_ps(_mm256_castps128_ps256(pair(2, 3)), pair(6, 7), 1);
  c0 = {_mm256_shuffle_ps(a, b, 0x88)};
  c1 = {_mm256_shuffle_ps(a, b, 0xDD)};
}
