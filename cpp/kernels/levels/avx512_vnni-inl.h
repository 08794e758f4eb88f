// AVX-512 with VNNI, which multiplies and adds pairs of 16-bit integers, or four of 8 bits, in one
// instruction.
#if defined(NOISYCELLS_NEEDS)
NOISYCELLS_NEEDS(avx512_vnni, NOISYCELLS_HAS("avx512f") && NOISYCELLS_HAS("avx512bw") &&
                                  NOISYCELLS_HAS("avx512dq") && NOISYCELLS_HAS("avx512vl") &&
                                  NOISYCELLS_HAS("bmi2") && NOISYCELLS_HAS("popcnt") &&
                                  NOISYCELLS_HAS("avx512vnni"))
#else
#define NOISYCELLS_LEVEL avx512_vnni
#define NOISYCELLS_VECTORS "vectors/avx512-inl.h"
#define NOISYCELLS_PRODUCTS "product_vnni-inl.h"
#endif
