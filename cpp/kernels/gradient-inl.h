// Gradients of weights: outer products of output gradients and converted inputs, summed over a
// block of the batch. Each sum is made in the order of the rows, so levels with the same
// multiply-add agree.
#pragma once

#include "product-inl.h"
#include "vector-inl.h"

void input_values(const float* x, const float* row_scale, std::ptrdiff_t n, std::ptrdiff_t padded,
                  const Dac& dac, float* values) {
  const Scaled input{x, row_scale, n};
  const Drive drive(dac);
  std::ptrdiff_t i = 0;
  for (; i < n; i += W) store(values + i, drive.value(input.at(i)));  // beyond n they are 0
  for (; i < padded; i += W) store(values + i, set(0.0f));
}

// As many sums as registers hold beside the vectors of x: kOuterRows times kOuterVectors.
constexpr int kOuterRows = W == 16 ? 8 : 4, kOuterVectors = 3;

template <int N, int V>
NC_INLINE void add_outer_block(const float* g, const float* x, std::ptrdiff_t ld_x, int rows,
                               float* sums, std::ptrdiff_t ld) {
  F total[N][V];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) total[n][v] = load(sums + n * ld + v * W);
  for (int r = 0; r < rows; ++r) {
    F of_x[V];
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) of_x[v] = load(x + r * ld_x + v * W);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const F of_g = set(g[r * kGroup + n]);
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) total[n][v] = multiply_add(of_g, of_x[v], total[n][v]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) store(sums + n * ld + v * W, total[n][v]);
}

void add_outer(const float* g, int columns, const float* x, std::ptrdiff_t ld_x,
               std::ptrdiff_t width, int rows, float* sums, std::ptrdiff_t ld) {
  const int vectors = static_cast<int>(width / W);
  for (int v = 0; v < vectors; v += kOuterVectors)
    with_rows<kOuterVectors>(
        vectors - v < kOuterVectors ? vectors - v : kOuterVectors, [&](auto V) {
          for (int n = 0; n < columns; n += kOuterRows)
            with_rows<kOuterRows>(columns - n < kOuterRows ? columns - n : kOuterRows, [&](auto N) {
              add_outer_block<N.value, V.value>(g + n, x + v * W, ld_x, rows, sums + n * ld + v * W,
                                                ld);
            });
        });
}
