// Cells as noisy channels (reference.sample). Blocks of at most kBlock elements.

// Buffers may be written up to a whole vector past n.
constexpr std::ptrdiff_t kRoom = kBlock + 16;

// Rows of the channel's table: from memory, or from registers where the level can and the table
// is small, as those of measured devices are.
struct Rows {
  const float* table;
  NC_INLINE explicit Rows(const ChannelTables& c) : table(c.table) {}
  NC_INLINE void lookup(I i, F& m, F& dm, F& s, F& ds) const {
    lookup_rows4(table, i, m, dm, s, ds);
  }
};

// Calls f(rows).
template <class Body>
NC_INLINE void with_rows(const ChannelTables& c, Body f) {
#if defined(__AVX512F__)
  if (c.columns) return f(SmallTable(c.columns));
#endif
  f(Rows(c));
}

template <class Table>
NC_INLINE void moments(const Table& rows, F x, const ChannelTables& c, F& mean, F& std,
                       F* read_std) {
  F f = (x - set(c.x0)) * set(c.inv_dx);
  const I i = interpolate(f, c.n);
  F m, dm, s, ds;
  rows.lookup(i, m, dm, s, ds);
  mean = fma(f, dm, m);
  std = fma(f, ds, s);
  if (read_std) {
    F r, dr;
    lookup_rows2(c.read, i, r, dr);
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

struct Cells {
  const std::int32_t* count;
  int stride;
  NC_INLINE std::int32_t operator[](std::ptrdiff_t i) const { return count[i * stride]; }
};

// One draw of N(mean, std^2 / cells).
NC_INLINE void sample_collapsed(const float* x, float* y, std::ptrdiff_t n, const float* scale,
                                int scale_stride, const ChannelTables& c, const Keys& keys,
                                std::int64_t index) {
  alignas(64) float z[kRoom], zr[kRoom], zd[kRoom];
  normals(z, n, {keys.chip, keys.stream, kProgram, 0}, index);
  if (c.read) normals(zr, n, {keys.read, keys.stream, kRead, 0}, index);
  if (c.d2d > 0) normals(zd, n, {keys.chip, keys.stream, kD2D, 0}, index);
  const Padded input(x, n);
  const F uniform = set(scale[0]);
  with_rows(c, [&](const auto& rows) __attribute__((always_inline)) {
    const auto one = [&](std::ptrdiff_t i) __attribute__((always_inline)) {
      const F k = scale_stride ? load(scale + i) : uniform;
      F mean, std, read_std;
      moments(rows, input.at(i), c, mean, std, c.read ? &read_std : nullptr);
      F v = fma(std * k, load(z + i), mean);
      if (c.read) v = fma(read_std * k, load(zr + i), v);
      if (c.d2d > 0) v = fma(set(c.d2d), load(zd + i), v);
      return v;
    };
    std::ptrdiff_t i = 0;
    for (; i < input.whole; i += W) {
      prefetch_to_read(x + i);
      prefetch_to_write(y + i, W * 4);
      store(y + i, one(i));
    }
    if (i < n) {
      alignas(64) float last[W];
      store(last, one(i));
      for (std::ptrdiff_t k = 0; i + k < n; ++k) y[i + k] = last[k];
    }
  });
}

// What every cell of an element shares.
struct Literal {
  alignas(64) float mean[kRoom], std[kRoom], read_std[kRoom], zd[kRoom], total[kRoom];
};

// Adds one cell of W elements to their totals. z, zr, word: this cell's draws.
NC_INLINE F one_cell(F mean, F std, F read_std, F zd, F z, F zr, I word, const ChannelTables& c) {
  if (c.stuck_either > 0) {
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
  F v = fma(std, z, mean);
  if (c.read) v = fma(read_std, zr, v);
  if (c.d2d > 0) v = fma(set(c.d2d), zd, v);
  if (c.adc.levels > 0) {
    const F t = (v - set(c.adc.lo)) * set(c.adc.inv_step);
    const F top = set(static_cast<float>(c.adc.levels - 1));
    const F code = to_float(round_even(min(max(t, set(0.0f)), top)));
    v = fma(code, set(c.adc.step), set(c.adc.lo));
  }
  return v;
}

// Every cell drawn. A cell number that most elements have is drawn for all of them at once; the
// rest (elements with many cells are rare in adaptive redundancy) element by element, a vector
// of cells at a time. Which way does not change the numbers.
void sample_literal(const float* x, float* y, std::ptrdiff_t n, Cells cells,
                    const ChannelTables& c, const Keys& keys, std::int64_t index) {
  Literal b;
  alignas(64) float z[kRoom], zr[kRoom];
  alignas(64) std::uint32_t word[kRoom];
  alignas(64) std::int32_t count[kRoom];
  const bool stuck = c.stuck_either > 0;
  const Padded input(x, n);
  if (c.d2d > 0) normals(b.zd, n, {keys.chip, keys.stream, kD2D, 0}, index);
  std::int32_t most = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    count[i] = cells[i];
    most = count[i] > most ? count[i] : most;
  }
  for (std::ptrdiff_t i = n; i < n + 16; ++i) count[i] = 0;
  with_rows(c, [&](const auto& rows) __attribute__((always_inline)) {
    for (std::ptrdiff_t i = 0; i < n; i += W) {
      F mean, std, read_std = set(0.0f);
      moments(rows, input.at(i), c, mean, std, c.read ? &read_std : nullptr);
      store(b.mean + i, mean);
      store(b.std + i, std);
      store(b.read_std + i, read_std);
      store(b.total + i, set(0.0f));
    }
  });

  std::int32_t cell = 0;
  for (; cell < most; ++cell) {
    std::ptrdiff_t live = 0;
    for (std::ptrdiff_t i = 0; i < n; ++i) live += count[i] > cell;
    if (live * 4 < n) break;
    const std::uint32_t k = static_cast<std::uint32_t>(cell);
    normals(z, n, {keys.chip, keys.stream, kProgram, k}, index);
    if (c.read) normals(zr, n, {keys.read, keys.stream, kRead, k}, index);
    if (stuck) words(word, n, {keys.chip, keys.stream, kStuck, k}, index);
    for (std::ptrdiff_t i = 0; i < n; i += W) {
      const F v = one_cell(load(b.mean + i), load(b.std + i), load(b.read_std + i),
                           load(b.zd + i), load(z + i), load(zr + i),
                           load_i(reinterpret_cast<const std::int32_t*>(word) + i), c);
      const F total = load(b.total + i);
      store(b.total + i, select(greater_i(load_i(count + i), set_i(cell)), total + v, total));
    }
  }
  for (std::ptrdiff_t i = 0; i < n && cell < most; ++i) {
    for (std::int32_t first = cell; first < count[i]; first += W) {
      const std::uint32_t k = static_cast<std::uint32_t>(first);
      const F zero = set(0.0f);
      alignas(64) float v[W];
      store(v, one_cell(
          set(b.mean[i]), set(b.std[i]), set(b.read_std[i]), set(b.zd[i]),
          normals_over_cells({keys.chip, keys.stream, kProgram, k}, index + i),
          c.read ? normals_over_cells({keys.read, keys.stream, kRead, k}, index + i) : zero,
          stuck ? words_over_cells({keys.chip, keys.stream, kStuck, k}, index + i) : set_i(0), c));
      const std::int32_t lanes = count[i] - first < W ? count[i] - first : W;
      for (std::int32_t lane = 0; lane < lanes; ++lane) b.total[i] += v[lane];
    }
  }
  for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = b.total[i] / static_cast<float>(count[i]);
}

void sample(const float* x, float* y, std::ptrdiff_t n, const std::int32_t* cells,
            int cells_stride, const ChannelTables& channel, const Keys& keys, std::int64_t index,
            bool literal) {
  if (n <= 0) return;
  if (literal) {
    sample_literal(x, y, n, {cells, cells_stride}, channel, keys, index);
    return;
  }
  alignas(64) float scale[kRoom];
  const std::ptrdiff_t scales = cells_stride ? n : 1;
  for (std::ptrdiff_t i = 0; i < scales; ++i)
    scale[i] = 1.0f / __builtin_sqrtf(static_cast<float>(cells[i]));
  sample_collapsed(x, y, n, scale, cells_stride, channel, keys, index);
}
