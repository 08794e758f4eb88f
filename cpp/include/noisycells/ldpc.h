// Quasi-cyclic low-density parity-check codes: encoder and belief propagation
// (python/noisycells/reference/ldpc.py).
#pragma once

#include <vector>

#include "noisycells/kernels.h"

namespace noisycells {

// Check z of a row is the sum of the bits (z + shift) mod lanes of the columns in its edges.
struct LdpcEdge {
  std::int32_t column, shift;
};

// The last `rows.size()` columns are parity: the first of them in rows 0, `middle` and the last,
// with equal shifts in 0 and the last and shift 0 in `middle`; number k > 0 of them in rows k - 1
// and k, with shift 0.
struct LdpcCode {
  std::vector<std::vector<LdpcEdge>> rows;
  int columns, middle;
  std::ptrdiff_t lanes;  // a multiple of 16

  int information() const { return columns - static_cast<int>(rows.size()); }
};

// Bits, one a byte: information (blocks, information lanes) -> words (blocks, columns lanes).
void ldpc_encode(const LdpcCode& code, const std::uint8_t* information, std::ptrdiff_t blocks,
                 std::uint8_t* words, int threads);

// Log-likelihood ratios, positive for 0 -> words of bits. rounds: how many each block took, or -1
// where no word of the code was found in `most`.
void ldpc_decode(const LdpcCode& code, const float* llr, std::ptrdiff_t blocks, int most,
                 std::uint8_t* words, std::int32_t* rounds, int threads);

}  // namespace noisycells
