// Input vectors whose full scale is too small for its inverse to be finite.
#pragma once

#include <cstddef>
#include <vector>

#include "noisycells/kernels.h"

namespace noisycells {

// `k` tiny inputs, after their scales where there are any, times kEnlarged, which rounds nothing.
inline const float* enlarged(const float* input, const float* row_scale, std::ptrdiff_t k,
                             std::vector<float>* room) {
  room->resize(static_cast<std::size_t>(k));
  for (std::ptrdiff_t i = 0; i < k; ++i) {
    const float driven = row_scale ? input[i] * row_scale[i] : input[i];
    (*room)[static_cast<std::size_t>(i)] = driven * kEnlarged;
  }
  return room->data();
}

}  // namespace noisycells
