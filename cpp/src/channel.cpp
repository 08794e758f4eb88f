#include "noisycells/channel.h"

#include <algorithm>

#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {

void sample(const float* x, float* y, std::ptrdiff_t n, const std::int32_t* cells, int cells_stride,
            const ChannelTables& channel, const Keys& keys, std::int64_t index, bool literal,
            int threads) {
  const Kernels& k = kernels();
  const std::ptrdiff_t grain = literal ? kBlock : 4 * kBlock;  // every cell takes its time
  parallel_for(n, grain, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t i = begin; i < end; i += kBlock)
      k.sample(x + i, y + i, std::min(kBlock, end - i), cells + i * cells_stride, cells_stride,
               channel, keys, index + i, literal);
  });
}

}  // namespace noisycells
