// Table look-ups one lane at a time, for the levels without permutes or gathers.
#pragma once

NC_INLINE F lookup8(const float* table, I index) {
  alignas(16) std::int32_t i[W];
  store_i(i, index);
  alignas(16) float r[W];
  for (int k = 0; k < W; ++k) r[k] = table[i[k]];
  return load(r);
}
NC_INLINE I lookup8_i(const std::int32_t* table, I index) {
  alignas(16) std::int32_t i[W];
  store_i(i, index);
  for (int k = 0; k < W; ++k) i[k] = table[i[k]];
  return load_i(i);
}
NC_INLINE void lookup_rows4(const float* table, const std::uint32_t* twice, F& c0, F& c1, F& c2,
                            F& c3) {
  const auto row = [&](int k) { return load(table + 2 * static_cast<std::size_t>(twice[k])); };
  const F r0 = row(0), r1 = row(1), r2 = row(2), r3 = row(3);
  const F a = unpack_low(r0, r1), b = unpack_low(r2, r3);
  const F c = unpack_high(r0, r1), d = unpack_high(r2, r3);
  c0 = unpack_low_pairs(a, b);
  c1 = unpack_high_pairs(a, b);
  c2 = unpack_low_pairs(c, d);
  c3 = unpack_high_pairs(c, d);
}
NC_INLINE void lookup_rows2(const float* table, const std::uint32_t* twice, F& c0, F& c1) {
  alignas(16) float a[W], b[W];
  for (int k = 0; k < W; ++k) {
    a[k] = table[twice[k]];
    b[k] = table[twice[k] + 1];
  }
  c0 = load(a);
  c1 = load(b);
}
