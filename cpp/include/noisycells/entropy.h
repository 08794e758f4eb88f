// Adaptive binary range coder for integers in a table (python/noisycells/storage/entropy.py).
#pragma once

#include <vector>

#include "noisycells/kernels.h"

namespace noisycells {

// A table of rows x columns; columns c and d are of one group where c / group == d / group.
struct SymbolTable {
  std::int64_t rows, columns, group;
};
constexpr std::int32_t kLargestSymbol = 1 << 20;

// Appends the code of `values`, of magnitudes up to kLargestSymbol.
void entropy_encode(const SymbolTable& table, const std::int32_t* values,
                    std::vector<std::uint8_t>& out);
// Reads what entropy_encode wrote; bytes past the end count as 0. Returns how many it came to need.
std::size_t entropy_decode(const SymbolTable& table, const std::uint8_t* in, std::size_t bytes,
                           std::int32_t* values);

}  // namespace noisycells
