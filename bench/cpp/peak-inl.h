// The most that products can reach: multiply-adds in registers, enough of them under way to hide
// how long each takes. Each feeds on its own result, so that none can be left out.

constexpr int kUnderWay = 12;

NC_INLINE std::int64_t spin_float(std::int64_t rounds, float* numbers) {
  F v[kUnderWay];
  for (int i = 0; i < kUnderWay; ++i) v[i] = load(numbers + i);
  const F factor = load(numbers + W), term = load(numbers + 2 * W);
  for (std::int64_t k = 0; k < rounds; ++k)
#pragma GCC unroll 12
    for (int i = 0; i < kUnderWay; ++i) v[i] = multiply_add(v[i], factor, term);
  for (int i = 1; i < kUnderWay; ++i) v[0] = v[0] + v[i];
  store(numbers, v[0]);
  return rounds * kUnderWay * W * 2;
}

#if defined(__AMX_INT8__)
// A product of a 16-bit weight takes two of 8 bits, so half of these count.
NC_INLINE std::int64_t spin_integer(std::int64_t rounds, float* numbers) {
  __asm__ volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, numbers, 64);
  _tile_loadd(5, numbers, 64);
  _tile_loadd(6, numbers, 64);
  _tile_loadd(7, numbers, 64);
  for (std::int64_t k = 0; k < rounds; ++k) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_stored(0, numbers, 64);
  return rounds * 4 * 16 * 16 * 64;
}
#else
NC_INLINE std::int64_t spin_integer(std::int64_t rounds, float* numbers) {
  I v[kUnderWay];
  for (int i = 0; i < kUnderWay; ++i) v[i] = as_int(load(numbers + i));
  const I factor = set_i(-1) ^ set_i(0xFFFF);  // v minus its upper half: never overflows
  for (std::int64_t k = 0; k < rounds; ++k)
#pragma GCC unroll 12
    for (int i = 0; i < kUnderWay; ++i) v[i] = multiply_add_pairs(v[i], factor, v[i]);
  for (int i = 1; i < kUnderWay; ++i) v[0] = v[0] ^ v[i];
  store(numbers, as_float(v[0]));
  return rounds * kUnderWay * W * 4;
}
#endif
