// Programming and aging of devices (reference/crossbar.py). Blocks of at most kBlock elements.
#pragma once

#include "channel-inl.h"
#include "rng-inl.h"
#include "vector-inl.h"

struct Lookup {  // positions in a table over one grid
  Rows rows;
  NC_INLINE void put(std::ptrdiff_t i, F x, float x0, float inv_dx, std::int32_t n) {
    rows.put(i, (x - set(x0)) * set(inv_dx), n);
  }
  NC_INLINE void two(const float* table, std::ptrdiff_t i, F& first, F& second) const {
    F a, da, b, db;
    lookup_rows4(table, rows.twice + i, a, da, b, db);
    const F f = load(rows.fraction + i);
    first = fma(f, da, a);
    second = fma(f, db, b);
  }
  NC_INLINE F one(const float* table, std::ptrdiff_t i) const {
    F a, da;
    lookup_rows2(table, rows.twice + i, a, da);
    return fma(load(rows.fraction + i), da, a);
  }
};

NC_INLINE F target_of(F w, const Target& t) {
  return fma(max(w * set(t.inverse), set(0.0f)), set(t.span), set(t.g_min));
}

NC_INLINE F clip(F g, const Limits& limits) {
  return min(max(g, set(limits.low)), set(limits.high));
}

// g holds n clipped conductances: those of stuck devices are replaced.
NC_INLINE void stick(float* g, std::ptrdiff_t n, const Limits& limits, const Draw& draw,
                     std::int64_t index) {
  if (!limits.stuck_either) return;
  alignas(64) std::uint32_t word[kRoom];
  words(word, n, {draw.seed, draw.stream, kStuck, draw.cell}, index);
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    if (word[i] < limits.stuck_off)
      g[i] = limits.off_conductance;
    else if (word[i] < limits.stuck_either)
      g[i] = limits.on_conductance;
  }
}

void program(const float* w, float* g, std::ptrdiff_t n, const Target& target,
             const Programming& device, const Draw& draw, std::int64_t index) {
  alignas(64) float z[kRoom];
  normals_while_fetching(z, n, {draw.seed, draw.stream, kProgram, draw.cell}, index, w, g);
  Lookup lookup;
  for (std::ptrdiff_t i = 0; i < n; i += W)
    lookup.put(i, target_of(load_first(w + i, n - i), target), device.x0, device.inv_dx, device.n);
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    F mean, std;
    lookup.two(device.table, i, mean, std);
    store_first(g + i, clip(fma(std, load(z + i), mean), device.limits), n - i);
  }
  stick(g, n, device.limits, draw, index);
}

// Both polarities at once: of each pair one device is to have g_min, whose mean and std need not
// be looked up again. The negative one's draws are those of the next cell.
void program_pair(const float* w, float* positive, float* negative, std::ptrdiff_t n,
                  const Target& target, const Programming& device, const Draw& draw,
                  std::int64_t index) {
  alignas(64) float z_positive[kRoom], z_negative[kRoom];
  const Draw next{draw.seed, draw.stream, kProgram, draw.cell + 1};
  normals_while_fetching(z_positive, n, {draw.seed, draw.stream, kProgram, draw.cell}, index, w,
                         positive);
  normals_while_fetching(z_negative, n, next, index, w, negative);
  const F inverse = set(target.inverse), span = set(target.span), g_min = set(target.g_min);
  Lookup lookup;
  F idle_mean, idle_std;
  lookup.put(0, fma(set(0.0f), span, g_min), device.x0, device.inv_dx, device.n);
  lookup.two(device.table, 0, idle_mean, idle_std);
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    const F v = magnitude(load_first(w + i, n - i) * inverse);
    lookup.put(i, fma(v, span, g_min), device.x0, device.inv_dx, device.n);
  }
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    F mean, std;
    lookup.two(device.table, i, mean, std);
    const M plus = greater(load_first(w + i, n - i) * inverse, set(0.0f));
    const F up =
        fma(select(plus, std, idle_std), load(z_positive + i), select(plus, mean, idle_mean));
    const F down =
        fma(select(plus, idle_std, std), load(z_negative + i), select(plus, idle_mean, mean));
    store_first(positive + i, clip(up, device.limits), n - i);
    store_first(negative + i, clip(down, device.limits), n - i);
  }
  stick(positive, n, device.limits, draw, index);
  stick(negative, n, device.limits, next, index);
}

// exp(-x), x >= 0. Coefficients and error: reference/crossbar.py.
NC_INLINE F exp_minus(F x) {
  constexpr float c[] = {0x1.0000000p+0f, 0x1.62e4300p-1f,  0x1.ebfbdc0p-3f, 0x1.c6aee80p-5f,
                         0x1.3b2d4c0p-7f, 0x1.5f3e540p-10f, 0x1.41fbbc0p-13f};
  const F minus_log2_e = set(-1.4426950408889634f);
  x = min(x, set(87.0f));
  const I n = round_even(x * minus_log2_e);
  const F r = fma(x, minus_log2_e, set(0.0f) - to_float(n));
  return as_float(as_int(polynomial(r, c)) + shift_left<23>(n));
}

void age(const float* w, const float* programmed, float* g, std::ptrdiff_t n, const Target& target,
         const Aging& device, const Draw& draw, std::int64_t index) {
  alignas(64) float z_relax[kRoom], z_drift[kRoom], z_flicker[kRoom];
  const auto draws = [&](float* z, std::uint32_t purpose) {
    normals(z, n, {draw.seed, draw.stream, purpose, draw.cell}, index);
  };
  Lookup relaxation, drift, flicker;
  if (device.relaxation) draws(z_relax, kRelax);
  if (device.drift) draws(z_drift, kDrift);
  if (device.flicker) draws(z_flicker, kFlicker);
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    const F t = target_of(load_first(w + i, n - i), target);
    if (device.relaxation) relaxation.put(i, t, device.x0, device.inv_dx, device.relaxation_n);
    if (device.drift) drift.put(i, t, device.x0, device.inv_dx, device.drift_n);
    if (device.flicker)
      flicker.put(i, load_first(programmed + i, n - i), device.x0, device.inv_dx, device.flicker_n);
  }
  for (std::ptrdiff_t i = 0; i < n; i += W) {
    F value = load_first(programmed + i, n - i);
    if (device.relaxation) {
      F shift, std;
      relaxation.two(device.relaxation, i, shift, std);
      value = max(fma(std, load(z_relax + i), value + shift), set(0.0f));
    }
    if (device.drift) {
      F mean, std;
      drift.two(device.drift, i, mean, std);
      value = value * exp_minus(magnitude(fma(std, load(z_drift + i), mean)));
    }
    if (device.flicker)
      value = fma(value * flicker.one(device.flicker, i), load(z_flicker + i), value);
    store_first(g + i, clip(value, device.limits), n - i);
  }
  stick(g, n, device.limits, draw, index);
}
