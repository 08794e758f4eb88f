// Integer products in AMX tiles: 16 rows of 64 8-bit codes times 64 x 16 8-bit weights a step.
// A 16-bit weight is 256 times a signed byte plus an unsigned one, a square of a code likewise:
// two exact products in 32 bits, so every level agrees.
//
// Panels: for each pair of 16-output tiles its high bytes, then its low bytes (weights of 8 bits
// have none), each 64-row step as two tiles of 16 x 64 bytes.

constexpr int kRowStep = 64, kCodeBytes = 1;
constexpr int kColumns = 2 * W;  // of float panels
constexpr std::ptrdiff_t kTile = 1024;

// Palette 1, and for each of 8 tiles 64 bytes a row (16-bit numbers) and 16 rows. Constant: the
// compiler does not see that loading it reads all of it.
alignas(64) constexpr std::uint8_t kConfig[64] = {
    1,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  64, 0,  64, 0,  64, 0,
    64, 0,  64, 0,  64, 0,  64, 0,  64, 0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    0,  0,  0,  0,  16, 16, 16, 16, 16, 16, 16, 16};

void enter() { _tile_loadconfig(kConfig); }
void leave() { _tile_release(); }

NC_INLINE void store_i8(void* p, I a) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}

void dac(const float* x, const float* row_scale, std::ptrdiff_t n, std::ptrdiff_t padded,
         const Dac& dac, void* codes, void* squares, std::ptrdiff_t high) {
  const Scaled input{x, row_scale, n};
  auto* to = static_cast<char*>(codes);
  auto* low = static_cast<char*>(squares);
  std::ptrdiff_t i = 0;
  for (; i < n; i += W) {  // what lies beyond n is 0
    const I q = input_code(input.at(i), dac);
    store_i8(to + i, q);
    if (squares) {
      const I square = round_even(to_float(q) * to_float(q));
      store_i8(low + i, square);
      store_i8(low + high + i, shift_right<8>(square));
    }
  }
  for (; i < padded; i += W) {
    store_i8(to + i, set_i(0));
    if (squares) {
      store_i8(low + i, set_i(0));
      store_i8(low + high + i, set_i(0));
    }
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
  for (int line = 0; line < 16; ++line) store(reinterpret_cast<float*>(out + 64 * line), block[line]);
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

enum class Signs { kBoth, kCodes, kNeither };

// 16 rows, or both 16s, times 32 outputs.
template <Signs signs>
NC_INLINE void tiles(const char* a, std::ptrdiff_t stride, bool both, const char* b, int rows,
                     std::int32_t* out) {
  __asm__ volatile("" ::: "memory");  // gcc 12 does not see that loading tiles reads memory
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int k = 0; k < rows; k += 64, b += 2 * kTile) {
    _tile_loadd(4, a + k, stride);
    _tile_loadd(6, b, 64);
    _tile_loadd(7, b + kTile, 64);
    if constexpr (signs == Signs::kBoth) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
    } else if constexpr (signs == Signs::kCodes) {
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
    } else {
      _tile_dpbuud(0, 4, 6);
      _tile_dpbuud(1, 4, 7);
    }
    if (!both) continue;
    _tile_loadd(5, a + 16 * stride + k, stride);
    if constexpr (signs == Signs::kBoth) {
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else if constexpr (signs == Signs::kCodes) {
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    } else {
      _tile_dpbuud(2, 5, 6);
      _tile_dpbuud(3, 5, 7);
    }
  }
  constexpr std::ptrdiff_t line = kGroup * sizeof(std::int32_t);
  _tile_stored(0, out, line);
  _tile_stored(1, out + 16, line);
  if (!both) return;
  _tile_stored(2, out + 16 * kGroup, line);
  _tile_stored(3, out + 16 * kGroup + 16, line);
}

// sums = 256 sums + low.
NC_INLINE void join_bytes(std::int32_t* sums, const std::int32_t* low, int m, int columns) {
  for (int r = 0; r < m; ++r)
    for (int i = r * kGroup; i < r * kGroup + columns; i += W)
      store_i(sums + i, shift_left<8>(load_i(sums + i)) + load_i(low + i));
}

void multiply(const void* codes, std::ptrdiff_t stride, int m, const void* panel, int rows,
              int columns, bool narrow, std::int32_t* sums) {
  alignas(64) std::int32_t low[kRowBlock * kGroup];
  const auto* b = static_cast<const char*>(panel);
  for (int c = 0; c < columns; c += 32) {
    for (int r = 0; r < m; r += 32)
      tiles<Signs::kBoth>(static_cast<const char*>(codes) + r * stride, stride, m - r > 16, b,
                          rows, sums + r * kGroup + c);
    b += 32 * rows;
    if (narrow) continue;
    for (int r = 0; r < m; r += 32)
      tiles<Signs::kCodes>(static_cast<const char*>(codes) + r * stride, stride, m - r > 16, b,
                           rows, low + r * kGroup + c);
    b += 32 * rows;
  }
  if (!narrow) join_bytes(sums, low, m, columns);
}

void multiply_squares(const void* squares, std::ptrdiff_t stride, std::ptrdiff_t high, int m,
                      const void* panel, int rows, int columns, std::int32_t* sums) {
  alignas(64) std::int32_t low[kRowBlock * kGroup];
  const auto* b = static_cast<const char*>(panel);
  const auto* a = static_cast<const char*>(squares);
  for (int c = 0; c < columns; c += 32, b += 32 * rows)
    for (int r = 0; r < m; r += 32) {
      tiles<Signs::kNeither>(a + high + r * stride, stride, m - r > 16, b, rows,
                             sums + r * kGroup + c);
      tiles<Signs::kNeither>(a + r * stride, stride, m - r > 16, b, rows, low + r * kGroup + c);
    }
  join_bytes(sums, low, m, columns);
}
