// Philox4x32-10 and Box-Muller (reference.philox4x32, reference.box_muller).
//
// A vector holds one Philox word of W / 2 blocks, in the low halves of its 64-bit lanes: the
// widening product then needs no shuffles. Two such groups, A and B, make a set of W blocks,
// 4 W outputs. Which lane works on which block is free, and chosen so that in-lane unpacks
// put the outputs in order. Several sets run interleaved to hide the multiplier's latency.
#pragma once

#include "vector-inl.h"

struct LaneBlocks {
  alignas(64) std::int32_t a[W], b[W];  // even lanes matter
};
constexpr LaneBlocks lane_blocks() {
  LaneBlocks blocks{};
  constexpr int lanes = W / 4;  // of 128 bits
  for (int lane = 0; lane < lanes; ++lane)
    for (int j = 0; j < 2; ++j) {
      blocks.a[2 * (2 * lane + j)] = 2 * j * lanes + lane;
      blocks.b[2 * (2 * lane + j)] = (2 * j + 1) * lanes + lane;
    }
  return blocks;
}
constexpr LaneBlocks kLaneBlocks = lane_blocks();

// G groups at once; only even lanes matter, odd ones hold garbage.
template <int G>
NC_INLINE void philox_rounds(I (&x0)[G], I (&x1)[G], I (&x2)[G], I (&x3)[G], std::uint32_t k0,
                             std::uint32_t k1, int rounds) {
  const I m0 = set_i(static_cast<std::int32_t>(0xD2511F53u));
  const I m1 = set_i(static_cast<std::int32_t>(0xCD9E8D57u));
#pragma GCC unroll 10
  for (int r = 0; r < rounds; ++r) {
    const I key0 =
        set_i(static_cast<std::int32_t>(k0 + static_cast<std::uint32_t>(r) * 0x9E3779B9u));
    const I key1 =
        set_i(static_cast<std::int32_t>(k1 + static_cast<std::uint32_t>(r) * 0xBB67AE85u));
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) {
      const I p0 = multiply_even(x0[g], m0);
      const I p1 = multiply_even(x2[g], m1);
      x0[g] = xor3(high_half(p1), x1[g], key0);
      x2[g] = xor3(high_half(p0), x3[g], key1);
      x1[g] = p1;
      x3[g] = p0;
    }
  }
}

// Words 0..3 of the S W blocks from (high, low) on, in lane order. `high` is a scalar so that
// the compiler can take what depends on it alone out of the caller's loop.
template <int S>
NC_INLINE void philox_sets(const Draw& draw, std::uint32_t high, std::uint32_t low,
                           I (&words)[S][4]) {
  I x0[2 * S], x1[2 * S], x2[2 * S], x3[2 * S];
  const I a = load_i(kLaneBlocks.a);
  const I b = load_i(kLaneBlocks.b);
#pragma GCC unroll 4
  for (int s = 0; s < S; ++s) {
    const I first = set_i(static_cast<std::int32_t>(low + static_cast<std::uint32_t>(s * W)));
    x0[2 * s] = first + a;
    x0[2 * s + 1] = first + b;
    for (int g = 2 * s; g < 2 * s + 2; ++g) {
      x1[g] = set_i(static_cast<std::int32_t>(draw.purpose << 28 | draw.cell << 12 | high));
      x2[g] = set_i(static_cast<std::int32_t>(draw.stream));
      x3[g] = set_i(static_cast<std::int32_t>(draw.stream >> 32));
    }
  }
  philox_rounds<2 * S>(x0, x1, x2, x3, static_cast<std::uint32_t>(draw.seed),
                       static_cast<std::uint32_t>(draw.seed >> 32), 10);
#pragma GCC unroll 4
  for (int s = 0; s < S; ++s) {
    words[s][0] = join_even(x0[2 * s], x0[2 * s + 1]);
    words[s][1] = join_even(x1[2 * s], x1[2 * s + 1]);
    words[s][2] = join_even(x2[2 * s], x2[2 * s + 1]);
    words[s][3] = join_even(x3[2 * s], x3[2 * s + 1]);
  }
}

// Lane order -> element order.
NC_INLINE void store_in_order(F w0, F w1, F w2, F w3, float* out) {
  const F a = unpack_low(w0, w1), b = unpack_low(w2, w3);
  const F c = unpack_high(w0, w1), d = unpack_high(w2, w3);
  store(out, unpack_low_pairs(a, b));
  store(out + W, unpack_high_pairs(a, b));
  store(out + 2 * W, unpack_low_pairs(c, d));
  store(out + 3 * W, unpack_high_pairs(c, d));
}

