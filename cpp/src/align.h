// Memory that begins where a line of the caches does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace noisycells {

inline constexpr std::size_t kAlign = 64;

// The first such address from p on; less than kAlign beyond it.
inline char* aligned(char* p) {
  return p + (kAlign - reinterpret_cast<std::uintptr_t>(p) % kAlign) % kAlign;
}

}  // namespace noisycells
