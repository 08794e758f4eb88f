#include "noisycells/digest.h"

#include <algorithm>
#include <cstring>

#include "noisycells/kernels.h"
#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {
namespace {
static_assert(kDigestBytes == 4 * kBlock, "a digest is of one block of words");
constexpr std::ptrdiff_t kGrain = 128;  // blocks: some 50 us
}  // namespace

void block_digests(const void* bytes, std::ptrdiff_t size, const std::int32_t* key,
                   std::uint64_t* out, int threads) {
  const Kernels& k = kernels();
  const auto* from = static_cast<const char*>(bytes);
  const std::ptrdiff_t blocks = (size + kDigestBytes - 1) / kDigestBytes;
  parallel_for(blocks, kGrain, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t i = begin; i < end; ++i) {
      const char* block = from + i * kDigestBytes;
      const std::ptrdiff_t left = size - i * kDigestBytes;
      char last[kDigestBytes];
      if (left < kDigestBytes) {
        std::memcpy(last, block, static_cast<std::size_t>(left));
        std::fill(last + left, last + kDigestBytes, '\0');
        block = last;
      }
      k.digest(block, key, out + 2 * i);
    }
  });
}

}  // namespace noisycells
