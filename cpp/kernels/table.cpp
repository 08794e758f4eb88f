// Compiled once per SIMD level, with that level's flags and NOISYCELLS_LEVEL_FILE set to its file
// in levels/. Everything but the table has internal linkage and is constant-initialized: no symbol
// of one level may replace another's, and no instruction of a level may run before it is chosen.
#include "noisycells/kernels.h"

#include <type_traits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include NOISYCELLS_LEVEL_FILE

#define NC_STRING_(x) #x
#define NC_STRING(x) NC_STRING_(x)

namespace noisycells {
namespace NOISYCELLS_LEVEL {
namespace {

#include "bitpack-inl.h"
#include "channel-inl.h"
#include "codec-inl.h"
#include "device-inl.h"
#include "digest-inl.h"
#include "gradient-inl.h"
#include "ldpc-inl.h"
#include "product-inl.h"
#include "rng-inl.h"

constexpr Kernels named() {
  Kernels k{};
  k.level = NC_STRING(NOISYCELLS_LEVEL);
  k.philox = philox;
  k.words = words;
  k.normals = normals;
  k.sample = sample;
  k.classify = classify;
  k.to_inputs = to_inputs;
  k.quantize = quantize;
  k.dequantize = dequantize;
  k.read_back = read_back;
  k.compress = compress;
  k.expand = expand;
  k.extent = extent;
  k.popcount = popcount;
  k.pack8 = pack8;
  k.unpack8 = unpack8;
  k.pack16 = pack16;
  k.unpack16 = unpack16;
  k.program = program;
  k.program_pair = program_pair;
  k.age = age;
  k.row_step = kRowStep;
  k.code_bytes = kCodeBytes;
  k.narrow_code_bytes = kNarrowCodeBytes;
  k.narrow_extra_bytes = kNarrowExtraBytes;
  k.float_row_step = kFloatRowStep;
  k.float_bytes = kFloatBytes;
  k.float_parts = kFloatParts;
  k.per_weight = kPerWeight;
  k.per_product = kPerProduct;
  k.enter = enter;
  k.leave = leave;
  k.peak = peak;
  k.count_beyond = count_beyond;
  k.dac = dac;
  k.dac_float = dac_float;
  k.pack = pack;
  k.multiply = multiply;
  k.multiply_squares = multiply_squares;
  k.multiply_float = multiply_float;
  k.read = read;
  k.finish = finish;
  k.input_values = input_values;
  k.add_outer = add_outer;
  k.check_nodes = check_nodes;
  k.digest = digest;
  return k;
}

}  // namespace

extern const Kernels table;
constexpr Kernels table = named();

}  // namespace NOISYCELLS_LEVEL
}  // namespace noisycells
