// Cells as noisy channels (reference.sample). Blocks of at most kBlock elements.
#pragma once

#include "rng-inl.h"
#include "vector-inl.h"

// The channel's table: in memory, or in registers where the level can and the table is small,
// as those of measured devices are.
struct LargeTable {
  const float* rows;
  NC_INLINE void lookup(const std::uint32_t* twice, F& m, F& dm, F& s, F& ds) const {
    lookup_rows4(rows, twice, m, dm, s, ds);
  }
};

// Calls f(table).
template <class Body>
NC_INLINE void with_table(const ChannelTables& c, Body f) {
#if defined(__AVX512F__)
  if (c.columns) return f(SmallTable(c.columns));
#endif
  f(LargeTable{c.table});
}

template <class Table>
NC_INLINE void moments(const Table& table, const Rows& rows, std::ptrdiff_t i,
                       const ChannelTables& c, F& mean, F& std, F* read_std) {
  const F f = load(rows.fraction + i);
  F m, dm, s, ds;
  table.lookup(rows.twice + i, m, dm, s, ds);
  mean = fma(f, dm, m);
  std = fma(f, ds, s);
  if (read_std) {
    F r, dr;
    lookup_rows2(c.read, rows.twice + i, r, dr);
    *read_std = fma(f, dr, r);
  }
}

// x is copied where the last vector would read past its end.
struct Padded {
  alignas(64) float tail[16];
  const float* x;
  std::ptrdiff_t n, whole;
  NC_INLINE Padded(const float* x_, std::ptrdiff_t n_) : x(x_), n(n_), whole(n_ / W * W) {
    for (std::ptrdiff_t i = 0; i < W; ++i) tail[i] = whole + i < n ? x[whole + i] : 0.0f;
  }
  NC_INLINE F at(std::ptrdiff_t i) const { return load(i < whole ? x + i : tail); }
};

NC_INLINE void find_rows(const float* x, std::ptrdiff_t n, const ChannelTables& c, Rows& rows) {
  const Padded input(x, n);
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    rows.put(i, (input.at(i) - set(c.x0)) * set(c.inv_dx), c.n);
  }
}

// Normals; n floats at to_read and to_write come meanwhile, a few lines at a time: fetched all
// at once they would wait for each other.
NC_INLINE void normals_while_fetching(float* out, std::ptrdiff_t n, const Draw& draw,
                                      std::int64_t index, const float* to_read, float* to_write) {
  for (std::ptrdiff_t i = 0; i < n; i += kBatch) {
    const std::ptrdiff_t part = n - i < kBatch ? n - i : kBatch;
    prefetch(to_read + i, to_write + i, part * 4);
    normals(out + i, part, draw, index + i);
  }
}

// One draw of N(mean, std^2 / cells).
NC_INLINE void sample_collapsed(const float* x, float* y, std::ptrdiff_t n, const float* scale,
                                int scale_stride, const ChannelTables& c, const Keys& keys,
                                std::int64_t index) {
  alignas(64) float z[kRoom], zr[kRoom], zd[kRoom];
  normals_while_fetching(z, n, {keys.chip, keys.stream, kProgram, 0}, index, x, y);
  if (c.read) normals(zr, n, {keys.read, keys.stream, kRead, 0}, index);
  if (c.d2d > 0) normals(zd, n, {keys.chip, keys.stream, kD2D, 0}, index);
  Rows rows;
  find_rows(x, n, c, rows);
  const F uniform = set(scale[0]);
  with_table(c, [&](const auto& table) __attribute__((always_inline)) {
    const auto one = [&](std::ptrdiff_t i) __attribute__((always_inline)) {
      const F k = scale_stride ? load(scale + i) : uniform;
      F mean, std, read_std;
      moments(table, rows, i, c, mean, std, c.read ? &read_std : nullptr);
      F v = fma(std * k, load(z + i), mean);
      if (c.read) v = fma(read_std * k, load(zr + i), v);
      if (c.d2d > 0) v = fma(set(c.d2d), load(zd + i), v);
      return v;
    };
    std::ptrdiff_t i = 0;
    for (; i + W <= n; i += W) {
      store(y + i, one(i));
    }
    if (i < n) {
      alignas(64) float last[W];
      store(last, one(i));
      for (std::ptrdiff_t k = 0; i + k < n; ++k) y[i + k] = last[k];
    }
  });
}

