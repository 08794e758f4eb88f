#include "noisycells/simd_level.h"

#include <atomic>

// What a level needs is asked of every processor, so it is compiled for every processor, here.
#define NOISYCELLS_HAS(feature) __builtin_cpu_supports(feature)
#define NOISYCELLS_NEEDS(name, condition)                \
  namespace noisycells::name {                           \
  extern const Kernels table; /* of kernels/table.cpp */ \
  static bool runs() { return condition; }               \
  }
#include "levels.inc"  // written by CMake: the file of each level, and NOISYCELLS_LEVELS

namespace noisycells {
namespace {

std::atomic<const Kernels*> current{nullptr};

struct Level {
  const Kernels* table;
  bool (*runs)();
};

#define NOISYCELLS_ENTRY(name) {&name::table, &name::runs},
const Level levels[] = {NOISYCELLS_LEVELS(NOISYCELLS_ENTRY)};  // slowest first

}  // namespace

const Kernels& kernels() {
  const Kernels* k = current.load(std::memory_order_acquire);
  if (!k) {
    for (const Level& level : levels)
      if (level.runs()) k = level.table;
    const Kernels* expected = nullptr;
    if (!current.compare_exchange_strong(expected, k)) k = expected;
  }
  return *k;
}

std::vector<std::string> available_simd_levels() {
  std::vector<std::string> names;
  for (const Level& level : levels)
    if (level.runs()) names.emplace_back(level.table->level);
  return names;
}

bool set_simd_level(const std::string& name) {
  for (const Level& level : levels) {
    if (name == level.table->level && level.runs()) {
      current.store(level.table, std::memory_order_release);
      return true;
    }
  }
  return false;
}

}  // namespace noisycells
