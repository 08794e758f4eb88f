// AVX-512 (F, BW, DQ, VL): 16 lanes.
#pragma once

constexpr int W = 16;
struct F {
  __m512 v;
};
struct I {
  __m512i v;
};
struct M {
  __mmask16 v;
};

NC_INLINE F load(const float* p) { return {_mm512_loadu_ps(p)}; }
NC_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
NC_INLINE I load_i(const std::int32_t* p) { return {_mm512_loadu_si512(p)}; }
NC_INLINE void store_i(std::int32_t* p, I a) { _mm512_storeu_si512(p, a.v); }
NC_INLINE I load_u8(const std::uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
NC_INLINE void store_u8(std::uint8_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}
NC_INLINE F set(float x) { return {_mm512_set1_ps(x)}; }
NC_INLINE I set_i(std::int32_t x) { return {_mm512_set1_epi32(x)}; }

NC_INLINE F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
NC_INLINE F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
NC_INLINE F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
NC_INLINE F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
NC_INLINE F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
NC_INLINE F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
NC_INLINE F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
NC_INLINE F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
NC_INLINE F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
NC_INLINE I truncate(F a) { return {_mm512_cvttps_epi32(a.v)}; }
NC_INLINE I round_even(F a) { return {_mm512_cvtps_epi32(a.v)}; }
NC_INLINE F as_float(I a) { return {_mm512_castsi512_ps(a.v)}; }
NC_INLINE I as_int(F a) { return {_mm512_castps_si512(a.v)}; }

NC_INLINE I operator+(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
NC_INLINE I operator-(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
NC_INLINE I operator&(I a, I b) { return {_mm512_and_si512(a.v, b.v)}; }
NC_INLINE I operator|(I a, I b) { return {_mm512_or_si512(a.v, b.v)}; }
NC_INLINE I operator^(I a, I b) { return {_mm512_xor_si512(a.v, b.v)}; }
NC_INLINE I xor3(I a, I b, I c) { return {_mm512_ternarylogic_epi32(a.v, b.v, c.v, 0x96)}; }
NC_INLINE I min_i(I a, I b) { return {_mm512_min_epi32(a.v, b.v)}; }
NC_INLINE I max_i(I a, I b) { return {_mm512_max_epi32(a.v, b.v)}; }
template <int n>
NC_INLINE I shift_left(I a) {
  return {_mm512_slli_epi32(a.v, n)};
}
template <int n>
NC_INLINE I shift_right(I a) {
  return {_mm512_srli_epi32(a.v, n)};
}
template <int n>
NC_INLINE I shift_right_signed(I a) {
  return {_mm512_srai_epi32(a.v, n)};
}
NC_INLINE I shift_right_by(I a, int n) { return {_mm512_srl_epi32(a.v, _mm_cvtsi32_si128(n))}; }
NC_INLINE I shift_left_by(I a, int n) { return {_mm512_sll_epi32(a.v, _mm_cvtsi32_si128(n))}; }

NC_INLINE I add_64(I a, I b) { return {_mm512_add_epi64(a.v, b.v)}; }
NC_INLINE I multiply_even(I a, I b) { return {_mm512_mul_epu32(a.v, b.v)}; }
NC_INLINE I high_half(I a) { return {_mm512_srli_epi64(a.v, 32)}; }
// Even lanes of a; even lanes of b, moved to the odd lanes.
NC_INLINE I join_even(I a, I b) {
  return {_mm512_mask_shuffle_epi32(a.v, 0xAAAA, b.v, static_cast<_MM_PERM_ENUM>(0xA0))};
}

NC_INLINE M greater(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
NC_INLINE M any_bit(I a, I b) { return {_mm512_test_epi32_mask(a.v, b.v)}; }
NC_INLINE M less_unsigned(I a, I b) { return {_mm512_cmplt_epu32_mask(a.v, b.v)}; }
NC_INLINE M greater_i(I a, I b) { return {_mm512_cmpgt_epi32_mask(a.v, b.v)}; }
NC_INLINE F select(M m, F yes, F no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }
NC_INLINE I select_i(M m, I yes, I no) { return {_mm512_mask_blend_epi32(m.v, no.v, yes.v)}; }

// c + the sums of the products of neighboring 16-bit integers.
NC_INLINE I multiply_add_pairs(I a, I b, I c) {
#if defined(__AVX512VNNI__)
  // As an intrinsic gcc 12 copies the accumulator at every step.
  __asm__("vpdpwssd %2, %1, %0" : "+v"(c.v) : "v"(a.v), "v"(b.v));
  return c;
#else
  return {_mm512_add_epi32(c.v, _mm512_madd_epi16(a.v, b.v))};
#endif
}
NC_INLINE F multiply_add(F a, F b, F c) { return fma(a, b, c); }
NC_INLINE void store_i16(std::int16_t* p, I a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a.v));
}
NC_INLINE std::uint32_t mask_bits(M m) { return m.v; }
constexpr int kRowsAtOnce = 14;  // of a product, times two vectors of outputs

// a0 b0 a1 b1 and a2 b2 a3 b3 of each 128-bit lane; _pd: pairs of floats.
NC_INLINE F unpack_low(F a, F b) { return {_mm512_unpacklo_ps(a.v, b.v)}; }
NC_INLINE F unpack_high(F a, F b) { return {_mm512_unpackhi_ps(a.v, b.v)}; }
NC_INLINE F unpack_low_pairs(F a, F b) {
  return {_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a.v), _mm512_castps_pd(b.v)))};
}
NC_INLINE F unpack_high_pairs(F a, F b) {
  return {_mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a.v), _mm512_castps_pd(b.v)))};
}

