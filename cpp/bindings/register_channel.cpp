#include <algorithm>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include <pybind11/stl.h>

#include "checks.h"
#include "noisycells/channel.h"
#include "tables.h"

namespace noisycells::bindings {
namespace {

using Adc = std::tuple<float, float, float, std::int32_t>;  // lo, step, inv_step, levels

std::unique_ptr<BoundChannel> make_channel(const Array<float>& table, float x0, float inv_dx,
                                           const std::optional<Array<float>>& read,
                                           const std::optional<Adc>& adc, float d2d,
                                           std::pair<std::uint64_t, std::uint64_t> stuck) {
  require_rows(table, "table", 4);
  auto b = std::make_unique<BoundChannel>();
  b->table.assign(table.data(), table.data() + table.size());
  ChannelTables& t = b->tables;
  t.table = b->table.data();
  t.n = static_cast<std::int32_t>(table.shape(0));
  if (t.n <= kSmallTable) {
    b->columns.assign(std::size_t{4} * kSmallTable, 0.0f);
    for (std::int32_t i = 0; i < 4 * t.n; ++i)
      b->columns[static_cast<std::size_t>(i % 4) * kSmallTable + i / 4] = b->table[i];
    t.columns = b->columns.data();
  }
  t.x0 = x0;
  t.inv_dx = inv_dx;
  t.d2d = d2d;
  constexpr std::uint64_t top = 0xFFFFFFFFu;
  t.stuck_low = static_cast<std::uint32_t>(std::min(stuck.first, top));
  t.stuck_either = static_cast<std::uint32_t>(std::min(stuck.first + stuck.second, top));
  if (read) {
    require_rows(*read, "read", 2);
    require(read->shape(0) == table.shape(0), "read: expected as many rows as table");
    b->read.assign(read->data(), read->data() + read->size());
    t.read = b->read.data();
  }
  if (adc) {
    t.adc = {std::get<0>(*adc), std::get<1>(*adc), std::get<2>(*adc), std::get<3>(*adc)};
    require(t.adc.levels >= 2 && t.adc.levels <= 1 << 24, "adc: expected 2 to 2^24 levels");
  }
  return b;
}

}  // namespace

void register_channel(py::module_& m) {
  py::class_<BoundChannel>(m, "ChannelTables")
      .def(py::init(&make_channel), py::arg("table").noconvert(), py::arg("x0"), py::arg("inv_dx"),
           py::arg("read") = py::none(), py::arg("adc") = py::none(), py::arg("d2d") = 0.0f,
           py::arg("stuck") = std::pair<std::uint64_t, std::uint64_t>{0, 0});

  m.def(
      "sample",
      [](const Array<float>& x, Array<float>& out, const py::object& cells,
         const BoundChannel& channel, std::uint64_t chip, std::uint64_t read, std::uint64_t stream,
         std::int64_t offset, bool literal, int num_threads) {
        const std::int64_t n = length(x, "x");
        require_length(out, "out", n);
        std::int32_t one = 1;
        const std::int32_t* counts = &one;
        int stride = 0;
        if (py::isinstance<py::int_>(cells)) {
          one = cells.cast<std::int32_t>();
          require(one >= 1 && one <= 65535, "cells: expected 1 to 65535, got ", one);
        } else {
          require(py::isinstance<Array<std::int32_t>>(cells),
                  "cells: expected an int or a contiguous int32 array");
          const auto array = cells.cast<Array<std::int32_t>>();
          require_length(array, "cells", n);
          counts = array.data();
          stride = 1;
          for (std::int64_t i = 0; i < n; ++i)
            require(counts[i] >= 1 && counts[i] <= 65535, "cells: expected 1 to 65535, got ",
                    counts[i], " at index ", i);
        }
        auto* to = out.mutable_data();
        const Released released;
        sample(x.data(), to, n, counts, stride, channel.tables, {chip, read, stream}, offset,
               literal, num_threads);
      },
      py::arg("x").noconvert(), py::arg("out").noconvert(), py::arg("cells"), py::arg("channel"),
      py::arg("chip"), py::arg("read"), py::arg("stream"), py::arg("offset") = 0,
      py::arg("literal") = false, py::arg("num_threads") = 0);
}

}  // namespace noisycells::bindings
