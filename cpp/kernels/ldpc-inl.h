// Check nodes of a low-density parity-check code (python/noisycells/reference/ldpc.py).
#pragma once

#include "rng-inl.h"
#include "vector-inl.h"

// log(1 + exp(-x)), x >= 0, to 0.008: log 2 (1 - x / 8.3)^6, of the slope -1/2 at 0.
NC_INLINE F log_one_plus_exp(F x) {
  const F t = max(set(1.0f) - x * set(1.0f / 8.3177662f), set(0.0f));
  const F square = t * t;
  return square * square * square * set(0.69314718f);
}

// The log-likelihood ratio of the sum of two bits. Signs and magnitudes apart: no fused operation,
// one order, so that all levels agree.
NC_INLINE F box_plus(F a, F b) {
  const F x = magnitude(a), y = magnitude(b);
  const F low = min(x, y);
  const F value = low + log_one_plus_exp(x + y) - log_one_plus_exp(max(x, y) - low);
  const I signs = (as_int(a) ^ as_int(b)) & set_i(INT32_MIN);
  return select_sign(max(value, set(0.0f)), signs);
}

// values, messages: (degree, lanes), lanes a multiple of 16. Takes the old messages out of the
// values, and puts the new ones in: of each edge, the box-plus of all others, in a fixed order.
void check_nodes(float* values, float* messages, int degree, std::ptrdiff_t lanes) {
  F extrinsic[kMaxDegree], before[kMaxDegree];
  for (std::ptrdiff_t z = 0; z < lanes; z += W) {
    for (int e = 0; e < degree; ++e) {
      extrinsic[e] = load(values + e * lanes + z) - load(messages + e * lanes + z);
      before[e] = e < 2 ? extrinsic[0] : box_plus(before[e - 1], extrinsic[e - 1]);
    }
    F after = extrinsic[degree - 1];
    for (int e = degree - 1; e >= 0; --e) {
      const bool last = e == degree - 1;
      const F message = last ? before[e] : e == 0 ? after : box_plus(before[e], after);
      if (!last && e > 0) after = box_plus(after, extrinsic[e]);
      store(messages + e * lanes + z, message);
      store(values + e * lanes + z, extrinsic[e] + message);
    }
  }
}
