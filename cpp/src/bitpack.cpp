#include "noisycells/bitpack.h"

#include <atomic>

#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {
namespace {

// A multiple of 8 codes, so that pieces start on bytes.
constexpr std::ptrdiff_t kGrain = 64 * kBlock;

template <class Code, class Kernel>
bool pack(const Code* codes, std::ptrdiff_t n, int width, std::uint8_t* out, int threads,
          Kernel kernel) {
  std::atomic<std::uint32_t> seen{0};
  parallel_for(n, kGrain, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    seen |= kernel(codes + begin, end - begin, width, out + begin / 8 * width);
  });
  return seen >> width == 0;
}

template <class Code, class Kernel>
void unpack(const std::uint8_t* in, std::ptrdiff_t n, int width, Code* codes, int threads,
            Kernel kernel) {
  parallel_for(n, kGrain, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    kernel(in + begin / 8 * width, end - begin, width, codes + begin);
  });
}

}  // namespace

bool pack_bits(const std::uint8_t* codes, std::ptrdiff_t n, int width, std::uint8_t* out,
               int threads) {
  return pack(codes, n, width, out, threads, kernels().pack8);
}
bool pack_bits(const std::uint16_t* codes, std::ptrdiff_t n, int width, std::uint8_t* out,
               int threads) {
  return pack(codes, n, width, out, threads, kernels().pack16);
}
void unpack_bits(const std::uint8_t* in, std::ptrdiff_t n, int width, std::uint8_t* codes,
                 int threads) {
  unpack(in, n, width, codes, threads, kernels().unpack8);
}
void unpack_bits(const std::uint8_t* in, std::ptrdiff_t n, int width, std::uint16_t* codes,
                 int threads) {
  unpack(in, n, width, codes, threads, kernels().unpack16);
}

}  // namespace noisycells
