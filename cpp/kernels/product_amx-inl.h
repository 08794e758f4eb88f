// Integer products in AMX tiles: 16 rows of 64 8-bit codes times 64 x 16 8-bit weights a step.
// A 16-bit weight is 256 times a signed byte plus an unsigned one, a square of a code likewise:
// two exact products in 32 bits, so every level agrees.
//
// Panels: for each pair of 16-output tiles its high bytes, then its low bytes (weights of 8 bits
// have none), each 64-row step as two tiles of 16 x 64 bytes.
//
// Float products in tiles of bfloat16: a float32 is the sum of three of them exactly, each the
// next 8 bits. Of the products of parts those that float32 can hold are summed in float32, small
// ones first: 3, 5 or 6, for inputs of one, two or three parts. Rounds as float32 sums do, in
// another order than the other levels.
#pragma once

constexpr int kRowStep = 64, kCodeBytes = 1, kNarrowCodeBytes = 1, kNarrowExtraBytes = 0;
constexpr int kFloatRowStep = 32, kFloatBytes = 2, kFloatParts = 3;
constexpr double kPerWeight = 0.03, kPerProduct = 0.0017;
constexpr std::ptrdiff_t kTile = 1024;

// Palette 1, and for each of 8 tiles 64 bytes a row (16-bit numbers) and 16 rows. Constant: the
// compiler does not see that loading it reads all of it.
alignas(64) constexpr std::uint8_t kConfig[64] = {
    1,  0, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 64, 0, 64, 0,  64, 0,  64, 0,  64, 0,
    64, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0, 0,  0, 16, 16, 16, 16, 16, 16, 16, 16};

void enter() { _tile_loadconfig(kConfig); }
void leave() { _tile_release(); }

// The lowest bytes of 64 integers from 0 to 255, or of as many signed ones.
template <bool is_signed>
NC_INLINE void store_bytes(void* p, const I (&a)[4]) {
  const __m512i low = _mm512_packs_epi32(a[0].v, a[1].v);
  const __m512i high = _mm512_packs_epi32(a[2].v, a[3].v);
  const __m512i lanes = is_signed ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, lanes));
}

void dac(const float* x, const float* row_scale, std::ptrdiff_t n, std::ptrdiff_t padded,
         const Dac& dac, bool, void* codes, void* squares, std::ptrdiff_t high) {
  const Scaled input{x, row_scale, n};
  const Drive drive(dac);
  auto* to = static_cast<char*>(codes);
  auto* low = static_cast<char*>(squares);
  for (std::ptrdiff_t i = 0; i < padded; i += kRowStep) {
    I code[4], square[4], above[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const std::ptrdiff_t at = i + k * W;
      code[k] = at < n ? drive.code(input.at(at)) : set_i(0);
    }
    store_bytes<true>(to + i, code);
    if (!squares) continue;
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const I s = round_even(to_float(code[k]) * to_float(code[k]));
      square[k] = s & set_i(0xFF);
      above[k] = shift_right<8>(s);
    }
    store_bytes<false>(low + i, square);
    store_bytes<false>(low + high + i, above);
  }
}

// The high or low bytes of 64 rows of 16 outputs -> one tile.
NC_INLINE void arrange_tile(const std::int16_t* codes, bool high, char* out) {
  F block[16];
  for (int j = 0; j < 16; ++j) {
    const auto* row = reinterpret_cast<const __m512i*>(codes + j * kWidest);
    __m512i a = _mm512_loadu_si512(row), b = _mm512_loadu_si512(row + 1);
    if (high) {
      a = _mm512_srai_epi16(a, 8);
      b = _mm512_srai_epi16(b, 8);
    }
    const __m512i low = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(a));
    block[j] = as_float(I{_mm512_inserti64x4(low, _mm512_cvtepi16_epi8(b), 1)});
  }
  transpose(block);
  for (int line = 0; line < 16; ++line)
    store(reinterpret_cast<float*>(out + 64 * line), block[line]);
}

void arrange(const std::int16_t* codes, int rows, int levels, void* panel) {
  auto* out = static_cast<char*>(panel);
  const int planes = levels == kWeightLevels ? 2 : 1;
  for (int c = 0; c < kGroup; c += 32)
    for (int plane = 0; plane < planes; ++plane)
      for (int k = 0; k < rows; k += 64)
        for (int tile = 0; tile < 2; ++tile, out += kTile)
          arrange_tile(codes + (c + 16 * tile) * kWidest + k, planes == 2 && plane == 0, out);
}

