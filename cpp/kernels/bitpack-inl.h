// Codes of 1 to 16 bits to bytes and back, least significant bit first (reference.pack_bits).
#pragma once

#include "vector-inl.h"

// Eight codes of `width` bits as one word: each byte of `codes` (or of the result) is a code.
NC_INLINE std::uint64_t gather8(std::uint64_t codes, int width) {
#if defined(__BMI2__)
  return _pext_u64(codes, 0x0101010101010101ull * ((1u << width) - 1));
#else
  std::uint64_t word = 0;
  for (int k = 0; k < 8; ++k) word |= (codes >> (8 * k) & ((1u << width) - 1)) << (k * width);
  return word;
#endif
}
NC_INLINE std::uint64_t scatter8(std::uint64_t word, int width) {
#if defined(__BMI2__)
  return _pdep_u64(word, 0x0101010101010101ull * ((1u << width) - 1));
#else
  std::uint64_t codes = 0;
  for (int k = 0; k < 8; ++k) codes |= (word >> (k * width) & ((1u << width) - 1)) << (8 * k);
  return codes;
#endif
}

// The definition: any code type, one code at a time. The bits that any code has.
template <class Code>
NC_INLINE std::uint32_t pack_scalar(const Code* codes, std::ptrdiff_t n, int width,
                                    std::uint8_t* out) {
  const std::uint32_t keep = (1u << width) - 1;
  std::uint32_t pending = 0, seen = 0;
  int bits = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    seen |= codes[i];
    pending |= (codes[i] & keep) << bits;
    for (bits += width; bits >= 8; bits -= 8, pending >>= 8)
      *out++ = static_cast<std::uint8_t>(pending);
  }
  if (bits > 0) *out = static_cast<std::uint8_t>(pending);
  return seen;
}
template <class Code>
NC_INLINE void unpack_scalar(const std::uint8_t* in, std::ptrdiff_t n, int width, Code* codes) {
  const std::uint32_t keep = (1u << width) - 1;
  std::uint32_t pending = 0;
  int bits = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    for (; bits < width; bits += 8) pending |= static_cast<std::uint32_t>(*in++) << bits;
    codes[i] = static_cast<Code>(pending & keep);
    pending >>= width;
    bits -= width;
  }
}

#if defined(__AVX2__)
// Outputs of so many bytes go past the caches: they would not stay there, and a plain store
// would first read the line it overwrites.
constexpr std::ptrdiff_t kStreamed = std::ptrdiff_t{16} << 20;

// Bytes from p to the next multiple of 64, where streaming may start.
NC_INLINE std::ptrdiff_t to_line(const void* p) {
  return static_cast<std::ptrdiff_t>(-reinterpret_cast<std::uintptr_t>(p) & 63);
}

// 32 two-bit codes to 8 bytes: pairs by multiply-add (c0 + 4 c1), then fours (+ 16 ...).
NC_INLINE __m256i pack2_step(const std::uint8_t* codes, __m256i& seen) {
  const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  seen = _mm256_or_si256(seen, all);
  const __m256i c = _mm256_and_si256(all, _mm256_set1_epi8(3));
  const __m256i pairs = _mm256_maddubs_epi16(c, _mm256_set1_epi16(0x0401));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00100001));
}
#endif

// The bits of a code that any of the eight in a word has.
NC_INLINE std::uint32_t any8(std::uint64_t codes) {
  codes |= codes >> 32;
  codes |= codes >> 16;
  return static_cast<std::uint8_t>(codes | codes >> 8);
}

std::uint32_t pack8(const std::uint8_t* codes, std::ptrdiff_t n, int width, std::uint8_t* out) {
  std::ptrdiff_t i = 0;
  std::uint64_t seen = 0;
  if (width == 8) {
    __builtin_memcpy(out, codes, static_cast<std::size_t>(n));
    return 0;  // every code fits
  }
#if defined(__AVX512F__)
  if (width == 2) {
    __m512i all = _mm512_setzero_si512();
    for (; i + 64 <= n; i += 64, out += 16) {
      const __m512i given = _mm512_loadu_si512(codes + i);
      all = _mm512_or_si512(all, given);
      const __m512i c = _mm512_and_si512(given, _mm512_set1_epi8(3));
      const __m512i pairs = _mm512_maddubs_epi16(c, _mm512_set1_epi16(0x0401));
      const __m512i fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00100001));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(fours));
    }
    seen = static_cast<std::uint64_t>(_mm512_reduce_or_epi64(all));
  }
