// As product_vector-inl.h, but products with weights of 8 bits are multiply-adds of four bytes,
// which are twice as many a step. That instruction takes unsigned inputs: codes are stored with 128
// added, and sums start at -128 times the sum of an output's weights, which lies behind a panel's
// weights. Sums are exact as those of pairs are.
#pragma once

namespace pairs {
#include "product_vector-inl.h"
}

using pairs::arrange_float;
using pairs::dac_float;
using pairs::enter;
using pairs::kCodeBytes;
using pairs::kColumns;
using pairs::kFloatBytes;
using pairs::kFloatParts;
using pairs::kFloatRowStep;
using pairs::kPerProduct;
using pairs::kPerWeight;
using pairs::leave;
using pairs::multiply_float;
using pairs::multiply_squares;

constexpr int kRowStep = 4, kNarrowCodeBytes = 1, kNarrowExtraBytes = 4 * kGroup;

struct FourBytes {
  static NC_INLINE I step(I x, I w, I sum) {
    // As an intrinsic gcc 12 copies the accumulator at every step.
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(x.v), "v"(w.v));
    return sum;
  }
};

void dac(const float* x, const float* row_scale, std::ptrdiff_t n, std::ptrdiff_t padded,
         const Dac& dac, bool narrow, void* codes, void* squares, std::ptrdiff_t squares_stride) {
  if (!narrow)
    return pairs::dac(x, row_scale, n, padded, dac, narrow, codes, squares, squares_stride);
  alignas(64) std::uint8_t code[kWidest];
  alignas(64) std::int16_t square[kWidest];
  const Scaled input{x, row_scale, n};
  const Drive drive(dac);
  for (std::ptrdiff_t i = 0; i < padded; i += W) {
    const I q = i < n ? drive.code(input.at(i)) : set_i(0);
    store_u8(code + i, q + set_i(128));
    if (squares) store_i16(square + i, round_even(to_float(q) * to_float(q)));
  }
  __builtin_memcpy(codes, code, static_cast<std::size_t>(padded));
  if (squares) __builtin_memcpy(squares, square, static_cast<std::size_t>(2 * padded));
}

// Four rows of 16 outputs to a vector, two vectors side by side.
NC_INLINE void arrange_bytes(const std::int16_t* codes, int rows, std::int8_t* out) {
  for (int k = 0; k < rows; k += 64) {
    F block[W];
    for (int j = 0; j < W; ++j) {
      const auto* row = reinterpret_cast<const __m512i*>(codes + j * kWidest + k);
      const __m256i low = _mm512_cvtepi16_epi8(_mm512_loadu_si512(row));
      const __m256i high = _mm512_cvtepi16_epi8(_mm512_loadu_si512(row + 1));
      block[j] = as_float(I{_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1)});
    }
    transpose(block);
    for (int i = 0; i < W && k + 4 * i < rows; ++i)
      store(reinterpret_cast<float*>(out + (k / 4 + i) * 4 * kColumns), block[i]);
  }
}

void arrange(const std::int16_t* codes, int rows, int levels, void* panel) {
  if (levels == kWeightLevels || levels == kVarianceLevels)
    return pairs::arrange(codes, rows, levels, panel);
  auto* out = static_cast<std::int8_t*>(panel);
  auto* start = reinterpret_cast<std::int32_t*>(out + std::ptrdiff_t{kGroup} * rows);
  for (int c = 0; c < kGroup; c += W) {
    std::int8_t* part = out + c / kColumns * kColumns * rows + c % kColumns * 4;
    arrange_bytes(codes + c * kWidest, rows, part);
    I sum = set_i(0);
    for (int k = 0; k < rows / 4; ++k) {
      const auto* weights = reinterpret_cast<const std::int32_t*>(part + k * 4 * kColumns);
      sum = FourBytes::step(set_i(static_cast<std::int32_t>(0x80808080u)), load_i(weights), sum);
    }
    store_i(start + c, set_i(0) - sum);
  }
}

void multiply(const void* codes, std::ptrdiff_t stride, int m, const void* panel, int rows,
              int columns, bool narrow, std::int32_t* sums) {
  if (!narrow) return pairs::multiply(codes, stride, m, panel, rows, columns, narrow, sums);
  const auto* start = reinterpret_cast<const std::int32_t*>(static_cast<const char*>(panel) +
                                                            std::ptrdiff_t{kGroup} * rows);
  pairs::multiply_panel<FourBytes>(codes, stride, m, panel, rows / 4, columns, start, sums);
}
