#include <algorithm>

#include "checks.h"
#include "noisycells/entropy.h"

namespace noisycells::bindings {
namespace {

SymbolTable make_table(std::int64_t rows, std::int64_t columns, std::int64_t group) {
  require(rows >= 0 && columns >= 0 && group >= 1, "rows, columns, group: expected sizes");
  require(columns == 0 || rows <= (std::int64_t{1} << 46) / columns, "rows: expected fewer");
  return {rows, columns, group};
}

}  // namespace

void register_entropy(py::module_& m) {
  m.def(
      "entropy_encode",
      [](const Array<std::int32_t>& values, std::int64_t rows, std::int64_t columns,
         std::int64_t group) {
        const SymbolTable table = make_table(rows, columns, group);
        require_length(values, "values", rows * columns);
        const auto* from = values.data();
        require(
            std::all_of(from, from + rows * columns,
                        [](std::int32_t v) { return v >= -kLargestSymbol && v <= kLargestSymbol; }),
            "values: expected magnitudes up to ", kLargestSymbol);
        std::vector<std::uint8_t> out;
        {
          const Released released;
          entropy_encode(table, from, out);
        }
        return py::bytes(reinterpret_cast<const char*>(out.data()), out.size());
      },
      py::arg("values").noconvert(), py::arg("rows"), py::arg("columns"), py::arg("group"));
  m.def(
      "entropy_decode",
      [](const Array<std::uint8_t>& code, std::int64_t rows, std::int64_t columns,
         std::int64_t group, Array<std::int32_t>& values) {
        const SymbolTable table = make_table(rows, columns, group);
        require_length(values, "values", rows * columns);
        const auto bytes = static_cast<std::size_t>(length(code, "code"));
        auto* to = values.mutable_data();
        const Released released;
        const std::size_t used = entropy_decode(table, code.data(), bytes, to);
        require(used == bytes, "code: expected ", used, " bytes, got ", bytes);
      },
      py::arg("code").noconvert(), py::arg("rows"), py::arg("columns"), py::arg("group"),
      py::arg("values").noconvert());
}

}  // namespace noisycells::bindings
