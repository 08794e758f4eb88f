// Tiled products of input codes and packed weights, their noise, ADC and digital accumulation
// (crossbar/reference.py). The driver, crossbar.cpp, cuts the work into panels and row blocks.

// ---------------------------------------------------------------- inputs

NC_INLINE I max_i(I a, I b) { return select_i(greater_i(a, b), a, b); }

// Elements i .. i + W of two arrays, the second optional, as their product.
struct Scaled {
  Padded x, scale;
  bool scaled;
  NC_INLINE Scaled(const float* x_, const float* scale_, std::ptrdiff_t n)
      : x(x_, n), scale(scale_ ? scale_ : x_, n), scaled(scale_ != nullptr) {}
  NC_INLINE F at(std::ptrdiff_t i) const { return scaled ? x.at(i) * scale.at(i) : x.at(i); }
};

std::int32_t peak(const float* x, const float* row_scale, std::ptrdiff_t n, float limit,
                  std::int64_t* beyond) {
  const Scaled input(x, row_scale, n);
  I top = set_i(0), count = set_i(0);
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    const F m = magnitude(input.at(i));
    top = max_i(top, as_int(m));  // as integers, NaN is above infinity above all else
    count = count + select_i(greater(m, set(limit)), set_i(1), set_i(0));
  }
  alignas(64) std::int32_t tops[W], counts[W];
  store_i(tops, top);
  store_i(counts, count);
  std::int32_t result = 0;
  for (int k = 0; k < W; ++k) {
    result = tops[k] > result ? tops[k] : result;
    *beyond += counts[k];
  }
  return result;
}

NC_INLINE F scaled_input(F x, const Dac& dac) {
  const F t = x * set(dac.inverse);
  const F top = set(static_cast<float>(dac.top));
  return dac.top ? min(max(t, set(0.0f) - top), top) : t;
}

NC_INLINE I input_code(F x, const Dac& dac) {
  const I q = round_even(scaled_input(x, dac));
  if (!dac.digit) return q;
  const I sign = shift_right_signed<31>(q);
  const I digits = shift_right_by((q ^ sign) - sign, dac.shift) & set_i(dac.digit);
  return (digits ^ sign) - sign;
}

void dac_float(const float* x, const float* row_scale, std::ptrdiff_t n, const Dac& dac,
               float* values, float* squares) {
  const Scaled input(x, row_scale, n);
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    const F x_i = input.at(i);
    const F v = dac.top ? to_float(input_code(x_i, dac)) : scaled_input(x_i, dac);
    store_first(values + i, v, n - i);
    if (squares) store_first(squares + i, v * v, n - i);
  }
}

// ---------------------------------------------------------------- weights

// One output's weights of a tile: (positive - negative) inverse_span, and their peak.
NC_INLINE float weights_of(const float* positive, const float* negative, int rows,
                           float inverse_span, float* values) {
  const Padded plus(positive, rows), minus(negative ? negative : positive, rows);
  I top = set_i(0);
  for (int k = 0; k < rows; k += W) {
    const F v = (negative ? plus.at(k) - minus.at(k) : plus.at(k)) * set(inverse_span);
    store(values + k, v);
    top = max_i(top, as_int(magnitude(v)));
  }
  alignas(64) float tops[W];
  store(tops, as_float(top));
  float peak = 0;
  for (int k = 0; k < W; ++k) peak = tops[k] > peak ? tops[k] : peak;
  return peak;
}

NC_INLINE I weight_code(F v, F inverse, float levels) {
  return round_even(min(max(v * inverse, set(-levels)), set(levels)));
}

// Of the peaks and ranges: finite, so that 0 stays 0.
NC_INLINE float inverse_of(float full_scale, float levels) {
  constexpr float most = 3.402823466e38f;
  if (!(full_scale > 0)) return 0;
  const float inverse = levels / full_scale;
  return inverse < most ? inverse : most;
}

constexpr int kWidest = kIntegerRows + 64;  // a tile's rows, padded

// f<R>() for the R of 1 .. most that equals r: the rows of a block are held in registers, so
// their number is one of compilation.
template <int most, class F_>
NC_INLINE void with_rows(int r, F_ f) {
  if constexpr (most > 1) {
    if (r < most) return with_rows<most - 1>(r, f);
  }
  f(std::integral_constant<int, most>{});
}

// Cuts m rows into blocks of at most kRowsAtOnce, as equal as may be: f(first, rows).
template <class F_>
NC_INLINE void in_row_blocks(int m, F_ f) {
  const int blocks = (m + kRowsAtOnce - 1) / kRowsAtOnce;
  for (int b = 0, from = 0; b < blocks; ++b) {
    const int rows = (m - from + blocks - b - 1) / (blocks - b);
    f(from, rows);
    from += rows;
  }
}

#if defined(__AMX_INT8__)
#include "product_amx-inl.h"
#else
#include "product_vector-inl.h"
#endif