// 8-entry table, index 0..7.
NC_INLINE F lookup8(const float* table, I index) {
  return {_mm512_permutexvar_ps(index.v, _mm512_castps256_ps512(_mm256_loadu_ps(table)))};
}
NC_INLINE I lookup8_i(const std::int32_t* table, I index) {
  const __m256i t = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table));
  return {_mm512_permutexvar_epi32(index.v, _mm512_castsi256_si512(t))};
}

// Sixteen-byte loads and a transpose: less than half the time of four gathers.
NC_INLINE void lookup_rows4(const float* table, const std::uint32_t* twice, F& c0, F& c1, F& c2,
                            F& c3) {
  const auto row = [&](int k) {
    return _mm_loadu_ps(table + 2 * static_cast<std::size_t>(twice[k]));
  };
  // Vector k holds rows k, k + 4, k + 8, k + 12, so that the transpose stays within lanes.
  const auto rows = [&](int k) {
    __m512 r = _mm512_castps128_ps512(row(k));
    r = _mm512_mask_broadcast_f32x4(r, 0x00F0, row(k + 4));
    r = _mm512_mask_broadcast_f32x4(r, 0x0F00, row(k + 8));
    return F{_mm512_mask_broadcast_f32x4(r, 0xF000, row(k + 12))};
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
  const auto row = [&](int k) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(table + twice[k]));
  };
  const auto eight = [&](int k) {
    __m512i r = _mm512_castsi128_si512(row(k));
    r = _mm512_mask_broadcastq_epi64(r, 0x02, row(k + 1));
    r = _mm512_mask_broadcastq_epi64(r, 0x04, row(k + 2));
    r = _mm512_mask_broadcastq_epi64(r, 0x08, row(k + 3));
    r = _mm512_mask_broadcastq_epi64(r, 0x10, row(k + 4));
    r = _mm512_mask_broadcastq_epi64(r, 0x20, row(k + 5));
    r = _mm512_mask_broadcastq_epi64(r, 0x40, row(k + 6));
    return _mm512_castsi512_ps(_mm512_mask_broadcastq_epi64(r, 0x80, row(k + 7)));
  };
  const __m512 low = eight(0), high = eight(8);
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  c0 = {_mm512_permutex2var_ps(low, even, high)};
  c1 = {_mm512_permutex2var_ps(low, _mm512_or_si512(even, _mm512_set1_epi32(1)), high)};
}

// lookup_rows4 from a table of at most 64 rows held in registers, column by column.
struct SmallTable {
  __m512 column[4][4];
  NC_INLINE explicit SmallTable(const float* columns) {
    for (int c = 0; c < 4; ++c)
      for (int k = 0; k < 4; ++k) column[c][k] = _mm512_loadu_ps(columns + 64 * c + 16 * k);
  }
  NC_INLINE F at(int c, I index, __mmask16 upper) const {
    const __m512 low = _mm512_permutex2var_ps(column[c][0], index.v, column[c][1]);
    const __m512 high = _mm512_permutex2var_ps(column[c][2], index.v, column[c][3]);
    return {_mm512_mask_blend_ps(upper, low, high)};
  }
  NC_INLINE void lookup(const std::uint32_t* twice, F& c0, F& c1, F& c2, F& c3) const {
    const I index = shift_right<1>(load_i(reinterpret_cast<const std::int32_t*>(twice)));
    const __mmask16 upper = _mm512_test_epi32_mask(index.v, _mm512_set1_epi32(32));
    c0 = at(0, index, upper);
    c1 = at(1, index, upper);
    c2 = at(2, index, upper);
    c3 = at(3, index, upper);
  }
};
