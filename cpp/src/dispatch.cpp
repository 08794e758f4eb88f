#include <atomic>
#include <cstring>

#include "noisycells/simd_level.h"

#if defined(NOISYCELLS_X86)
#include <cpuid.h>
#endif
#if defined(NOISYCELLS_X86) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace noisycells {

// Each is defined by kernels.cpp, compiled with that level's flags.
namespace baseline { extern const Kernels table; }
#if defined(NOISYCELLS_X86)
namespace avx2 { extern const Kernels table; }
namespace avx512 { extern const Kernels table; }
namespace avx512_vnni { extern const Kernels table; }
namespace amx { extern const Kernels table; }
#endif

namespace {

std::atomic<const Kernels*> current{nullptr};

#if defined(NOISYCELLS_X86)
bool runs_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

// AMX tiles are large: the system saves them only for processes that have asked for them.
bool runs_amx() {
#if defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned bfloat16 = 1u << 22, tile = 1u << 24, int8 = 1u << 25;
  if (!(d & bfloat16) || !(d & tile) || !(d & int8)) return false;
  constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#endif

bool runs(const Kernels& k) {
#if defined(NOISYCELLS_X86)
  __builtin_cpu_init();
  if (!std::strcmp(k.level, "avx2"))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  if (!std::strcmp(k.level, "avx512")) return runs_avx512();
  if (!std::strcmp(k.level, "avx512_vnni"))
    return runs_avx512() && __builtin_cpu_supports("avx512vnni");
  if (!std::strcmp(k.level, "amx"))
    return runs_avx512() && __builtin_cpu_supports("avx512vnni") && runs_amx();
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
    &avx512_vnni::table,
    &amx::table,
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