enum class Kind { kSigned, kSignedUnsigned, kUnsigned, kBfloat16 };

// gcc takes tiles by literal numbers only. Tiles 0 to 3 hold the sums, 4 and 5 inputs, 6 and 7
// weights.
template <Kind kind>
NC_INLINE void multiply_first() {
  if constexpr (kind == Kind::kSigned) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
  } else if constexpr (kind == Kind::kSignedUnsigned) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
  } else if constexpr (kind == Kind::kUnsigned) {
    _tile_dpbuud(0, 4, 6);
    _tile_dpbuud(1, 4, 7);
  } else {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
}
template <Kind kind>
NC_INLINE void multiply_second() {
  if constexpr (kind == Kind::kSigned) {
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  } else if constexpr (kind == Kind::kSignedUnsigned) {
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  } else if constexpr (kind == Kind::kUnsigned) {
    _tile_dpbuud(2, 5, 6);
    _tile_dpbuud(3, 5, 7);
  } else {
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

NC_INLINE void clear_tiles() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// 16 rows, or both 16s, times 32 outputs, in steps of 64 bytes a row.
template <Kind kind>
NC_INLINE void add_to_tiles(const char* a, std::ptrdiff_t stride, bool both, const char* b,
                            int steps) {
  __asm__ volatile("" ::: "memory");  // gcc 12 does not see that loading tiles reads memory
  for (int k = 0; k < steps; ++k, a += 64, b += 2 * kTile) {
    _tile_loadd(4, a, stride);
    _tile_loadd(6, b, 64);
    _tile_loadd(7, b + kTile, 64);
    multiply_first<kind>();
    if (!both) continue;
    _tile_loadd(5, a + 16 * stride, stride);
    multiply_second<kind>();
  }
}

NC_INLINE void store_tiles(void* sums, bool both) {
  constexpr std::ptrdiff_t line = kGroup * 4;
  auto* out = static_cast<char*>(sums);
  _tile_stored(0, out, line);
  _tile_stored(1, out + 64, line);
  if (!both) return;
  _tile_stored(2, out + 16 * line, line);
  _tile_stored(3, out + 16 * line + 64, line);
}

template <Kind kind>
NC_INLINE void tiles(const char* a, std::ptrdiff_t stride, bool both, const char* b, int rows,
                     std::int32_t* out) {
  clear_tiles();
  add_to_tiles<kind>(a, stride, both, b, rows / kRowStep);
  store_tiles(out, both);
}

// sums = 256 sums + low, of 32 outputs.
NC_INLINE void join_bytes(std::int32_t* sums, const std::int32_t* low, bool both) {
  for (int r = 0; r < (both ? 32 : 16); ++r)
    for (int i = r * kGroup; i < r * kGroup + 32; i += W)
      store_i(sums + i, shift_left<8>(load_i(sums + i)) + load_i(low + i));
}

void multiply(const void* codes, std::ptrdiff_t stride, int m, const void* panel, int rows,
              int columns, bool narrow, std::int32_t* sums) {
  alignas(64) std::int32_t low[32 * kGroup];
  const auto* b = static_cast<const char*>(panel);
  const std::ptrdiff_t plane = 32 * rows;
  for (int c = 0; c < columns; c += 32, b += narrow ? plane : 2 * plane)
    for (int r = 0; r < m; r += 32) {
      const char* a = static_cast<const char*>(codes) + r * stride;
      std::int32_t* out = sums + r * kGroup + c;
      const bool both = m - r > 16;
      tiles<Kind::kSigned>(a, stride, both, b, rows, out);
      if (narrow) continue;
      tiles<Kind::kSignedUnsigned>(a, stride, both, b + plane, rows, low);
      join_bytes(out, low, both);
    }
}

void multiply_squares(const void* squares, std::ptrdiff_t stride, std::ptrdiff_t high, int m,
                      const void* panel, int rows, int columns, std::int32_t* sums) {
  alignas(64) std::int32_t low[32 * kGroup];
  const auto* b = static_cast<const char*>(panel);
  for (int c = 0; c < columns; c += 32, b += 32 * rows)
    for (int r = 0; r < m; r += 32) {
      const char* a = static_cast<const char*>(squares) + r * stride;
      std::int32_t* out = sums + r * kGroup + c;
      const bool both = m - r > 16;
      tiles<Kind::kUnsigned>(a + high, stride, both, b, rows, out);
      tiles<Kind::kUnsigned>(a, stride, both, b, rows, low);
      join_bytes(out, low, both);
    }
}

// The highest 8 bits of each number, which bfloat16 holds; v keeps the rest.
NC_INLINE F next_part(F& v) {
  const F part = as_float(as_int(v) & set_i(static_cast<std::int32_t>(0xFFFF0000u)));
  v = v - part;
  return part;
}

NC_INLINE void store_bfloat16(void* p, F part) {
  store_i16(static_cast<std::int16_t*>(p), shift_right<16>(as_int(part)));
}

NC_INLINE void store_parts(F v, int parts, std::ptrdiff_t part_stride, char* to) {
  for (int part = 0; part < parts; ++part, to += part_stride) store_bfloat16(to, next_part(v));
}

void dac_float(const float* x, const float* row_scale, std::ptrdiff_t n, std::ptrdiff_t padded,
               const Dac& dac, int parts, int square_parts, std::ptrdiff_t part_stride,
               void* values, void* squares) {
  const Scaled input{x, row_scale, n};
  const Drive drive(dac);
  for (std::ptrdiff_t i = 0; i < padded; i += W) {
    const F v = i < n ? drive.value(input.at(i)) : set(0.0f);
    store_parts(v, parts, part_stride, static_cast<char*>(values) + 2 * i);
    if (squares) store_parts(v * v, square_parts, part_stride, static_cast<char*>(squares) + 2 * i);
  }
}

// Rows from .. from + n of kGroup outputs, kWidest apart, into a panel of `rows`: for each pair of
// 16-output tiles its first, second and third parts, each 32-row step as two tiles.
void arrange_float(const float* values, int from, int n, int rows, void* panel) {
  const int steps = (rows + kFloatRowStep - 1) / kFloatRowStep;
  for (int c = 0; c < kGroup; c += 32)
    for (int k = 0; k < n; k += kFloatRowStep)
      for (int tile = 0; tile < 2; ++tile) {
        F block[kFloatParts][16];
        for (int j = 0; j < 16; ++j) {
          alignas(64) std::int16_t pairs[kFloatParts][kFloatRowStep];
          for (int half = 0; half < kFloatRowStep; half += W)
            store_parts(load(values + (c + 16 * tile + j) * kWidest + k + half), kFloatParts,
                        sizeof pairs[0], reinterpret_cast<char*>(pairs[0] + half));
          for (int part = 0; part < kFloatParts; ++part)
            block[part][j] = load(reinterpret_cast<const float*>(pairs[part]));
        }
        for (int part = 0; part < kFloatParts; ++part) {
          transpose(block[part]);
          const std::ptrdiff_t at =
              (static_cast<std::ptrdiff_t>(c / 32 * kFloatParts + part) * steps +
               (from + k) / kFloatRowStep) *
                  2 +
              tile;
          auto* out = reinterpret_cast<float*>(static_cast<char*>(panel) + at * kTile);
          for (int line = 0; line < 16; ++line) store(out + 16 * line, block[part][line]);
        }
      }
}

void multiply_float(const void* values, std::ptrdiff_t stride, std::ptrdiff_t part_stride,
                    int parts, int m, const void* panel, int rows, int columns, float* sums) {
  const int steps = rows / kFloatRowStep;
  const std::ptrdiff_t panel_part = steps * 2 * kTile;
  const auto* b = static_cast<const char*>(panel);
  for (int c = 0; c < columns; c += 32, b += kFloatParts * panel_part)
    for (int r = 0; r < m; r += 32) {
      const auto* a = static_cast<const char*>(values) + r * stride;
      clear_tiles();
      for (int order = kFloatParts - 1; order >= 0; --order)
        for (int part = order < parts ? order : parts - 1; part >= 0; --part)
          add_to_tiles<Kind::kBfloat16>(a + part * part_stride, stride, m - r > 16,
                                        b + (order - part) * panel_part, steps);
      store_tiles(sums + r * kGroup + c, m - r > 16);
    }
}
