// Philox4x32-10 words and standard normals, in parallel (reference.random_words, ...).
#pragma once

#include "noisycells/kernels.h"

namespace noisycells {

// Elements index .. index + n - 1 of a draw. threads == 0: the package setting.
void random_words(std::uint32_t* out, std::ptrdiff_t n, const Draw& draw, std::int64_t index,
                  int threads);
void standard_normal(float* out, std::ptrdiff_t n, const Draw& draw, std::int64_t index,
                     int threads);

}  // namespace noisycells
