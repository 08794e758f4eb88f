// Finds the n-th selected element of a bit mask without walking it from the start.
#pragma once

#include <cstdint>
#include <vector>

namespace noisycells {

class MaskIndex {
 public:
  // mask null: all n elements are selected. Throws std::invalid_argument where bits past n are set.
  MaskIndex(const std::uint8_t* mask, std::int64_t n, int threads);

  std::int64_t selected() const { return selected_; }
  // Position just after the k-th selected element (k from 1); 0 for k = 0.
  std::int64_t seek(std::int64_t k) const;

 private:
  static constexpr std::int64_t kSpan = 1 << 16;  // bits between counts

  const std::uint8_t* mask_;
  std::int64_t n_, selected_;
  std::vector<std::int64_t> before_;  // selected elements before each span
};

}  // namespace noisycells