// Float panels: NR outputs side by side, row after row.
void pack(const float* positive, const float* negative, std::ptrdiff_t ld, int columns, int rows,
          float inverse_span, int levels, void* panel, float* peak) {
  if (!levels) {
    auto* out = static_cast<float*>(panel);
    alignas(64) float part[kWidest];
    for (int c = 0; c < kGroup; ++c) {
      peak[c] = 1;
      for (int from = 0; from < rows; from += kIntegerRows) {
        const int n = rows - from < kIntegerRows ? rows - from : kIntegerRows;
        const std::ptrdiff_t at = c * ld + from;
        if (c < columns)
          weights_of(positive + at, negative ? negative + at : nullptr, n, inverse_span, part);
        float* to = out + static_cast<std::ptrdiff_t>(c / kColumns) * rows * kColumns + c % kColumns;
        for (int k = 0; k < n; ++k)
          to[static_cast<std::ptrdiff_t>(from + k) * kColumns] = c < columns ? part[k] : 0.0f;
      }
    }
    return;
  }
  const int padded = (rows + kRowStep - 1) / kRowStep * kRowStep;
  alignas(64) std::int16_t codes[kGroup * kWidest];
  alignas(64) float values[kWidest];
  for (int c = 0; c < kGroup; ++c) {
    std::int16_t* to = codes + c * padded;
    int k = 0;
    if (c < columns) {
      const std::ptrdiff_t at = c * ld;
      peak[c] = weights_of(positive + at, negative ? negative + at : nullptr, rows, inverse_span,
                           values);
      const F inverse = set(inverse_of(peak[c], static_cast<float>(levels)));
      for (; k + W <= rows; k += W)
        store_i16(to + k, weight_code(load(values + k), inverse, static_cast<float>(levels)));
      if (k < rows) {
        alignas(64) std::int16_t last[W];
        store_i16(last, weight_code(load(values + k), inverse, static_cast<float>(levels)));
        for (int i = 0; k < rows; ++i, ++k) to[k] = last[i];
      }
    } else {
      peak[c] = 0;
    }
    for (; k < padded; ++k) to[k] = 0;
  }
  arrange(codes, padded, levels, panel);
}

// ---------------------------------------------------------------- float products

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

void multiply_float(const float* values, std::ptrdiff_t stride, int m, const float* panel,
                    int rows, float* sums) {
  stride /= static_cast<std::ptrdiff_t>(sizeof(float));
  for (int c = 0; c < kGroup; c += kColumns) {
    const float* part = panel + static_cast<std::ptrdiff_t>(c) * rows;
    in_row_blocks(m, [&](int from, int r) {
      with_rows<kRowsAtOnce>(r, [&](auto R) {
        multiply_float_rows<R.value>(values + from * stride, stride, part, rows,
                                     sums + from * kGroup + c);
      });
    });
  }
}

// ---------------------------------------------------------------- reading out

template <bool integer>
NC_INLINE F sum_at(const void* sums, std::ptrdiff_t i) {
  if constexpr (integer) return to_float(load_i(static_cast<const std::int32_t*>(sums) + i));
  return load(static_cast<const float*>(sums) + i);
}

template <bool integer>
NC_INLINE void read_as(const void* sums, const void* squares, const float* peak,
                       const float* variance_peak, int m, int columns, const Read& read,
                       const Draw& draw, std::int64_t index, std::int64_t index_step,
                       float* total, std::uint8_t* inside, std::ptrdiff_t inside_stride) {
  constexpr int vectors = kGroup / W;
  alignas(64) float unit[kGroup], unit_variance[kGroup], z[2 * kGroup];
  for (int c = 0; c < kGroup; c += W) {
    store(unit + c, load(peak + c) * set(read.unit));
    if (read.weight_noise)
      store(unit_variance + c, load(variance_peak + c) * set(read.unit_variance));
  }
  const F output_variance = set(read.noise * read.noise);
  const F top = set(read.top), bottom = set(-read.top);
  const bool noisy = read.output_noise || read.weight_noise;
  for (int r = 0; r < m; ++r) {
    if (noisy && r % 2 == 0) normals(z, 2 * kGroup, draw, index + r / 2 * index_step);
    std::uint64_t bits = 0;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const int c = v * W;
      const std::ptrdiff_t i = r * kGroup + c;
      F u = sum_at<integer>(sums, i) * load(unit + c);
      if (read.weight_noise) {
        const F variance = fma(sum_at<integer>(squares, i), load(unit_variance + c),
                               output_variance);
        u = fma(sqrt(variance), load(z + r % 2 * kGroup + c), u);
      } else if (read.output_noise) {
        u = fma(set(read.noise), load(z + r % 2 * kGroup + c), u);
      }
      if (read.top > 0) {
        const F t = u * set(read.inv_step);
        if (inside)
          bits |= std::uint64_t{mask_bits(greater(magnitude(t), top))} << c;
        u = to_float(round_even(min(max(t, bottom), top)));
      }
      store(total + i, fma(u, set(read.gain), load(total + i)));
    }
    if (inside) {
      std::uint8_t* to = inside + r * inside_stride;
      for (int c = 0; c < columns; c += 8) {
        const unsigned live = columns - c < 8 ? (1u << (columns - c)) - 1 : 0xFFu;
        to[c / 8] = static_cast<std::uint8_t>(~(bits >> c) & live);
      }
    }
  }
}

void read(const void* sums, const void* squares, bool integer, const float* peak,
          const float* variance_peak, int m, int columns, const Read& how, const Draw& draw,
          std::int64_t index, std::int64_t index_step, float* total, std::uint8_t* inside,
          std::ptrdiff_t inside_stride) {
  if (integer)
    read_as<true>(sums, squares, peak, variance_peak, m, columns, how, draw, index, index_step,
                  total, inside, inside_stride);
  else
    read_as<false>(sums, squares, peak, variance_peak, m, columns, how, draw, index, index_step,
                   total, inside, inside_stride);
}

void finish(const float* total, int m, int columns, const float* scale, const float* bias,
            const float* ranges, float* y, std::ptrdiff_t stride) {
  const Padded scales(scale, columns), biases(bias ? bias : scale, columns);
  for (int r = 0; r < m; ++r) {
    const F range = set(ranges[r]);
    for (int c = 0; c < columns; c += W) {
      const F scaled = load(total + r * kGroup + c) * scales.at(c);
      store_first(y + r * stride + c,
                  bias ? fma(scaled, range, biases.at(c)) : scaled * range, columns - c);
    }
  }
}
