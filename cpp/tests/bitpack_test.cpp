#include "noisycells/bitpack.h"

#include "test.h"

namespace noisycells::tests {
namespace {

// The definition, bit by bit.
template <class Code>
std::vector<std::uint8_t> packed_by_definition(const std::vector<Code>& codes, int width) {
  std::vector<std::uint8_t> out((codes.size() * width + 7) / 8, 0);
  std::size_t at = 0;
  for (const Code code : codes)
    for (int b = 0; b < width; ++b, ++at)
      out[at / 8] |= static_cast<std::uint8_t>((code >> b & 1) << (at % 8));
  return out;
}

template <class Code>
std::vector<Code> random_codes(std::size_t n) {
  Integers g(n);
  std::vector<Code> codes(n);
  for (Code& c : codes) c = static_cast<Code>(g.next());  // bits above the width are ignored
  return codes;
}

template <class Code>
void every_length(Digest& digest) {
  for (int width = 1; width <= 8 * static_cast<int>(sizeof(Code)); ++width)
    for (std::size_t n = 0; n <= 1100; n += n < 270 ? 1 : 83) {
      const auto codes = random_codes<Code>(n);
      const auto expected = packed_by_definition(codes, width);
      const auto size = static_cast<std::ptrdiff_t>(n);
      const std::string what = "width " + std::to_string(width) + " of " + std::to_string(n);
      const auto packed = at_every_level<std::uint8_t>(
          what, expected.size(),
          [&](std::uint8_t* out) { pack_bits(codes.data(), size, width, out, 1); });
      CHECK(packed == expected, "pack, " + what);
      const auto back = at_every_level<Code>(
          what, n, [&](Code* out) { unpack_bits(packed.data(), size, width, out, 1); });
      for (std::size_t i = 0; i < n; ++i)
        CHECK(back[i] == (codes[i] & ((1u << width) - 1)), "unpack, " + what);
      digest.add(packed);
    }
}

template <class Code>
void on_threads(int width) {
  constexpr std::ptrdiff_t n = 500'003;
  const auto codes = random_codes<Code>(n);
  const auto expected = packed_by_definition(codes, width);
  for (const int threads : kThreads) {
    const auto packed = at_every_level<std::uint8_t>(
        "pack on threads", expected.size(),
        [&](std::uint8_t* out) { pack_bits(codes.data(), n, width, out, threads); });
    CHECK(packed == expected, "pack on threads");
    const auto back = at_every_level<Code>("unpack on threads", n, [&](Code* out) {
      unpack_bits(packed.data(), n, width, out, threads);
    });
    bool equal = true;
    for (std::ptrdiff_t i = 0; i < n; ++i)
      equal = equal && back[i] == (codes[i] & ((1u << width) - 1));
    CHECK(equal, "unpack on threads");
  }
}

// From 16 MiB of output on, unpacking streams past the caches, from the next line on.
void beyond_the_caches() {
  constexpr std::size_t n = (std::size_t{16} << 20) + 12'345;
  const auto packed = random_codes<std::uint8_t>((n + 3) / 4);
  std::vector<std::uint8_t> expected(n);
  for (std::size_t i = 0; i < n; ++i) expected[i] = packed[i / 4] >> (2 * (i % 4)) & 3;
  for (const std::size_t offset : {0u, 3u, 4u}) {
    const auto got =
        at_every_level<std::uint8_t>("large output", offset + n, [&](std::uint8_t* out) {
          unpack_bits(packed.data(), n, 2, out + offset, 1);
          std::memset(out, 0, offset);
        });
    CHECK(std::memcmp(got.data() + offset, expected.data(), n) == 0, "large output");
  }
}

}  // namespace

void bitpack_tests() {
  Digest digest("bitpack");
  every_length<std::uint8_t>(digest);
  every_length<std::uint16_t>(digest);
  for (const int width : {2, 3, 7}) on_threads<std::uint8_t>(width);
  on_threads<std::uint16_t>(11);
  beyond_the_caches();
}

}  // namespace noisycells::tests
