// Any other processor (aarch64 among them): 4 lanes in the compiler's vector extension. Fused
// multiply-adds are __builtin_fmaf: one instruction where there is one, exact everywhere.
#pragma once

constexpr int W = 4;
typedef float f32x4 __attribute__((vector_size(16)));
typedef std::int32_t i32x4 __attribute__((vector_size(16)));
typedef std::uint32_t u32x4 __attribute__((vector_size(16)));
typedef std::uint64_t u64x2 __attribute__((vector_size(16)));
struct F {
  f32x4 v;
};
struct I {
  i32x4 v;
};
struct M {
  i32x4 v;
};  // all ones or all zeros per lane

NC_INLINE F load(const float* p) {
  F a;
  __builtin_memcpy(&a, p, 16);
  return a;
}
NC_INLINE void store(float* p, F a) { __builtin_memcpy(p, &a, 16); }
NC_INLINE I load_i(const std::int32_t* p) {
  I a;
  __builtin_memcpy(&a, p, 16);
  return a;
}
NC_INLINE void store_i(std::int32_t* p, I a) { __builtin_memcpy(p, &a, 16); }
NC_INLINE I load_u8(const std::uint8_t* p) { return {i32x4{p[0], p[1], p[2], p[3]}}; }
NC_INLINE void store_u8(std::uint8_t* p, I a) {
  for (int k = 0; k < W; ++k) p[k] = static_cast<std::uint8_t>(a.v[k]);
}
NC_INLINE F set(float x) { return {f32x4{x, x, x, x}}; }
NC_INLINE I set_i(std::int32_t x) { return {i32x4{x, x, x, x}}; }

NC_INLINE F operator+(F a, F b) { return {a.v + b.v}; }
NC_INLINE F operator-(F a, F b) { return {a.v - b.v}; }
NC_INLINE F operator*(F a, F b) { return {a.v * b.v}; }
NC_INLINE F operator/(F a, F b) { return {a.v / b.v}; }
NC_INLINE F fma(F a, F b, F c) {
  for (int k = 0; k < W; ++k) c.v[k] = __builtin_fmaf(a.v[k], b.v[k], c.v[k]);
  return c;
}
NC_INLINE F sqrt(F a) {
  for (int k = 0; k < W; ++k) a.v[k] = __builtin_sqrtf(a.v[k]);
  return a;
}
NC_INLINE I operator+(I a, I b) { return {(i32x4)((u32x4)a.v + (u32x4)b.v)}; }
NC_INLINE I operator-(I a, I b) { return {(i32x4)((u32x4)a.v - (u32x4)b.v)}; }
NC_INLINE I operator&(I a, I b) { return {a.v & b.v}; }
NC_INLINE I operator|(I a, I b) { return {a.v | b.v}; }
NC_INLINE I operator^(I a, I b) { return {a.v ^ b.v}; }
NC_INLINE I xor3(I a, I b, I c) { return a ^ b ^ c; }
template <int n>
NC_INLINE I shift_left(I a) {
  return {(i32x4)((u32x4)a.v << n)};
}
template <int n>
NC_INLINE I shift_right(I a) {
  return {(i32x4)((u32x4)a.v >> n)};
}
template <int n>
NC_INLINE I shift_right_signed(I a) {
  return {a.v >> n};
}
NC_INLINE I shift_right_by(I a, int n) { return {(i32x4)((u32x4)a.v >> n)}; }
NC_INLINE I shift_left_by(I a, int n) { return {(i32x4)((u32x4)a.v << n)}; }

NC_INLINE I add_64(I a, I b) { return {(i32x4)((u64x2)a.v + (u64x2)b.v)}; }
NC_INLINE I multiply_even(I a, I b) {
  const u64x2 low = {0xFFFFFFFF, 0xFFFFFFFF};
  return {(i32x4)(((u64x2)a.v & low) * ((u64x2)b.v & low))};
}
NC_INLINE I high_half(I a) { return {(i32x4)((u64x2)a.v >> 32)}; }
NC_INLINE I join_even(I a, I b) {
  const u64x2 low = {0xFFFFFFFF, 0xFFFFFFFF};
  return {(i32x4)(((u64x2)a.v & low) | ((u64x2)b.v << 32))};
}

NC_INLINE M greater(F a, F b) { return {a.v > b.v}; }
NC_INLINE M any_bit(I a, I b) { return {(a.v & b.v) != 0}; }
NC_INLINE M less_unsigned(I a, I b) { return {(u32x4)a.v < (u32x4)b.v}; }
NC_INLINE M greater_i(I a, I b) { return {a.v > b.v}; }
NC_INLINE I select_i(M m, I yes, I no) { return {(m.v & yes.v) | (~m.v & no.v)}; }
NC_INLINE F as_float(I a) { return {(f32x4)a.v}; }
NC_INLINE I as_int(F a) { return {(i32x4)a.v}; }
NC_INLINE F select(M m, F yes, F no) { return as_float(select_i(m, as_int(yes), as_int(no))); }
NC_INLINE I min_i(I a, I b) { return select_i(greater_i(a, b), b, a); }
NC_INLINE I max_i(I a, I b) { return select_i(greater_i(a, b), a, b); }
// As x86's: the second operand where either is NaN.
NC_INLINE F min(F a, F b) { return select(greater(b, a), a, b); }
NC_INLINE F max(F a, F b) { return select(greater(a, b), a, b); }
NC_INLINE F to_float(I a) {
  F r;
  for (int k = 0; k < W; ++k) r.v[k] = static_cast<float>(a.v[k]);
  return r;
}
NC_INLINE I truncate(F a) {
  I r;
  for (int k = 0; k < W; ++k) r.v[k] = static_cast<std::int32_t>(a.v[k]);
  return r;
}
NC_INLINE I round_even(F a) {
  I r;
  for (int k = 0; k < W; ++k) r.v[k] = static_cast<std::int32_t>(__builtin_rintf(a.v[k]));
  return r;
}

// c + the sums of the products of neighboring 16-bit integers.
NC_INLINE I multiply_add_pairs(I a, I b, I c) {
  const u32x4 low_a = (u32x4)(a.v << 16), low_b = (u32x4)(b.v << 16);
  return {c.v + ((i32x4)low_a >> 16) * ((i32x4)low_b >> 16) + (a.v >> 16) * (b.v >> 16)};
}
NC_INLINE F multiply_add(F a, F b, F c) { return fma(a, b, c); }
NC_INLINE void store_i16(std::int16_t* p, I a) {
  for (int k = 0; k < W; ++k) p[k] = static_cast<std::int16_t>(a.v[k]);
}
NC_INLINE std::uint32_t mask_bits(M m) {
  std::uint32_t bits = 0;
  for (int k = 0; k < W; ++k) bits |= (static_cast<std::uint32_t>(m.v[k]) & 1) << k;
  return bits;
}
constexpr int kRowsAtOnce = 6;  // of a product, times two vectors of outputs

NC_INLINE F unpack_low(F a, F b) { return {f32x4{a.v[0], b.v[0], a.v[1], b.v[1]}}; }
NC_INLINE F unpack_high(F a, F b) { return {f32x4{a.v[2], b.v[2], a.v[3], b.v[3]}}; }
NC_INLINE F unpack_low_pairs(F a, F b) { return {f32x4{a.v[0], a.v[1], b.v[0], b.v[1]}}; }
NC_INLINE F unpack_high_pairs(F a, F b) { return {f32x4{a.v[2], a.v[3], b.v[2], b.v[3]}}; }

#include "lookup_scalar-inl.h"
