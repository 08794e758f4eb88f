// Adaptive binary range coder for integers in a table (python/noisycells/storage/entropy.py).
#pragma once

#include <vector>

#include "noisycells/kernels.h"

namespace noisycells {

// What coder and decoder both know of a table of rows x columns: element i is in row i / columns.
struct SymbolTable {
  std::int64_t rows, columns, group;  // columns c and d are of one group where c / group == d / group
  const std::uint8_t* kept;           // per element: whether it has a value; null: all have
  const std::uint8_t* classes;        // per element: below kClasses, known on both sides; or null
};
constexpr int kClasses = 8;
constexpr std::int32_t kLargestSymbol = 1 << 20;

// Appends the code of `values`, of magnitudes up to kLargestSymbol.
void entropy_encode(const SymbolTable& table, const std::int32_t* values,
                    std::vector<std::uint8_t>& out);
// Reads what entropy_encode wrote; bytes past the end count as 0.
void entropy_decode(const SymbolTable& table, const std::uint8_t* in, std::size_t bytes,
                    std::int32_t* values);

}  // namespace noisycells
