// Weights to cell inputs and back (reference.encode, reference.decode), a block at a time.
#pragma once

#include "channel-inl.h"
#include "vector-inl.h"

// Side codes to range numbers.
NC_INLINE I range_numbers(const std::uint8_t* codes, bool sign) {
  const I code = load_u8(codes);
  return sign ? shift_right<1>(code) : code;
}

// Calls body(i) for every vector of n elements; outputs have room for whole vectors.
template <class Body>
NC_INLINE void for_vectors(std::ptrdiff_t n, Body body) {
  for (std::ptrdiff_t i = 0; i < n; i += W) body(i);
}

void classify(const float* w, std::ptrdiff_t n, const CodecTables& codec, std::uint8_t* codes) {
  const Padded input(w, n);
  for_vectors(n, [&](std::ptrdiff_t i) __attribute__((always_inline)) {
    prefetch_to_read(w + i);
    const I bits = as_int(input.at(i));
    const F magnitude = as_float(bits & set_i(INT32_MAX));
    const I zero = set_i(0);
    I code = zero;
    for (int r = 0; r + 1 < codec.ranges; ++r)
      code = select_i(greater(magnitude, set(codec.threshold[r])), code + set_i(1), code);
    if (codec.sign) code = shift_left<1>(code) | shift_right<31>(bits);
    store_u8(codes + i, code);
  });
}

void to_inputs(const float* w, const std::uint8_t* codes, std::ptrdiff_t n,
               const CodecTables& codec, float* x) {
  const Padded input(w, n);
  Rows rows;
  for_vectors(n, [&](std::ptrdiff_t i) __attribute__((always_inline)) {
    F value = input.at(i);
    if (codec.sign) value = as_float(as_int(value) & set_i(INT32_MAX));
    const I range = range_numbers(codes + i, codec.sign);
    const F u = fma(value, lookup8(codec.alpha, range), lookup8(codec.minus_beta, range));
    rows.put(i, (u - set(codec.y0)) * set(codec.inv_dy), codec.m);
  });
  for_vectors(n, [&](std::ptrdiff_t i) __attribute__((always_inline)) {
    F first, difference;
    lookup_rows2(codec.inverse, rows.twice + i, first, difference);
    store(x + i, fma(load(rows.fraction + i), difference, first));
  });
}

void quantize(const float* x, const std::uint8_t* codes, std::ptrdiff_t n, const CodecTables& codec,
              std::int32_t* levels) {
  for_vectors(n, [&](std::ptrdiff_t i) __attribute__((always_inline)) {
    const I range = range_numbers(codes + i, codec.sign);
    const F t =
        (load(x + i) - lookup8(codec.write_lo, range)) * lookup8(codec.write_inv_step, range);
    store_i(levels + i, round_even(min(max(t, set(0.0f)), lookup8(codec.write_top, range))));
  });
}

void dequantize(const std::int32_t* levels, const std::uint8_t* codes, std::ptrdiff_t n,
                const CodecTables& codec, float* x) {
  for_vectors(n, [&](std::ptrdiff_t i) __attribute__((always_inline)) {
    const I range = range_numbers(codes + i, codec.sign);
    store(x + i, fma(to_float(load_i(levels + i)), lookup8(codec.write_step, range),
                     lookup8(codec.write_lo, range)));
  });
}

void read_back(const float* x, const std::uint8_t* codes, std::ptrdiff_t n,
               const CodecTables& codec, const ChannelTables& channel, const Keys& keys,
               std::int64_t index, bool literal, float* w) {
  alignas(64) float y[kRoom];
  if (literal) {
    alignas(64) std::int32_t cells[kRoom];
    for_vectors(n, [&](std::ptrdiff_t i) __attribute__((always_inline)) {
      store_i(cells + i, lookup8_i(codec.cells, range_numbers(codes + i, codec.sign)));
    });
    sample_literal(x, y, n, cells, 1, channel, keys, index);
  } else {
    alignas(64) float scale[kRoom];
    for_vectors(n, [&](std::ptrdiff_t i) __attribute__((always_inline)) {
      store(scale + i, lookup8(codec.inv_sqrt_cells, range_numbers(codes + i, codec.sign)));
    });
    sample_collapsed(x, y, n, scale, 1, channel, keys, index);
  }
  for_vectors(n, [&](std::ptrdiff_t i) __attribute__((always_inline)) {
    const I code = load_u8(codes + i);
    const I range = codec.sign ? shift_right<1>(code) : code;
    F v = fma(load(y + i), lookup8(codec.inv_alpha, range), lookup8(codec.shift, range));
    if (codec.sign) v = select_sign(v, shift_left<31>(code));
    store(w + i, v);
  });
}

bool extent(const float* w, std::ptrdiff_t n, float* low, float* high) {
  F least = set(w[0]), most = least;
  I exponents = set_i(0);
  const std::ptrdiff_t whole = n / W * W;
  for (std::ptrdiff_t i = 0; i < whole; i += W) {
    const F v = load(w + i);
    least = min(least, v);
    most = max(most, v);
    const M infinite = greater_i(as_int(v) & set_i(INT32_MAX), set_i(0x7F7FFFFF));
    exponents = select_i(infinite, set_i(1), exponents);
  }
  alignas(64) float lanes[2][W];
  alignas(64) std::int32_t bad[W];
  store(lanes[0], least);
  store(lanes[1], most);
  store_i(bad, exponents);
  bool finite = true;
  *low = *high = w[0];
  for (int k = 0; k < W; ++k) {
    *low = lanes[0][k] < *low ? lanes[0][k] : *low;
    *high = lanes[1][k] > *high ? lanes[1][k] : *high;
    finite = finite && bad[k] == 0;
  }
  for (std::ptrdiff_t i = whole; i < n; ++i) {
    *low = w[i] < *low ? w[i] : *low;
    *high = w[i] > *high ? w[i] : *high;
    finite = finite && __builtin_isfinite(w[i]);
  }
  return finite;
}

