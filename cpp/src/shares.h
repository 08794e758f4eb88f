// How much work a thread's share is to have at least, of products, their gradients and devices.
#pragma once

#include <algorithm>
#include <cstddef>

namespace noisycells {

// Sleeping threads take some 50 us to wake: a share that is worth it, in ns, and what things take,
// about, at 3 GHz.
inline constexpr double kShare = 60'000;
inline constexpr double kDevice = 1, kCopied = 0.3, kInput = 0.25, kPatchInput = 0.8, kOutput = 0.3;

inline std::ptrdiff_t grain(double each) {
  return std::max<std::ptrdiff_t>(1, static_cast<std::ptrdiff_t>(kShare / std::max(each, 1e-3)));
}

}  // namespace noisycells
