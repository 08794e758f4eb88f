// AVX-512 (F, BW, DQ, VL): 16 lanes.
#if defined(NOISYCELLS_NEEDS)
NOISYCELLS_NEEDS(avx512, NOISYCELLS_HAS("avx512f") && NOISYCELLS_HAS("avx512bw") &&
                             NOISYCELLS_HAS("avx512dq") && NOISYCELLS_HAS("avx512vl") &&
                             NOISYCELLS_HAS("bmi2") && NOISYCELLS_HAS("popcnt"))
#else
#define NOISYCELLS_LEVEL avx512
#define NOISYCELLS_VECTORS "vectors/avx512-inl.h"
#define NOISYCELLS_PRODUCTS "product_vector-inl.h"
#endif