template <int n>
NC_INLINE F polynomial(F x, const float (&c)[n]) {
  F y = set(c[n - 1]);
#pragma GCC unroll 16
  for (int k = n - 2; k >= 0; --k) y = fma(y, x, set(c[k]));
  return y;
}

NC_INLINE void box_muller(I radius_word, I angle_word, F& z0, F& z1) {
  // Coefficients and their errors: reference.py.
  constexpr float log_c[] = {-0x1.0000000p+1f, 0x1.fffff80p-1f,  -0x1.5557920p-1f,
                             0x1.0005700p-1f,  -0x1.98b7480p-2f, 0x1.5332b00p-2f,
                             -0x1.3239060p-2f, 0x1.263b580p-2f,  -0x1.65435a0p-3f};
  constexpr float sin_c[] = {-0x1.5555460p-3f, 0x1.1107600p-7f, -0x1.994e860p-13f};
  constexpr float cos_c[] = {-0x1.ffffba0p-2f, 0x1.553f940p-5f, -0x1.6475400p-10f};
  constexpr float minus_2_ln2 = -1.38629436111989061883f;
  constexpr float pi_2_31 = 1.46291807926715968105e-9f;

  const F u = fma(to_float(shift_right<1>(radius_word)), set(0x1p-31f), set(0x1p-32f));
  const I bits = as_int(u);
  const I exponent = shift_right_signed<23>(bits - set_i(0x3F3504F3));
  const F f = as_float(bits - shift_left<23>(exponent)) - set(1.0f);
  const F square = fma(to_float(exponent), set(minus_2_ln2), f * polynomial(f, log_c));
  const F radius = sqrt(square);

  const I turned = angle_word + set_i(1 << 29);
  const I rest = (turned & set_i(0x3FFFFFFF)) - set_i(1 << 29);
  const F a = to_float(rest) * set(pi_2_31);
  const F a2 = a * a;
  const F s = fma(a * a2, polynomial(a2, sin_c), a);
  const F c = fma(a2, polynomial(a2, cos_c), set(1.0f));
  const M swap = any_bit(turned, set_i(1 << 30));
  const I sign = set_i(INT32_MIN);
  z0 = radius * select_sign(select(swap, s, c), (turned + set_i(1 << 30)) & sign);
  z1 = radius * select_sign(select(swap, c, s), turned & sign);
}

// out[0 .. 4 W S) from the blocks at (high, low).
template <int S>
NC_INLINE void emit_words(const Draw& draw, std::uint32_t high, std::uint32_t low, float* out) {
  I w[S][4];
  philox_sets<S>(draw, high, low, w);
#pragma GCC unroll 4
  for (int s = 0; s < S; ++s)
    store_in_order(as_float(w[s][0]), as_float(w[s][1]), as_float(w[s][2]), as_float(w[s][3]),
                   out + 4 * W * s);
}
template <int S>
NC_INLINE void emit_normals(const Draw& draw, std::uint32_t high, std::uint32_t low, float* out) {
  I w[S][4];
  philox_sets<S>(draw, high, low, w);
#pragma GCC unroll 4
  for (int s = 0; s < S; ++s) {
    F z[4];
    box_muller(w[s][0], w[s][1], z[0], z[1]);
    box_muller(w[s][2], w[s][3], z[2], z[3]);
    store_in_order(z[0], z[1], z[2], z[3], out + 4 * W * s);
  }
}

// Elements index .. index + n - 1 of a draw, for any index and n. emit(high, low, out) fills a
// whole batch of kBatch elements from block number high 2^32 + low.
constexpr int kSets = W == 16 ? 4 : 2;
constexpr std::ptrdiff_t kBatch = 4 * W * kSets;

