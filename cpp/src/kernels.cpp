// Compiled once per SIMD level, with that level's flags and NOISYCELLS_LEVEL set to its name.
// Everything but the table has internal linkage and is constant-initialised: no symbol of one
// level may replace another's, and no instruction of a level may run before it is chosen.
#include "noisycells/kernels.h"

#include <type_traits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace noisycells {
namespace NOISYCELLS_LEVEL {
namespace {

#include "simd-inl.h"

#include "rng-inl.h"

#include "channel-inl.h"

#include "codec-inl.h"

#include "bitpack-inl.h"

#include "device-inl.h"

#include "product-inl.h"

#include "gradient-inl.h"

#include "peak-inl.h"

}  // namespace

#define NC_STRING_(x) #x
#define NC_STRING(x) NC_STRING_(x)

extern const Kernels table;
const Kernels table = {
    NC_STRING(NOISYCELLS_LEVEL), philox,    words,    normals,  sample, classify,
    to_inputs,                   quantise,  dequantise, read_back, compress, expand,
    extent,                      popcount,  pack8,      unpack8,  pack16,  unpack16,
    program,  program_pair, age,  kRowStep, kCodeBytes, kFloatRowStep, kFloatBytes,
    kFloatParts, kPerWeight, kPerProduct, enter, leave, peak, count_beyond, dac, dac_float, pack, multiply,
    multiply_squares, multiply_float, read, finish,
    input_values, add_outer, spin,
};

}  // namespace NOISYCELLS_LEVEL
}  // namespace noisycells