// A block being read cell by cell: what the cells of an element share, one cell's draws, sums.
// Sums come first: arrays are a page and a line apart, and a load whose address equals an
// earlier store's in the low 12 bits waits for it.
struct Literal {
  alignas(64) float total[kRoom];
  alignas(64) float mean[kRoom], std[kRoom], read_std[kRoom], d2d[kRoom];
  alignas(64) float program[kRoom], read[kRoom];
  alignas(64) std::uint32_t word[kRoom];
};

// W elements' values for the same cell.
struct OneCell {
  const Literal& b;
  std::ptrdiff_t i;
  NC_INLINE F mean() const { return load(b.mean + i); }
  NC_INLINE F std() const { return load(b.std + i); }
  NC_INLINE F read_std() const { return load(b.read_std + i); }
  NC_INLINE F d2d() const { return load(b.d2d + i); }
  NC_INLINE F program() const { return load(b.program + i); }
  NC_INLINE F read() const { return load(b.read + i); }
  NC_INLINE I word() const { return load_i(reinterpret_cast<const std::int32_t*>(b.word) + i); }
};

// One element's values for W cells from `cell` on.
struct OneElement {
  const Literal& b;
  std::ptrdiff_t i;
  const Keys& keys;
  std::int64_t index;
  std::uint32_t cell;
  NC_INLINE F mean() const { return set(b.mean[i]); }
  NC_INLINE F std() const { return set(b.std[i]); }
  NC_INLINE F read_std() const { return set(b.read_std[i]); }
  NC_INLINE F d2d() const { return set(b.d2d[i]); }
  NC_INLINE F program() const {
    return normals_over_cells({keys.chip, keys.stream, kProgram, cell}, index);
  }
  NC_INLINE F read() const {
    return normals_over_cells({keys.read, keys.stream, kRead, cell}, index);
  }
  NC_INLINE I word() const {
    return words_over_cells({keys.chip, keys.stream, kStuck, cell}, index);
  }
};

template <class Values>
NC_INLINE F read_cells(const Values& of, const ChannelTables& c) {
  F mean = of.mean(), std = of.std(), read_std = c.read ? of.read_std() : mean;
  if (c.stuck_either > 0) {
    const I word = of.word();
    const float* first = c.table;
    const float* last = c.table + 4 * static_cast<std::ptrdiff_t>(c.n - 1);
    const M low = less_unsigned(word, set_i(static_cast<std::int32_t>(c.stuck_low)));
    const M either = less_unsigned(word, set_i(static_cast<std::int32_t>(c.stuck_either)));
    mean = select(low, set(first[0]), select(either, set(last[0]), mean));
    std = select(low, set(first[2]), select(either, set(last[2]), std));
    if (c.read) {
      const float* read_last = c.read + 2 * static_cast<std::ptrdiff_t>(c.n - 1);
      read_std = select(low, set(c.read[0]), select(either, set(read_last[0]), read_std));
    }
  }
  F v = fma(std, of.program(), mean);
  if (c.read) v = fma(read_std, of.read(), v);
  if (c.d2d > 0) v = fma(set(c.d2d), of.d2d(), v);
  if (c.adc.levels > 0) {
    const F t = (v - set(c.adc.lo)) * set(c.adc.inv_step);
    const F top = set(static_cast<float>(c.adc.levels - 1));
    const F code = to_float(round_even(min(max(t, set(0.0f)), top)));
    v = fma(code, set(c.adc.step), set(c.adc.lo));
  }
  return v;
}

// The moments of each element, and sums of 0.
void begin_literal(const float* x, std::ptrdiff_t n, const ChannelTables& c, Literal& b) {
  Rows rows;
  find_rows(x, n, c, rows);
  with_table(c, [&](const auto& table) __attribute__((always_inline)) {
    for (std::ptrdiff_t i = 0; i < n; i += W) {
      F mean, std, read_std;
      moments(table, rows, i, c, mean, std, c.read ? &read_std : nullptr);
      store(b.mean + i, mean);
      store(b.std + i, std);
      if (c.read) store(b.read_std + i, read_std);
      store(b.total + i, set(0.0f));
    }
  });
}

