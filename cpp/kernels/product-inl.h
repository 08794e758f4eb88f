// Tiled products of input codes and packed weights, their noise, ADC and digital accumulation
// (reference/crossbar.py). The driver, product.cpp, cuts the work into panels and row blocks.
#pragma once

#include "rng-inl.h"
#include "vector-inl.h"

// ---------------------------------------------------------------- inputs

// n inputs, times their scales where there are any.
struct Scaled {
  const float *x, *scale;
  std::ptrdiff_t n;
  NC_INLINE F at(std::ptrdiff_t i) const {
    const F v = load_first(x + i, n - i);
    return scale ? v * load_first(scale + i, n - i) : v;
  }
};

// As integers, NaN is above infinity, and that above all else.
NC_INLINE I bits_of_magnitude(F x) { return as_int(x) & set_i(INT32_MAX); }

NC_INLINE std::int32_t largest(I a) {
  alignas(64) std::int32_t lanes[W];
  store_i(lanes, a);
  std::int32_t top = 0;
  for (int k = 0; k < W; ++k) top = lanes[k] > top ? lanes[k] : top;
  return top;
}

std::int32_t peak(const float* x, const float* row_scale, std::ptrdiff_t n) {
  const Scaled input{x, row_scale, n};
  I top[4] = {set_i(0), set_i(0), set_i(0), set_i(0)};
  std::ptrdiff_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) top[k] = max_i(top[k], bits_of_magnitude(input.at(i + k * W)));
  for (; i < n; i += W) top[0] = max_i(top[0], bits_of_magnitude(input.at(i)));
  return largest(max_i(max_i(top[0], top[1]), max_i(top[2], top[3])));
}

std::ptrdiff_t count_beyond(const float* x, const float* row_scale, std::ptrdiff_t n, float limit) {
  const Scaled input{x, row_scale, n};
  std::ptrdiff_t count = 0;
  for (std::ptrdiff_t i = 0; i < n; i += W)
    count += __builtin_popcount(mask_bits(greater(magnitude(input.at(i)), set(limit))));
  return count;
}

// How inputs become codes, in registers: what is stored between them might otherwise be `dac`.
struct Drive {
  F inverse, low, high;
  I digit;
  int shift;
  bool converts, slices;
  NC_INLINE explicit Drive(const Dac& dac)
      : inverse(set(dac.inverse)), low(set(-static_cast<float>(dac.top))),
        high(set(static_cast<float>(dac.top))), digit(set_i(dac.digit)), shift(dac.shift),
        converts(dac.top != 0), slices(dac.digit != 0) {}

  NC_INLINE I code(F x) const {
    const I q = round_even(min(max(x * inverse, low), high));
    if (!slices) return q;
    const I sign = shift_right_signed<31>(q);
    const I digits = shift_right_by((q ^ sign) - sign, shift) & digit;
    return (digits ^ sign) - sign;
  }
  // The input of a float product.
  NC_INLINE F value(F x) const { return converts ? to_float(code(x)) : x * inverse; }
};

// ---------------------------------------------------------------- weights

// Sums of an output's weights and of their squares, and how far its sums are to be expected to
// reach (reference.reach). 16 partial sums at every level, so that all have the same bits.
struct Moments {
  float sum = 0, squares = 0;
  NC_INLINE float reach() const {
    const float either = kRangeSigmas * __builtin_sqrtf(squares * (1.0f / 3));
    const float positive =
        (sum < 0 ? -sum : sum) * 0.5f + kRangeSigmas * __builtin_sqrtf(squares * (1.0f / 12));
    return either > positive ? either : positive;
  }
};

NC_INLINE float sum_of_16(const F (&a)[16 / W]) {
  alignas(64) float lanes[16];
  for (int k = 0; k < 16 / W; ++k) store(lanes + k * W, a[k]);
  for (int half = 8; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) lanes[k] = lanes[k] + lanes[k + half];
  return lanes[0];
}

