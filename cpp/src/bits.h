// Floats by their bits: as integers, magnitudes are in the same order.
#pragma once

#include <cstdint>
#include <cstring>

namespace noisycells {

inline std::int32_t bits_of(float value) {
  std::int32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(std::int32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace noisycells