#elif defined(__AVX2__)
  if (width == 2) {
    __m256i all = _mm256_setzero_si256();
    for (; i + 128 <= n; i += 128, out += 32) {
      const __m256i a =
          _mm256_packus_epi32(pack2_step(codes + i, all), pack2_step(codes + i + 32, all));
      const __m256i b =
          _mm256_packus_epi32(pack2_step(codes + i + 64, all), pack2_step(codes + i + 96, all));
      const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                          _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order));
    }
    std::uint64_t words[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), all);
    seen = words[0] | words[1] | words[2] | words[3];
  }
#endif
  // Whole words are stored while the bytes past the codes' own lie within the output; they are
  // overwritten by what follows. Storing 3, 5, 6 or 7 bytes would stall store forwarding.
  const std::ptrdiff_t slack = 8 * 8 / width;  // codes that fill a word
  for (; i + 8 + slack <= n; i += 8, out += width) {
    std::uint64_t eight;
    __builtin_memcpy(&eight, codes + i, 8);
    seen |= eight;
    eight = gather8(eight, width);
    __builtin_memcpy(out, &eight, 8);
  }
  return any8(seen) | pack_scalar(codes + i, n - i, width, out);
}

void unpack8(const std::uint8_t* in, std::ptrdiff_t n, int width, std::uint8_t* codes) {
  std::ptrdiff_t i = 0;
  if (width == 8) {
    __builtin_memcpy(codes, in, static_cast<std::size_t>(n));
    return;
  }
#if defined(__AVX512F__)
  if (width == 2) {
    const bool streamed = n >= kStreamed && to_line(codes) % 4 == 0;
    if (streamed) {
      i = to_line(codes);
      unpack_scalar(in, i, width, codes);
      in += i / 4;
    }
    for (; i + 64 <= n; i += 64, in += 16) {
      if (!streamed) prefetch_to_write(codes + i, 64);
      __m512i v = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
      v = _mm512_and_si512(_mm512_or_si512(v, _mm512_slli_epi32(v, 12)),
                           _mm512_set1_epi32(0x000F000F));
      v = _mm512_and_si512(_mm512_or_si512(v, _mm512_slli_epi32(v, 6)),
                           _mm512_set1_epi32(0x03030303));
      if (streamed)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(codes + i), v);
      else
        _mm512_storeu_si512(codes + i, v);
    }
    _mm_sfence();
  }
#elif defined(__AVX2__)
  if (width == 2) {
    const bool streamed = n >= kStreamed && to_line(codes) % 4 == 0;
    if (streamed) {
      i = to_line(codes);
      unpack_scalar(in, i, width, codes);
      in += i / 4;
    }
    for (; i + 32 <= n; i += 32, in += 8) {
      if (!streamed) prefetch_to_write(codes + i, 32);
      __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(in)));
      v = _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi32(v, 12)),
                           _mm256_set1_epi32(0x000F000F));
      v = _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi32(v, 6)),
                           _mm256_set1_epi32(0x03030303));
      if (streamed)
        _mm256_stream_si256(reinterpret_cast<__m256i*>(codes + i), v);
      else
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), v);
    }
    _mm_sfence();
  }
#endif
  const std::ptrdiff_t slack = 8 * 8 / width;  // codes that fill a word: it may be read whole
  for (; i + 8 + slack <= n; i += 8, in += width) {
    std::uint64_t word;
    __builtin_memcpy(&word, in, 8);
    word = scatter8(word, width);
    __builtin_memcpy(codes + i, &word, 8);
  }
  unpack_scalar(in, n - i, width, codes + i);
}

std::uint32_t pack16(const std::uint16_t* codes, std::ptrdiff_t n, int width, std::uint8_t* out) {
  return pack_scalar(codes, n, width, out);
}
void unpack16(const std::uint8_t* in, std::ptrdiff_t n, int width, std::uint16_t* codes) {
  unpack_scalar(in, n, width, codes);
}