// One output's weights of a tile, (positive - negative) inverse_span, and their peak.
NC_INLINE float weights_of(const float* positive, const float* negative, int rows,
                           float inverse_span, float* values, Moments& moments) {
  I top = set_i(0);
  F sum[16 / W], squares[16 / W];
  for (int k = 0; k < 16 / W; ++k) sum[k] = squares[k] = set(0.0f);
  for (int k = 0; k < rows; k += 16)
#pragma GCC unroll 4
    for (int part = 0; part < 16 / W; ++part) {
      const int i = k + part * W;
      if (i >= rows) break;
      F v = load_first(positive + i, rows - i);
      if (negative) v = v - load_first(negative + i, rows - i);
      v = v * set(inverse_span);
      store(values + i, v);
      top = max_i(top, bits_of_magnitude(v));
      sum[part] = sum[part] + v;
      squares[part] = squares[part] + v * v;
    }
  moments.sum = moments.sum + sum_of_16(sum);
  moments.squares = moments.squares + sum_of_16(squares);
  const std::int32_t bits = largest(top);
  float peak;
  __builtin_memcpy(&peak, &bits, sizeof peak);
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

constexpr int kWidest = kIntegerRows + 96;  // more than a tile's padded rows, not a power of 2

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

#include NOISYCELLS_PRODUCTS

float pack(const float* positive, const float* negative, std::ptrdiff_t ld, int columns, int rows,
           float inverse_span, int levels, void* panel, float* peak) {
  float reach = 0;
  if (!levels) {
    Moments moments[kGroup];
    for (int from = 0; from < rows; from += kIntegerRows) {
      const int n = rows - from < kIntegerRows ? rows - from : kIntegerRows;
      alignas(64) float values[kGroup * kWidest];
      for (int c = 0; c < kGroup; ++c) {
        float* to = values + c * kWidest;
        int k = 0;
        if (c < columns) {
          const std::ptrdiff_t at = c * ld + from;
          weights_of(positive + at, negative ? negative + at : nullptr, n, inverse_span, to,
                     moments[c]);
          k = (n + W - 1) / W * W;  // beyond the tile's rows, values are 0
        }
        for (; k < n + kFloatRowStep; k += W) store(to + k, set(0.0f));
      }
      arrange_float(values, from, n, rows, panel);
    }
    for (int c = 0; c < kGroup; ++c) {
      peak[c] = 1;
      const float r = moments[c].reach();
      reach = r > reach ? r : reach;
    }
    return reach;
  }
  const int padded = (rows + kRowStep - 1) / kRowStep * kRowStep;
  alignas(64) std::int16_t codes[kGroup * kWidest];
  alignas(64) float values[kWidest];
  for (int c = 0; c < kGroup; ++c) {
    std::int16_t* to = codes + c * kWidest;
    int k = 0;
    if (c < columns) {
      const std::ptrdiff_t at = c * ld;
      // The next output's weights lie in another page, where no hardware looks ahead.
      if (c + 1 < columns)
        for (int i = 0; i < rows; i += 16) {
          __builtin_prefetch(positive + at + ld + i);
          if (negative) __builtin_prefetch(negative + at + ld + i);
        }
      Moments moments;
      peak[c] = weights_of(positive + at, negative ? negative + at : nullptr, rows, inverse_span,
                           values, moments);
      const float r = moments.reach();
      reach = r > reach ? r : reach;
      const F inverse = set(inverse_of(peak[c], static_cast<float>(levels)));
      for (; k < rows; k += W)  // beyond the tile's rows, values are 0
        store_i16(to + k, weight_code(load(values + k), inverse, static_cast<float>(levels)));
    } else {
      peak[c] = 0;
    }
    for (; k < padded; k += W) store_i16(to + k, set_i(0));
  }
  arrange(codes, padded, levels, panel);
  return reach;
}

// ---------------------------------------------------------------- reading out

// The first n normals, at least, of the patch at `index`.
NC_INLINE void patch_normals(float* z, int n, const Draw& draw, std::int64_t index) {
  static_assert(kPatch % kBatch == 0, "whole batches");
  const auto high = static_cast<std::uint32_t>(index >> 34);
  const auto low = static_cast<std::uint32_t>(index >> 2);
  if (n >= kPatch) {
    for (std::uint32_t i = 0; i < kPatch; i += kBatch)
      emit_normals<kSets>(draw, high, low + i / 4, z + i);
    return;
  }
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(n); i += 4 * W)
    emit_normals<1>(draw, high, low + i / 4, z + i);
}

