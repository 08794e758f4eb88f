// The devices of a crossbar: programming and aging.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "checks.h"
#include "noisycells/crossbar.h"

namespace noisycells::bindings {
namespace {

using Pair = std::pair<std::uint64_t, std::uint64_t>;
using Ends = std::pair<float, float>;

struct BoundProgramming {
  std::vector<float> table;
  Programming device{};
};
struct BoundAging {
  std::vector<float> relaxation, drift, flicker;
  Aging device{};
};

Limits make_limits(float low, float high, Pair stuck, Ends conductances) {
  require(low <= high, "low: expected at most high");
  constexpr std::uint64_t top = 0xFFFFFFFFu;
  const std::uint64_t off = std::min(stuck.first, top), on = std::min(stuck.second, top);
  return {low,
          high,
          static_cast<std::uint32_t>(off),
          static_cast<std::uint32_t>(std::min(off + on, top)),
          conductances.first,
          conductances.second};
}

std::unique_ptr<BoundProgramming> make_programming(const Floats& table, float x0, float inv_dx,
                                                   float low, float high, Pair stuck,
                                                   Ends conductances) {
  require_rows(table, "table", 4);
  auto b = std::make_unique<BoundProgramming>();
  b->table.assign(table.data(), table.data() + table.size());
  b->device = {b->table.data(), static_cast<std::int32_t>(table.shape(0)), x0, inv_dx,
               make_limits(low, high, stuck, conductances)};
  return b;
}

std::unique_ptr<BoundAging> make_aging(const MaybeFloats& relaxation, const MaybeFloats& drift,
                                       const MaybeFloats& flicker, float x0, float inv_dx,
                                       float low, float high, Pair stuck, Ends conductances) {
  auto b = std::make_unique<BoundAging>();
  const auto bind = [](const MaybeFloats& table, const char* name, int columns,
                       std::vector<float>& memory, const float*& data, std::int32_t& n) {
    if (!table) return;
    require_rows(*table, name, columns);
    memory.assign(table->data(), table->data() + table->size());
    data = memory.data();
    n = static_cast<std::int32_t>(table->shape(0));
  };
  Aging& d = b->device;
  bind(relaxation, "relaxation", 4, b->relaxation, d.relaxation, d.relaxation_n);
  bind(drift, "drift", 4, b->drift, d.drift, d.drift_n);
  bind(flicker, "flicker", 2, b->flicker, d.flicker, d.flicker_n);
  d.x0 = x0;
  d.inv_dx = inv_dx;
  d.limits = make_limits(low, high, stuck, conductances);
  return b;
}

Draw checked_draw(std::uint64_t seed, std::uint64_t stream, std::int64_t cell) {
  require(cell >= 0 && cell < 1 << 16, "cell: expected 0 to 65535, got ", cell);
  return {seed, stream, 0, static_cast<std::uint32_t>(cell)};
}

// The number of inverses as a stride.
int inverse_stride(const Floats& inverse, std::int64_t n) {
  const std::int64_t count = length(inverse, "inverse");
  require(count == 1 || count == n, "inverse: expected 1 or ", n, " elements, got ", count);
  return count == 1 ? 0 : 1;
}

void bound_program(const Floats& w, const Floats& inverse, int sign, float g_min, float span,
                   Floats& out, const BoundProgramming& device, std::uint64_t seed,
                   std::uint64_t stream, std::int64_t cell, int num_threads) {
  require(w.ndim() == 2, "weights: expected 2 dimensions");
  const std::int64_t n = w.shape(0), k = w.shape(1);
  require_matrix(out, "out", n, k);
  const int stride = inverse_stride(inverse, n);
  const Draw draw = checked_draw(seed, stream, cell);
  float* to = out.mutable_data();
  const Released released;
  program(w.data(), inverse.data(), stride, static_cast<float>(sign), g_min, span, n, k, to,
          device.device, draw, num_threads);
}

void bound_program_pair(const Floats& w, const Floats& inverse, float g_min, float span,
                        Floats& positive, Floats& negative, const BoundProgramming& device,
                        std::uint64_t seed, std::uint64_t stream, std::int64_t cell,
                        int num_threads) {
  require(w.ndim() == 2, "weights: expected 2 dimensions");
  const std::int64_t n = w.shape(0), k = w.shape(1);
  require_matrix(positive, "positive", n, k);
  require_matrix(negative, "negative", n, k);
  const int stride = inverse_stride(inverse, n);
  checked_draw(seed, stream, cell + 1);
  const Draw draw = checked_draw(seed, stream, cell);
  float* plus = positive.mutable_data();
  float* minus = negative.mutable_data();
  const Released released;
  program_pair(w.data(), inverse.data(), stride, g_min, span, n, k, plus, minus, device.device,
               draw, num_threads);
}

void bound_age(const Floats& w, const Floats& inverse, int sign, float g_min, float span,
               const Floats& programmed, Floats& out, const BoundAging& device, std::uint64_t seed,
               std::uint64_t stream, std::int64_t cell, int num_threads) {
  require(w.ndim() == 2, "weights: expected 2 dimensions");
  const std::int64_t n = w.shape(0), k = w.shape(1);
  require_matrix(programmed, "programmed", n, k);
  require_matrix(out, "out", n, k);
  const int stride = inverse_stride(inverse, n);
  const Draw draw = checked_draw(seed, stream, cell);
  float* to = out.mutable_data();
  const Released released;
  age(w.data(), inverse.data(), stride, static_cast<float>(sign), g_min, span, programmed.data(), n,
      k, to, device.device, draw, num_threads);
}

}  // namespace

void register_devices(py::module_& m) {
  const auto stuck = [] { return Pair{0, 0}; };
  const auto ends = [] { return Ends{0.0f, 0.0f}; };
  py::class_<BoundProgramming>(m, "Programming")
      .def(py::init(&make_programming), py::arg("table").noconvert(), py::arg("x0"),
           py::arg("inv_dx"), py::arg("low"), py::arg("high"), py::arg("stuck") = stuck(),
           py::arg("stuck_conductances") = ends());
  py::class_<BoundAging>(m, "Aging")
      .def(py::init(&make_aging), py::arg("relaxation").noconvert(), py::arg("drift").noconvert(),
           py::arg("flicker").noconvert(), py::arg("x0"), py::arg("inv_dx"), py::arg("low"),
           py::arg("high"), py::arg("stuck") = stuck(), py::arg("stuck_conductances") = ends());
  m.def("program", &bound_program, py::arg("weights").noconvert(), py::arg("inverse").noconvert(),
        py::arg("sign"), py::arg("g_min"), py::arg("span"), py::arg("out").noconvert(),
        py::arg("device"), py::arg("seed"), py::arg("stream"), py::arg("cell"),
        py::arg("num_threads") = 0);
  m.def("program_pair", &bound_program_pair, py::arg("weights").noconvert(),
        py::arg("inverse").noconvert(), py::arg("g_min"), py::arg("span"),
        py::arg("positive").noconvert(), py::arg("negative").noconvert(), py::arg("device"),
        py::arg("seed"), py::arg("stream"), py::arg("cell"), py::arg("num_threads") = 0);
  m.def("age", &bound_age, py::arg("weights").noconvert(), py::arg("inverse").noconvert(),
        py::arg("sign"), py::arg("g_min"), py::arg("span"), py::arg("programmed").noconvert(),
        py::arg("out").noconvert(), py::arg("device"), py::arg("seed"), py::arg("stream"),
        py::arg("cell"), py::arg("num_threads") = 0);
}

}  // namespace noisycells::bindings
