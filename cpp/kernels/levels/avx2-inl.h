// AVX2 with FMA and BMI2: 8 lanes.
#if defined(NOISYCELLS_NEEDS)
NOISYCELLS_NEEDS(avx2, NOISYCELLS_HAS("avx2") && NOISYCELLS_HAS("fma") && NOISYCELLS_HAS("bmi2") &&
                           NOISYCELLS_HAS("popcnt"))
#else
#define NOISYCELLS_LEVEL avx2
#define NOISYCELLS_VECTORS "vectors/avx2-inl.h"
#define NOISYCELLS_PRODUCTS "product_vector-inl.h"
#endif
