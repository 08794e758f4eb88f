// Digests of blocks of words (reference.block_digests), to tell arrays apart by their content.
#pragma once

#include "vector-inl.h"

NC_INLINE std::uint64_t sum_of_lanes(I a) {
  alignas(64) std::int32_t lanes[W];
  store_i(lanes, a);
  std::uint64_t sum = 0;
  for (int i = 0; i < W; i += 2) {
    std::uint64_t lane;
    __builtin_memcpy(&lane, lanes + i, sizeof lane);
    sum += lane;
  }
  return sum;
}

void digest(const void* bytes, const std::int32_t* key, std::uint64_t* out) {
  constexpr int kApart = 4;  // words, from one key to the next
  const auto* words = static_cast<const std::int32_t*>(bytes);
  I first = set_i(0), second = set_i(0);
  for (std::ptrdiff_t i = 0; i < kBlock; i += W) {
    const I word = load_i(words + i);
    const I a = word + load_i(key + i), b = word + load_i(key + i + kApart);
    first = add_64(first, multiply_even(a, high_half(a)));
    second = add_64(second, multiply_even(b, high_half(b)));
  }
  out[0] = sum_of_lanes(first);
  out[1] = sum_of_lanes(second);
}