template <bool integer>
NC_INLINE F sum_at(const void* sums, std::ptrdiff_t i) {
  if constexpr (integer) return to_float(load_i(static_cast<const std::int32_t*>(sums) + i));
  return load(static_cast<const float*>(sums) + i);
}

struct Sums {
  const void *sums, *squares;
  const float *peak, *variance_peak;
};

template <bool integer>
NC_INLINE void read_as(const Sums from, int m, int columns, const Read read, const Draw& draw,
                       int noise_width, std::int64_t index, std::int64_t index_step, float* total,
                       std::uint8_t* inside, std::ptrdiff_t inside_stride) {
  alignas(64) float unit[kGroup], unit_variance[kGroup], z[kPatch];
  for (int c = 0; c < kGroup; c += W) {
    store(unit + c, load(from.peak + c) * set(read.unit));
    if (read.weight_noise)
      store(unit_variance + c, load(from.variance_peak + c) * set(read.unit_variance));
  }
  const F output_variance = set(read.noise * read.noise);
  const F top = set(read.top), bottom = set(-read.top);
  const bool noisy = read.output_noise || read.weight_noise;
  const int patch_rows = kPatch / noise_width;
  int row = patch_rows;  // of the patch
  const float* noise = z;
  for (int r = 0; r < m; ++r, ++row, noise += noise_width) {
    if (noisy && row == patch_rows) {
      patch_normals(z, (m - r) * noise_width, draw, index);
      index += index_step;
      row = 0;
      noise = z;
    }
    std::uint64_t bits = 0;
    const auto vector = [&](int c) __attribute__((always_inline)) {
      const std::ptrdiff_t i = r * kGroup + c;
      F u = sum_at<integer>(from.sums, i) * load(unit + c);
      if (read.weight_noise) {
        const F variance =
            fma(sum_at<integer>(from.squares, i), load(unit_variance + c), output_variance);
        u = fma(sqrt(variance), load(noise + c), u);
      } else if (read.output_noise) {
        u = fma(set(read.noise), load(noise + c), u);
      }
      if (read.top > 0) {
        const F t = u * set(read.inv_step);
        if (inside) bits |= std::uint64_t{mask_bits(greater(magnitude(t), top))} << c;
        u = to_float(round_even(min(max(t, bottom), top)));
      }
      store(total + i, fma(u, set(read.gain), load(total + i)));
    };
    if (columns == kGroup) {
#pragma GCC unroll 4
      for (int c = 0; c < kGroup; c += W) vector(c);
    } else {
      for (int c = 0; c < columns; c += W) vector(c);
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
          int noise_width, std::int64_t index, std::int64_t index_step, float* total,
          std::uint8_t* inside, std::ptrdiff_t inside_stride) {
  const Sums from{sums, squares, peak, variance_peak};
  if (integer)
    read_as<true>(from, m, columns, how, draw, noise_width, index, index_step, total, inside,
                  inside_stride);
  else
    read_as<false>(from, m, columns, how, draw, noise_width, index, index_step, total, inside,
                   inside_stride);
}

void finish(const float* total, int m, int columns, const float* scale, const float* bias,
            const float* ranges, float* y, std::ptrdiff_t stride) {
  for (int r = 0; r < m; ++r) {
    const F range = set(ranges[r]);
    for (int c = 0; c < columns; c += W) {
      const std::ptrdiff_t left = columns - c;
      const F scaled = load(total + r * kGroup + c) * load_first(scale + c, left);
      store_first(y + r * stride + c,
                  bias ? fma(scaled, range, load_first(bias + c, left)) : scaled * range, left);
    }
  }
}
