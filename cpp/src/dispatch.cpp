#include <atomic>
#include <cstring>

#include "noisycells/simd_level.h"

namespace noisycells {

// Each is defined by kernels.cpp, compiled with that level's flags.
namespace baseline { extern const Kernels table; }
#if defined(NOISYCELLS_X86)
namespace avx2 { extern const Kernels table; }
namespace avx512 { extern const Kernels table; }
#endif

namespace {

std::atomic<const Kernels*> current{nullptr};

bool runs(const Kernels& k) {
#if defined(NOISYCELLS_X86)
  __builtin_cpu_init();
  if (!std::strcmp(k.level, "avx2"))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  if (!std::strcmp(k.level, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
#else
  (void)k;
#endif
  return true;
}

const Kernels* const levels[] = {
    &baseline::table,
#if defined(NOISYCELLS_X86)
    &avx2::table,
    &avx512::table,
#endif
};

}  // namespace

const Kernels& kernels() {
  const Kernels* k = current.load(std::memory_order_acquire);
  if (!k) {
    for (const Kernels* level : levels)
      if (runs(*level)) k = level;
    const Kernels* expected = nullptr;
    if (!current.compare_exchange_strong(expected, k)) k = expected;
  }
  return *k;
}

std::vector<std::string> available_simd_levels() {
  std::vector<std::string> names;
  for (const Kernels* level : levels)
    if (runs(*level)) names.emplace_back(level->level);
  return names;
}

bool set_simd_level(const std::string& name) {
  for (const Kernels* level : levels) {
    if (name == level->level && runs(*level)) {
      current.store(level, std::memory_order_release);
      return true;
    }
  }
  return false;
}

}  // namespace noisycells
