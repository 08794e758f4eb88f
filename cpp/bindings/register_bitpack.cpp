#include <optional>

#include "checks.h"
#include "noisycells/bitpack.h"

namespace noisycells::bindings {
namespace {

template <class Code>
void register_for(py::module_& m) {
  constexpr int widest = 8 * static_cast<int>(sizeof(Code));
  const auto check = [](int width, std::int64_t count, std::int64_t bytes) {
    require(width >= 1 && width <= widest, "width: expected 1 to ", widest, ", got ", width);
    require(bytes == (count * width + 7) / 8, "packed: expected ", (count * width + 7) / 8,
            " bytes for ", count, " codes of ", width, " bits, got ", bytes);
  };
  m.def(
      "pack_bits",
      [check](const Array<Code>& codes, int width, Array<std::uint8_t>& out, int num_threads) {
        const std::int64_t n = length(codes, "codes");
        check(width, n, length(out, "out"));
        auto* to = out.mutable_data();
        const Released released;
        return pack_bits(codes.data(), n, width, to, num_threads);
      },
      py::arg("codes").noconvert(), py::arg("width"), py::arg("out").noconvert(),
      py::arg("num_threads") = 0);
  m.def(
      "unpack_bits",
      [check](const Array<std::uint8_t>& buffer, int width, Array<Code>& out, int num_threads) {
        const std::int64_t n = length(out, "out");
        check(width, n, length(buffer, "buffer"));
        auto* to = out.mutable_data();
        const Released released;
        unpack_bits(buffer.data(), n, width, to, num_threads);
      },
      py::arg("buffer").noconvert(), py::arg("width"), py::arg("out").noconvert(),
      py::arg("num_threads") = 0);
}

}  // namespace

void register_bitpack(py::module_& m) {
  register_for<std::uint8_t>(m);
  register_for<std::uint16_t>(m);
}

}  // namespace noisycells::bindings