// ---------------------------------------------------------------------------- masks

NC_INLINE std::uint64_t mask_bits(const std::uint8_t* mask, std::int64_t position,
                                  std::int64_t end) {
  // Up to 57 bits from any position; bits past the end read as 0.
  const std::int64_t byte = position / 8;
  const std::int64_t bytes = (end + 7) / 8 - byte;
  std::uint64_t word = 0;
  if (bytes >= 8) {
    __builtin_memcpy(&word, mask + byte, 8);
  } else {
    for (std::int64_t k = 0; k < bytes; ++k)
      word |= static_cast<std::uint64_t>(mask[byte + k]) << (8 * k);
  }
  return word >> (position % 8);
}

#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr std::uint64_t kLaneNumbers = 0x0706050403020100;
// Each bit of m to a whole byte.
NC_INLINE std::uint64_t spread_bits(unsigned m) { return _pdep_u64(m, 0x0101010101010101) * 0xFF; }
// lanes: a lane number a byte.
NC_INLINE F permute(F a, std::uint64_t lanes) {
  const __m128i bytes = _mm_cvtsi64_si128(static_cast<long long>(lanes));
  return {_mm256_permutevar8x32_ps(a.v, _mm256_cvtepu8_epi32(bytes))};
}
#endif

// The masked loops take W positions at a time while both buffers have room for whole vectors,
// and single positions at the end.
std::int64_t compress(const float* in, const std::uint8_t* mask, std::int64_t position,
                      std::int64_t end, std::ptrdiff_t n, float* out) {
  std::ptrdiff_t k = 0;
#if defined(__AVX512F__)
  while (k + W <= n && position + W <= end) {
    const __mmask16 m = static_cast<__mmask16>(mask_bits(mask, position, end));
    prefetch_to_read(in + position);
    // To a register first: compressing stores are slow on Zen 4.
    _mm512_storeu_ps(out + k, _mm512_maskz_compress_ps(m, _mm512_loadu_ps(in + position)));
    k += __builtin_popcount(m);
    position += W;
  }
#endif
#if defined(__AVX2__) && !defined(__AVX512F__)
  while (k + W <= n && position + W <= end) {
    const unsigned m = mask_bits(mask, position, end) & 0xFF;
    prefetch_to_read(in + position);
    // The selected lanes' numbers, first ones first.
    const std::uint64_t lanes = _pext_u64(kLaneNumbers, spread_bits(m));
    store(out + k, permute(load(in + position), lanes));
    k += __builtin_popcount(m);
    position += W;
  }
#endif
  while (k < n) {
    std::uint64_t bits = mask_bits(mask, position, end);
    const std::int64_t stop = position + 48 < end ? position + 48 : end;
    for (; position < stop && k < n; ++position, bits >>= 1) {
      out[k] = in[position];
      k += static_cast<std::ptrdiff_t>(bits & 1);
    }
  }
  return position;
}

std::int64_t expand(const float* in, const std::uint8_t* mask, std::int64_t position,
                    std::int64_t end, std::ptrdiff_t n, float* out) {
  std::ptrdiff_t k = 0;
#if defined(__AVX512F__)
  while (k + W <= n && position + W <= end) {
    const __mmask16 m = static_cast<__mmask16>(mask_bits(mask, position, end));
    prefetch_to_write(out + position, W * 4);
    _mm512_storeu_ps(out + position, _mm512_maskz_expand_ps(m, _mm512_loadu_ps(in + k)));
    k += __builtin_popcount(m);
    position += W;
  }
#endif
#if defined(__AVX2__) && !defined(__AVX512F__)
  while (k + W <= n && position + W <= end) {
    const unsigned m = mask_bits(mask, position, end) & 0xFF;
    prefetch_to_write(out + position, W * 4);
    // Each selected lane takes the next value, the others are cleared.
    const std::uint64_t spread = spread_bits(m);
    const __m256i keep = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(static_cast<long long>(spread)));
    const F values = permute(load(in + k), _pdep_u64(kLaneNumbers, spread));
    store(out + position, as_float(as_int(values) & I{keep}));
    k += __builtin_popcount(m);
    position += W;
  }
#endif
  while (k < n) {
    std::uint64_t bits = mask_bits(mask, position, end);
    const std::int64_t stop = position + 48 < end ? position + 48 : end;
    for (; position < stop && k < n; ++position, bits >>= 1) {
      std::int32_t value;
      __builtin_memcpy(&value, in + k, 4);
      value &= -static_cast<std::int32_t>(bits & 1);
      __builtin_memcpy(out + position, &value, 4);
      k += static_cast<std::ptrdiff_t>(bits & 1);
    }
  }
  return position;
}

std::int64_t popcount(const std::uint8_t* mask, std::int64_t bytes) {
  std::int64_t total = 0;
  std::int64_t i = 0;
  for (; i + 8 <= bytes; i += 8) {
    std::uint64_t word;
    __builtin_memcpy(&word, mask + i, 8);
    total += __builtin_popcountll(word);
  }
  for (; i < bytes; ++i) total += __builtin_popcount(mask[i]);
  return total;
}
