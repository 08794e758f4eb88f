#include "mask_index.h"

#include <algorithm>
#include <stdexcept>

#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {

MaskIndex::MaskIndex(const std::uint8_t* mask, std::int64_t n, int threads)
    : mask_(mask), n_(n), selected_(n) {
  if (!mask) return;
  if (n % 8 != 0 && mask[n / 8] >> (n % 8) != 0)
    throw std::invalid_argument("mask: bits past the last weight must be 0");
  const std::int64_t spans = (n + kSpan - 1) / kSpan, bytes = (n + 7) / 8;
  before_.assign(static_cast<std::size_t>(spans + 1), 0);
  const Kernels& kernel = kernels();
  parallel_for(spans, 4, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t s = begin; s < end; ++s) {
      const std::int64_t first = s * (kSpan / 8);
      before_[s + 1] = kernel.popcount(mask + first, std::min(kSpan / 8, bytes - first));
    }
  });
  for (std::int64_t s = 0; s < spans; ++s) before_[s + 1] += before_[s];
  selected_ = before_[spans];
}

std::int64_t MaskIndex::seek(std::int64_t k) const {
  if (!mask_ || k == 0) return k;
  // The last span with fewer than k selected elements before it.
  const auto span = std::lower_bound(before_.begin(), before_.end(), k) - before_.begin() - 1;
  std::int64_t left = k - before_[span];
  for (std::int64_t byte = span * (kSpan / 8);; ++byte) {
    const int count = __builtin_popcount(mask_[byte]);
    if (left > count) {
      left -= count;
      continue;
    }
    for (int bit = 0;; ++bit)
      if ((mask_[byte] >> bit & 1) != 0 && --left == 0) return byte * 8 + bit + 1;
  }
}

}  // namespace noisycells