// Every cell drawn. A cell number that most elements have is drawn for all of them at once; the
// rest (elements with many cells are rare in adaptive redundancy) element by element, a vector
// of cells at a time. Which way does not change the numbers.
void sample_literal(const float* x, float* y, std::ptrdiff_t n, const std::int32_t* cells,
                    int cells_stride, const ChannelTables& c, const Keys& keys,
                    std::int64_t index) {
  Literal b;
  begin_literal(x, n, c, b);
  if (c.d2d > 0) normals(b.d2d, n, {keys.chip, keys.stream, kD2D, 0}, index);
  const bool uniform = cells_stride == 0;
  alignas(64) std::int32_t count[kRoom];
  std::int32_t most = cells[0];
  for (std::ptrdiff_t i = 0; i < n && !uniform; ++i) {
    count[i] = cells[i];
    most = count[i] > most ? count[i] : most;
  }
  // All that read_cells does for most channels, in a loop without its questions.
  const bool plain = !c.read && c.stuck_either == 0 && !(c.d2d > 0) && c.adc.levels == 0;
  std::int32_t cell = 0;
  for (; cell < most; ++cell) {
    std::ptrdiff_t live = uniform ? n : 0;
    for (std::ptrdiff_t i = 0; i < n && !uniform; ++i) live += count[i] > cell;
    if (live * 4 < n) break;
    const std::uint32_t k = static_cast<std::uint32_t>(cell);
    const Draw program = {keys.chip, keys.stream, kProgram, k};
    if (cell == 0)
      normals_while_fetching(b.program, n, program, index, x + n, y);
    else
      normals(b.program, n, program, index);
    if (c.read) normals(b.read, n, {keys.read, keys.stream, kRead, k}, index);
    if (c.stuck_either > 0) words(b.word, n, {keys.chip, keys.stream, kStuck, k}, index);
    if (plain && live == n) {
      for (std::ptrdiff_t i = 0; i < n; i += W) {
        const F v = fma(load(b.std + i), load(b.program + i), load(b.mean + i));
        store(b.total + i, load(b.total + i) + v);
      }
      continue;
    }
    for (std::ptrdiff_t i = 0; i < n; i += W) {
      const F total = load(b.total + i);
      const F next = total + read_cells(OneCell{b, i}, c);
      store(b.total + i,
            live == n ? next : select(greater_i(load_i(count + i), set_i(cell)), next, total));
    }
  }
  for (std::ptrdiff_t i = 0; i < n && cell < most; ++i) {
    for (std::int32_t first = cell; first < count[i]; first += W) {
      alignas(64) float v[W];
      store(v, read_cells(OneElement{b, i, keys, index + i, static_cast<std::uint32_t>(first)}, c));
      const std::int32_t lanes = count[i] - first < W ? count[i] - first : W;
      for (std::int32_t lane = 0; lane < lanes; ++lane) b.total[i] += v[lane];
    }
  }
  const float inverse = 1.0f / static_cast<float>(cells[0]);
  for (std::ptrdiff_t i = 0; i < n; ++i)
    y[i] = b.total[i] * (uniform ? inverse : 1.0f / static_cast<float>(count[i]));
}

void sample(const float* x, float* y, std::ptrdiff_t n, const std::int32_t* cells, int cells_stride,
            const ChannelTables& channel, const Keys& keys, std::int64_t index, bool literal) {
  if (n <= 0) return;
  if (literal) {
    sample_literal(x, y, n, cells, cells_stride, channel, keys, index);
    return;
  }
  alignas(64) float scale[kRoom];
  const std::ptrdiff_t scales = cells_stride ? n : 1;
  for (std::ptrdiff_t i = 0; i < scales; ++i)
    scale[i] = 1.0f / __builtin_sqrtf(static_cast<float>(cells[i]));
  sample_collapsed(x, y, n, scale, cells_stride, channel, keys, index);
}
