// Input vectors whose full scale is too small for its inverse to be finite.
#pragma once

#include <cstddef>
#include <vector>

#include "noisycells/kernels.h"

namespace noisycells {

// `k` tiny inputs times kEnlarged, which rounds nothing, in `room`.
inline const float* enlarged(const float* input, std::ptrdiff_t k, std::vector<float>* room) {
  room->resize(static_cast<std::size_t>(k));
  for (std::ptrdiff_t i = 0; i < k; ++i)
    (*room)[static_cast<std::size_t>(i)] = input[i] * kEnlarged;
  return room->data();
}

}  // namespace noisycells
