// Integer products by multiply-adds of pairs of 16-bit integers: sums of codes in 32 bits are
// exact, so every level agrees. Panels hold two vectors of outputs side by side, and of each
// output two rows.
#pragma once

constexpr int kRowStep = 2, kCodeBytes = 2, kNarrowCodeBytes = 2, kNarrowExtraBytes = 0;
constexpr int kFloatRowStep = 1, kFloatBytes = 4, kFloatParts = 1;
constexpr double kPerWeight = 0.03, kPerProduct = 0.1 / W;
constexpr int kColumns = 2 * W;

void enter() {}
void leave() {}

void dac(const float* x, const float* row_scale, std::ptrdiff_t n, std::ptrdiff_t padded,
         const Dac& dac, bool, void* codes, void* squares, std::ptrdiff_t) {
  alignas(64) std::int16_t code[kWidest], square[kWidest];
  const Scaled input{x, row_scale, n};
  const Drive drive(dac);
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    const F v = to_float(drive.code(input.at(i)));
    store_i16(code + i, round_even(v));
    if (squares) store_i16(square + i, round_even(v * v));
  }
  for (std::ptrdiff_t i = n; i < padded; ++i) code[i] = square[i] = 0;
  __builtin_memcpy(codes, code, static_cast<std::size_t>(2 * padded));
  if (squares) __builtin_memcpy(squares, square, static_cast<std::size_t>(2 * padded));
}

void arrange(const std::int16_t* codes, int rows, int, void* panel) {
  auto* out = static_cast<float*>(panel);
  const int pairs = rows / 2;
  for (int c = 0; c < kGroup; c += kColumns, out += pairs * kColumns)
    for (int half = 0; half < kColumns; half += W)
      for (int k = 0; k < pairs; k += W) {
        F block[W];
        for (int j = 0; j < W; ++j)
          block[j] = load(reinterpret_cast<const float*>(codes + (c + half + j) * kWidest + 2 * k));
        transpose(block);
        for (int i = 0; i < W && k + i < pairs; ++i)
          store(out + (k + i) * kColumns + half, block[i]);
      }
}

struct PairsOfWords {
  static NC_INLINE I step(I x, I w, I sum) { return multiply_add_pairs(x, w, sum); }
};

// Sums of R input vectors and two vectors of outputs, from `first` on where it is given; each step
// takes four bytes of every input.
template <class Multiply, int R>
NC_INLINE void multiply_rows(const char* a, std::ptrdiff_t stride, const char* panel, int steps,
                             const std::int32_t* first, std::int32_t* sums) {
  I total[R][2];
  const I start[2] = {first ? load_i(first) : set_i(0), first ? load_i(first + W) : set_i(0)};
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    total[r][0] = start[0];
    total[r][1] = start[1];
  }
  for (int k = 0; k < steps; ++k) {
    const auto* b = reinterpret_cast<const std::int32_t*>(panel) + k * kColumns;
    const I b0 = load_i(b), b1 = load_i(b + W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      std::int32_t codes;
      __builtin_memcpy(&codes, a + r * stride + 4 * k, 4);
      const I x = set_i(codes);
      total[r][0] = Multiply::step(x, b0, total[r][0]);
      total[r][1] = Multiply::step(x, b1, total[r][1]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    store_i(sums + r * kGroup, total[r][0]);
    store_i(sums + r * kGroup + W, total[r][1]);
  }
}

// Of m input vectors; `first`: where the sums of each output start, or null.
template <class Multiply>
NC_INLINE void multiply_panel(const void* codes, std::ptrdiff_t stride, int m, const void* panel,
                              int steps, int columns, const std::int32_t* first,
                              std::int32_t* sums) {
  for (int c = 0; c < columns; c += kColumns) {
    const char* part = static_cast<const char*>(panel) + std::ptrdiff_t{4} * c * steps;
    in_row_blocks(m, [&](int from, int r) {
      with_rows<kRowsAtOnce>(r, [&](auto R) {
        multiply_rows<Multiply, R.value>(static_cast<const char*>(codes) + from * stride, stride,
                                         part, steps, first ? first + c : nullptr,
                                         sums + from * kGroup + c);
      });
    });
  }
}

void multiply(const void* codes, std::ptrdiff_t stride, int m, const void* panel, int rows,
              int columns, bool, std::int32_t* sums) {
  multiply_panel<PairsOfWords>(codes, stride, m, panel, rows / 2, columns, nullptr, sums);
}

void multiply_squares(const void* squares, std::ptrdiff_t stride, std::ptrdiff_t, int m,
                      const void* panel, int rows, int columns, std::int32_t* sums) {
  multiply(squares, stride, m, panel, rows, columns, false, sums);
}

void dac_float(const float* x, const float* row_scale, std::ptrdiff_t n, std::ptrdiff_t,
               const Dac& dac, int, int, std::ptrdiff_t, void* values, void* squares) {
  const Scaled input{x, row_scale, n};
  const Drive drive(dac);
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    const F v = drive.value(input.at(i));
    store_first(static_cast<float*>(values) + i, v, n - i);
    if (squares) store_first(static_cast<float*>(squares) + i, v * v, n - i);
  }
}

// Rows from .. from + n of kGroup outputs, kWidest apart, into a panel of `rows`.
void arrange_float(const float* values, int from, int n, int rows, void* panel) {
  auto* out = static_cast<float*>(panel) + static_cast<std::ptrdiff_t>(from) * kColumns;
  for (int c = 0; c < kGroup; c += kColumns, out += static_cast<std::ptrdiff_t>(rows) * kColumns)
    for (int half = 0; half < kColumns; half += W)
      for (int k = 0; k < n; k += W) {
        F block[W];
        for (int j = 0; j < W; ++j) block[j] = load(values + (c + half + j) * kWidest + k);
        transpose(block);
        for (int i = 0; i < W && k + i < n; ++i) store(out + (k + i) * kColumns + half, block[i]);
      }
}

template <int R>
NC_INLINE void multiply_float_rows(const float* a, std::ptrdiff_t stride, const float* panel,
                                   int rows, float* sums) {
  F total[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) total[r][0] = total[r][1] = set(0.0f);
  for (int k = 0; k < rows; ++k) {
    const F b0 = load(panel + k * kColumns), b1 = load(panel + k * kColumns + W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F x = set(a[r * stride + k]);
      total[r][0] = multiply_add(x, b0, total[r][0]);
      total[r][1] = multiply_add(x, b1, total[r][1]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    store(sums + r * kGroup, total[r][0]);
    store(sums + r * kGroup + W, total[r][1]);
  }
}

void multiply_float(const void* values, std::ptrdiff_t stride, std::ptrdiff_t, int, int m,
                    const void* panel, int rows, int columns, float* sums) {
  stride /= static_cast<std::ptrdiff_t>(sizeof(float));
  for (int c = 0; c < columns; c += kColumns) {
    const float* part = static_cast<const float*>(panel) + static_cast<std::ptrdiff_t>(c) * rows;
    in_row_blocks(m, [&](int from, int r) {
      with_rows<kRowsAtOnce>(r, [&](auto R) {
        multiply_float_rows<R.value>(static_cast<const float*>(values) + from * stride, stride,
                                     part, rows, sums + from * kGroup + c);
      });
    });
  }
}