template <class Emit>
NC_INLINE void fill(float* out, std::ptrdiff_t n, std::int64_t index, Emit emit) {
  alignas(64) float batch[kBatch];
  while (n > 0) {
    // Up to where the block number's high word changes.
    const std::uint32_t high = static_cast<std::uint32_t>(index >> 34);
    std::uint32_t low = static_cast<std::uint32_t>(index >> 2);
    const std::int64_t here = (std::int64_t{1} << 34) - (index & ((std::int64_t{1} << 34) - 1));
    std::ptrdiff_t left = n < here ? n : here;
    n -= left;
    index += left;
    const std::ptrdiff_t skip = (index - left) % 4;
    if (skip != 0) {
      emit(high, low, batch);
      const std::ptrdiff_t take = left < kBatch - skip ? left : kBatch - skip;
      __builtin_memcpy(out, batch + skip, static_cast<std::size_t>(take) * 4);
      out += take;
      left -= take;
      low += kBatch / 4;
    }
    for (; left >= kBatch; left -= kBatch, out += kBatch, low += kBatch / 4) {
      prefetch_to_write(out, kBatch * 4);
      emit(high, low, out);
    }
    if (left > 0) {
      emit(high, low, batch);
      __builtin_memcpy(out, batch, static_cast<std::size_t>(left) * 4);
      out += left;
    }
  }
}

// Words 0..3 of one block for cells draw.cell .. draw.cell + W - 1, in lane order.
NC_INLINE void philox_cells(const Draw& draw, std::int64_t block, I (&words)[4]) {
  // Word 1 of the counter steps by 1 << 12 a cell; even lanes hold it, see the two groups.
  alignas(64) std::int32_t step[2][W];
  for (int lane = 0; lane < W; ++lane) {
    step[0][lane] = (lane & ~1) << 12;
    step[1][lane] = (lane | 1) << 12;
  }
  const std::uint32_t word1 = draw.purpose << 28 | draw.cell << 12 |
                              static_cast<std::uint32_t>(static_cast<std::uint64_t>(block) >> 32);
  I x0[2], x1[2], x2[2], x3[2];
  for (int g = 0; g < 2; ++g) {
    x0[g] = set_i(static_cast<std::int32_t>(block));
    x1[g] = set_i(static_cast<std::int32_t>(word1)) + load_i(step[g]);
    x2[g] = set_i(static_cast<std::int32_t>(draw.stream));
    x3[g] = set_i(static_cast<std::int32_t>(draw.stream >> 32));
  }
  philox_rounds<2>(x0, x1, x2, x3, static_cast<std::uint32_t>(draw.seed),
                   static_cast<std::uint32_t>(draw.seed >> 32), 10);
  words[0] = join_even(x0[0], x0[1]);
  words[1] = join_even(x1[0], x1[1]);
  words[2] = join_even(x2[0], x2[1]);
  words[3] = join_even(x3[0], x3[1]);
}

// One element's draws for cells draw.cell .. draw.cell + W - 1.
I words_over_cells(const Draw& draw, std::int64_t index) {
  I w[4];
  philox_cells(draw, index / 4, w);
  return w[index % 4];
}
F normals_over_cells(const Draw& draw, std::int64_t index) {
  I w[4];
  philox_cells(draw, index / 4, w);
  const int pair = static_cast<int>(index % 4 / 2) * 2;
  F z[2];
  box_muller(w[pair], w[pair + 1], z[0], z[1]);
  return z[index % 2];
}

void philox(const std::uint32_t* counter, const std::uint32_t* key, int rounds, std::ptrdiff_t n,
            std::uint32_t* out) {
  for (std::ptrdiff_t i = 0; i < n; ++i, counter += 4, key += 2, out += 4) {
    I x0[1] = {set_i(static_cast<std::int32_t>(counter[0]))};
    I x1[1] = {set_i(static_cast<std::int32_t>(counter[1]))};
    I x2[1] = {set_i(static_cast<std::int32_t>(counter[2]))};
    I x3[1] = {set_i(static_cast<std::int32_t>(counter[3]))};
    philox_rounds<1>(x0, x1, x2, x3, key[0], key[1], rounds);
    alignas(64) std::int32_t lanes[W];
    const I word[4] = {x0[0], x1[0], x2[0], x3[0]};
    for (int k = 0; k < 4; ++k) {
      store_i(lanes, word[k]);
      out[k] = static_cast<std::uint32_t>(lanes[0]);
    }
  }
}

void words(std::uint32_t* out, std::ptrdiff_t n, const Draw& draw, std::int64_t index) {
  fill(reinterpret_cast<float*>(out), n, index,
       [&](std::uint32_t high, std::uint32_t low, float* p)
           __attribute__((always_inline)) { emit_words<kSets>(draw, high, low, p); });
}

void normals(float* out, std::ptrdiff_t n, const Draw& draw, std::int64_t index) {
  fill(out, n, index,
       [&](std::uint32_t high, std::uint32_t low, float* p)
           __attribute__((always_inline)) { emit_normals<kSets>(draw, high, low, p); });
}
