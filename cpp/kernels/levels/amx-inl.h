// AMX: products of 8-bit integers and of bfloat16 in tiles of 16 x 64 bytes; the rest is AVX-512.
#if defined(NOISYCELLS_NEEDS)
#if defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
// AMX tiles are large: the system saves them only for processes that have asked for them.
[[maybe_unused]] static bool amx_is_there_and_permitted() {
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
NOISYCELLS_NEEDS(amx, NOISYCELLS_HAS("avx512f") && NOISYCELLS_HAS("avx512bw") &&
                          NOISYCELLS_HAS("avx512dq") && NOISYCELLS_HAS("avx512vl") &&
                          NOISYCELLS_HAS("bmi2") && NOISYCELLS_HAS("popcnt") &&
                          NOISYCELLS_HAS("avx512vnni") && amx_is_there_and_permitted())
#else
#define NOISYCELLS_LEVEL amx
#define NOISYCELLS_VECTORS "vectors/avx512-inl.h"
#define NOISYCELLS_PRODUCTS "product_amx-inl.h"
#endif
