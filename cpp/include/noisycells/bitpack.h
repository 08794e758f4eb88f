// Codes of 1 to 16 bits to bytes and back, in parallel (reference.pack_bits, unpack_bits).
#pragma once

#include "noisycells/kernels.h"

namespace noisycells {

// Width 1..8 for bytes, 1..16 for words. `out` takes (n * width + 7) / 8 bytes. Whether every code
// fits into the width; of one that does not the lower bits are packed.
bool pack_bits(const std::uint8_t* codes, std::ptrdiff_t n, int width, std::uint8_t* out,
               int threads);
bool pack_bits(const std::uint16_t* codes, std::ptrdiff_t n, int width, std::uint8_t* out,
               int threads);
void unpack_bits(const std::uint8_t* in, std::ptrdiff_t n, int width, std::uint8_t* codes,
                 int threads);
void unpack_bits(const std::uint8_t* in, std::ptrdiff_t n, int width, std::uint16_t* codes,
                 int threads);

}  // namespace noisycells
