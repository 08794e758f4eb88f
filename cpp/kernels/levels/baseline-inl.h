// What every processor runs: SSE2 on x86-64, or else the compiler's vector extension.
//
// A SIMD level is one file like this, and one line of CMakeLists.txt, which lists the levels from
// the slowest to the fastest with their compiler flags. The file is read twice. By dispatch.cpp,
// which is compiled for every processor, for the line NOISYCELLS_NEEDS(name, condition): when the
// level may be used. By table.cpp, which is compiled once a level with that level's flags, for its
// name, its vectors and its products.
#if defined(NOISYCELLS_NEEDS)
NOISYCELLS_NEEDS(baseline, true)
#else
#define NOISYCELLS_LEVEL baseline
#if defined(__SSE2__)
#define NOISYCELLS_VECTORS "vectors/sse2-inl.h"
#else
#define NOISYCELLS_VECTORS "vectors/portable-inl.h"
#endif
#define NOISYCELLS_PRODUCTS "product_vector-inl.h"
#endif
