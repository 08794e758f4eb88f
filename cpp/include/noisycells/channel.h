// Many cells sampled in parallel (reference.sample).
#pragma once

#include "noisycells/kernels.h"

namespace noisycells {

// y[i] = mean of cells[i * cells_stride] cells written with x[i]; element i draws at
// index + i. threads == 0: the package setting.
void sample(const float* x, float* y, std::ptrdiff_t n, const std::int32_t* cells, int cells_stride,
            const ChannelTables& channel, const Keys& keys, std::int64_t index, bool literal,
            int threads);

}  // namespace noisycells
