#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "checks.h"
#include "noisycells/crossbar.h"
#include "noisycells/simd_level.h"

namespace noisycells::bindings {
namespace {

using Floats = Array<float>;
using MaybeFloats = std::optional<Floats>;
using Pair = std::pair<std::uint64_t, std::uint64_t>;
using Ends = std::pair<float, float>;
using Three = std::array<int, 3>;

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
  return {low, high, static_cast<std::uint32_t>(off),
          static_cast<std::uint32_t>(std::min(off + on, top)), conductances.first,
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

void require_matrix(const Floats& a, const char* name, std::int64_t n, std::int64_t k) {
  require(a.ndim() == 2 && a.shape(0) == n && a.shape(1) == k,
          std::string(name) + ": expected shape (" + std::to_string(n) + ", " +
              std::to_string(k) + ")");
}

Draw checked_draw(std::uint64_t seed, std::uint64_t stream, std::int64_t cell) {
  require(cell >= 0 && cell < 1 << 16, "cell: expected 0 to 65535, got " + std::to_string(cell));
  return {seed, stream, 0, static_cast<std::uint32_t>(cell)};
}

// The number of inverses as a stride.
int inverse_stride(const Floats& inverse, std::int64_t n) {
  const std::int64_t count = length(inverse, "inverse");
  require(count == 1 || count == n, "inverse: expected 1 or " + std::to_string(n) +
                                        " elements, got " + std::to_string(count));
  return count == 1 ? 0 : 1;
}

const float* optional_vector(const MaybeFloats& a, const char* name, std::int64_t n) {
  if (!a) return nullptr;
  require_length(*a, name, n);
  return a->data();
}

struct Arguments {
  int dac_levels, slice_bits, adc_levels;
  Floats steps, plane_factors;
  float output_noise;
  bool weight_noise;
  std::optional<float> fixed_range;
  Floats scale;
  MaybeFloats bias, row_scale;
  std::uint64_t seed, stream;
  std::optional<Array<std::uint8_t>> inside;
  int num_threads;
};

std::int64_t multiply(const CrossbarArray& array, const Floats& x, const Patches* patches,
                      std::int64_t batch, Floats& y, Arguments& a) {
  const int most = array.integer() ? 127 : 32767;
  require(a.dac_levels == 0 || (a.dac_levels >= 1 && a.dac_levels <= most),
          "dac_levels: expected 0 to " + std::to_string(most) + ", got " +
              std::to_string(a.dac_levels));
  require(!array.integer() || a.dac_levels > 0, "dac_levels: the integer kernel needs a DAC");
  require(a.slice_bits >= 0 && a.slice_bits <= 15 && (a.slice_bits == 0 || a.dac_levels > 0),
          "slice_bits: expected 0 to 15, with a DAC, got " + std::to_string(a.slice_bits));
  require(a.adc_levels >= 0 && a.adc_levels <= 32767,
          "adc_levels: expected 0 to 32767, got " + std::to_string(a.adc_levels));
  require(std::isfinite(a.output_noise) && a.output_noise >= 0,
          "output_noise: expected a finite number >= 0");
  require(!a.weight_noise || array.has_variance(),
          "weight_noise: the array was packed without variances");
  require(!a.fixed_range || (std::isfinite(*a.fixed_range) && *a.fixed_range > 0),
          "fixed_range: expected a finite number > 0, or None");
  require_matrix(y, "y", batch, array.n());
  const std::int64_t passes = static_cast<std::int64_t>(array.planes()) * array.tiles() *
                              CrossbarArray::slices(a.dac_levels, a.slice_bits);
  require(passes < 1 << 16, "passes: expected at most 65535, got " + std::to_string(passes));
  require_length(a.steps, "steps", passes);
  if (a.adc_levels)
    for (std::int64_t p = 0; p < passes; ++p)
      require(std::isfinite(a.steps.data()[p]) && a.steps.data()[p] > 0 &&
                  std::isfinite(1 / a.steps.data()[p]),
              "steps: expected finite numbers > 0 with finite inverses");
  require_length(a.plane_factors, "plane_factors", array.planes());
  require_length(a.scale, "scale", array.n());
  Product how{a.dac_levels, a.slice_bits, a.adc_levels, a.steps.data(), a.plane_factors.data(),
              a.output_noise, a.weight_noise, a.fixed_range.value_or(0.0f), a.scale.data(),
              optional_vector(a.bias, "bias", array.n()),
              optional_vector(a.row_scale, "row_scale", array.k()), a.seed, a.stream, nullptr};
  for (std::int64_t i = 0; how.row_scale && i < array.k(); ++i)
    require(std::isfinite(how.row_scale[i]), "row_scale: expected finite values");
  require(array.packed(), "product: expected every plane to be packed first");
  if (a.inside) {
    require(a.inside->ndim() == 3 && a.inside->shape(0) == passes &&
                a.inside->shape(1) == batch && a.inside->shape(2) == (array.n() + 7) / 8,
            "inside: expected shape (" + std::to_string(passes) + ", " + std::to_string(batch) +
                ", " + std::to_string((array.n() + 7) / 8) + ")");
    how.inside = a.inside->mutable_data();
  }
  float* out = y.mutable_data();
  std::int64_t clipped;
  {
    const Released released;
    clipped = array.product(x.data(), patches, batch, out, how, a.num_threads);
  }
  require(clipped >= 0, "x: expected finite values, got NaN or infinity");
  return clipped;
}

// Patches of x (batch, channels, depth, height, width) with `k` inputs each.
Patches checked_patches(const Floats& x, const Three& kernel, const Three& stride,
                        const Three& padding, const Three& dilation, std::int64_t k) {
  require(x.ndim() == 5, "x: expected 5 dimensions");
  Patches p{};
  p.channels = x.shape(1);
  std::int64_t size = p.channels;
  for (std::size_t d = 0; d < 3; ++d) {
    require(kernel[d] >= 1 && stride[d] >= 1 && padding[d] >= 0 && dilation[d] >= 1,
            "kernel, stride, padding, dilation: expected positive sizes");
    p.size[d] = x.shape(static_cast<py::ssize_t>(2 + d));
    p.kernel[d] = kernel[d];
    p.stride[d] = stride[d];
    p.padding[d] = padding[d];
    p.dilation[d] = dilation[d];
    size *= kernel[d];
    const std::int64_t reach = p.size[d] + 2 * std::int64_t{padding[d]} -
                               (std::int64_t{kernel[d]} - 1) * dilation[d] - 1;
    require(reach >= 0, "kernel: expected to fit into the padded input");
    p.out[d] = reach / stride[d] + 1;
  }
  require(size == k, "x: expected channels x kernel = " + std::to_string(k) +
                         " inputs a patch, got " + std::to_string(size));
  return p;
}

}  // namespace

void register_crossbar(py::module_& m) {
  const auto stuck = [] { return Pair{0, 0}; };
  const auto ends = [] { return Ends{0.0f, 0.0f}; };
  py::class_<BoundProgramming>(m, "Programming")
      .def(py::init(&make_programming), py::arg("table").noconvert(), py::arg("x0"),
           py::arg("inv_dx"), py::arg("low"), py::arg("high"), py::arg("stuck") = stuck(),
           py::arg("stuck_conductances") = ends());
  py::class_<BoundAging>(m, "Aging")
      .def(py::init(&make_aging), py::arg("relaxation").noconvert(),
           py::arg("drift").noconvert(), py::arg("flicker").noconvert(), py::arg("x0"),
           py::arg("inv_dx"), py::arg("low"), py::arg("high"), py::arg("stuck") = stuck(),
           py::arg("stuck_conductances") = ends());
  m.def(
      "program",
      [](const Floats& w, const Floats& inverse, int sign, float g_min, float span, Floats& out,
         const BoundProgramming& device, std::uint64_t seed, std::uint64_t stream,
         std::int64_t cell, int num_threads) {
        require(w.ndim() == 2, "weights: expected 2 dimensions");
        const std::int64_t n = w.shape(0), k = w.shape(1);
        require_matrix(out, "out", n, k);
        const int stride = inverse_stride(inverse, n);
        const Draw draw = checked_draw(seed, stream, cell);
        float* to = out.mutable_data();
        const Released released;
        program(w.data(), inverse.data(), stride, static_cast<float>(sign), g_min, span, n, k, to,
                device.device, draw, num_threads);
      },
      py::arg("weights").noconvert(), py::arg("inverse").noconvert(), py::arg("sign"),
      py::arg("g_min"), py::arg("span"), py::arg("out").noconvert(), py::arg("device"),
      py::arg("seed"), py::arg("stream"), py::arg("cell"), py::arg("num_threads") = 0);
  m.def(
      "program_pair",
      [](const Floats& w, const Floats& inverse, float g_min, float span, Floats& positive,
         Floats& negative, const BoundProgramming& device, std::uint64_t seed,
         std::uint64_t stream, std::int64_t cell, int num_threads) {
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
        program_pair(w.data(), inverse.data(), stride, g_min, span, n, k, plus, minus,
                     device.device, draw, num_threads);
      },
      py::arg("weights").noconvert(), py::arg("inverse").noconvert(), py::arg("g_min"),
      py::arg("span"), py::arg("positive").noconvert(), py::arg("negative").noconvert(),
      py::arg("device"), py::arg("seed"), py::arg("stream"), py::arg("cell"),
      py::arg("num_threads") = 0);
  m.def(
      "age",
      [](const Floats& w, const Floats& inverse, int sign, float g_min, float span,
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
        age(w.data(), inverse.data(), stride, static_cast<float>(sign), g_min, span,
            programmed.data(), n, k, to, device.device, draw, num_threads);
      },
      py::arg("weights").noconvert(), py::arg("inverse").noconvert(), py::arg("sign"),
      py::arg("g_min"), py::arg("span"), py::arg("programmed").noconvert(),
      py::arg("out").noconvert(), py::arg("device"), py::arg("seed"), py::arg("stream"),
      py::arg("cell"), py::arg("num_threads") = 0);

  py::class_<CrossbarArray>(m, "CrossbarArray")
      .def(py::init([](std::int64_t n, std::int64_t k, int rows, int planes, bool integer,
                       bool int8, bool variance) {
             require(n >= 1 && k >= 1, "n, k: expected >= 1");
             require(rows >= 1, "rows: expected >= 1, got " + std::to_string(rows));
             require(!integer || rows <= kIntegerRows,
                     "rows: the integer kernel takes at most 512, got " + std::to_string(rows));
             require(planes >= 1, "planes: expected >= 1, got " + std::to_string(planes));
             return std::make_unique<CrossbarArray>(n, k, rows, planes, integer, int8, variance);
           }),
           py::arg("n"), py::arg("k"), py::arg("rows"), py::arg("planes"), py::arg("integer"),
           py::arg("int8"), py::arg("variance"))
      .def_property_readonly("simd_level",
                             [](const CrossbarArray& a) { return std::string(a.level().level); })
      .def(
          "pack",
          [](CrossbarArray& a, int plane, const MaybeFloats& positive,
             const MaybeFloats& negative, float inverse_span, const MaybeFloats& variance,
             int num_threads) {
            require(plane >= 0 && plane < a.planes(), "plane: expected less than planes");
            require(positive || negative, "positive, negative: expected one or both");
            require(variance.has_value() == a.has_variance(),
                    "variance: expected as the array was made");
            const auto data = [&](const MaybeFloats& m, const char* name) -> const float* {
              if (!m) return nullptr;
              require_matrix(*m, name, a.n(), a.k());
              return m->data();
            };
            const float* plus = data(positive, "positive");
            const float* minus = data(negative, "negative");
            const float* var = data(variance, "variance");
            Floats reach(a.tiles());
            float* to = reach.mutable_data();
            {
              const Released released;
              a.pack(plane, plus, minus, inverse_span, var, to, num_threads);
            }
            return reach;
          },
          py::arg("plane"), py::arg("positive").noconvert(), py::arg("negative").noconvert(),
          py::arg("inverse_span"), py::arg("variance").noconvert(), py::arg("num_threads") = 0)
      .def(
          "product",
          [](const CrossbarArray& array, const Floats& x, Floats& y, int dac_levels,
             int slice_bits, int adc_levels, const Floats& steps, const Floats& plane_factors,
             float output_noise, bool weight_noise, std::optional<float> fixed_range,
             const Floats& scale, const MaybeFloats& bias, const MaybeFloats& row_scale,
             std::uint64_t seed, std::uint64_t stream,
             const std::optional<Array<std::uint8_t>>& inside, int num_threads) {
            require(x.ndim() == 2 && x.shape(1) == array.k(),
                    "x: expected shape (batch, " + std::to_string(array.k()) + ")");
            Arguments a{dac_levels, slice_bits, adc_levels, steps, plane_factors, output_noise,
                        weight_noise, fixed_range, scale, bias, row_scale, seed, stream, inside,
                        num_threads};
            return multiply(array, x, nullptr, x.shape(0), y, a);
          },
          py::arg("x").noconvert(), py::arg("y").noconvert(), py::arg("dac_levels"),
          py::arg("slice_bits"), py::arg("adc_levels"), py::arg("steps").noconvert(),
          py::arg("plane_factors").noconvert(), py::arg("output_noise"),
          py::arg("weight_noise"), py::arg("fixed_range"), py::arg("scale").noconvert(),
          py::arg("bias").noconvert(), py::arg("row_scale").noconvert(), py::arg("seed"),
          py::arg("stream"), py::arg("inside").noconvert(), py::arg("num_threads") = 0)
      .def(
          "convolve",
          [](const CrossbarArray& array, const Floats& x, Floats& y, Three kernel, Three stride,
             Three padding, Three dilation, int dac_levels, int slice_bits, int adc_levels,
             const Floats& steps, const Floats& plane_factors, float output_noise,
             bool weight_noise, std::optional<float> fixed_range, const Floats& scale,
             const MaybeFloats& bias, const MaybeFloats& row_scale, std::uint64_t seed,
             std::uint64_t stream, const std::optional<Array<std::uint8_t>>& inside,
             int num_threads) {
            require(y.ndim() == 5, "y: expected 5 dimensions");
            const Patches p = checked_patches(x, kernel, stride, padding, dilation, array.k());
            for (int d = 0; d < 3; ++d)
              require(y.shape(1 + d) == p.out[d], "y: expected the size of the output");
            require(y.shape(0) == x.shape(0) && y.shape(4) == array.n(),
                    "y: expected shape (batch, depth, height, width, out)");
            const std::int64_t batch = x.shape(0) * p.out[0] * p.out[1] * p.out[2];
            Floats flat({batch, static_cast<std::int64_t>(array.n())}, y.mutable_data(), y);
            Arguments a{dac_levels, slice_bits, adc_levels, steps, plane_factors, output_noise,
                        weight_noise, fixed_range, scale, bias, row_scale, seed, stream, inside,
                        num_threads};
            return multiply(array, x, &p, batch, flat, a);
          },
          py::arg("x").noconvert(), py::arg("y").noconvert(), py::arg("kernel"),
          py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("dac_levels"),
          py::arg("slice_bits"), py::arg("adc_levels"), py::arg("steps").noconvert(),
          py::arg("plane_factors").noconvert(), py::arg("output_noise"),
          py::arg("weight_noise"), py::arg("fixed_range"), py::arg("scale").noconvert(),
          py::arg("bias").noconvert(), py::arg("row_scale").noconvert(), py::arg("seed"),
          py::arg("stream"), py::arg("inside").noconvert(), py::arg("num_threads") = 0);
  m.def(
      "weight_gradient",
      [](const Floats& x, const Floats& grad, Floats& total, int rows,
         const Three& kernel, const Three& stride, const Three& padding, const Three& dilation,
         int dac_levels, int shift, int digit, std::optional<float> fixed_range,
         const MaybeFloats& row_scale, const std::optional<Array<std::uint8_t>>& inside,
         int num_threads) {
        require(total.ndim() == 2 && total.shape(0) >= 1 && total.shape(1) >= 1,
                "total: expected shape (out, inputs)");
        const std::int64_t n = total.shape(0), k = total.shape(1);
        const Patches p = checked_patches(x, kernel, stride, padding, dilation, k);
        const std::int64_t batch = x.shape(0) * p.out[0] * p.out[1] * p.out[2];
        require_matrix(grad, "grad", batch, n);
        require(rows >= 1, "rows: expected >= 1, got " + std::to_string(rows));
        require(dac_levels >= 1 && dac_levels <= 32767, "dac_levels: expected 1 .. 32767");
        require(shift >= 0 && shift < 16, "shift: expected 0 .. 15");
        require(digit >= 0, "digit: expected >= 0");
        require(!fixed_range || (std::isfinite(*fixed_range) && *fixed_range > 0),
                "fixed_range: expected a finite number > 0");
        WeightGradient how{dac_levels, shift, digit, fixed_range.value_or(0.0f), nullptr, nullptr};
        if (row_scale) {
          require(row_scale->ndim() == 1 && row_scale->shape(0) == k,
                  "row_scale: expected shape (" + std::to_string(k) + ",)");
          how.row_scale = row_scale->data();
        }
        if (inside) {
          const std::int64_t tiles = (k + rows - 1) / rows, bytes = (n + 7) / 8;
          require(inside->ndim() == 3 && inside->shape(0) == tiles &&
                      inside->shape(1) == batch && inside->shape(2) == bytes,
                  "inside: expected shape (" + std::to_string(tiles) + ", " +
                      std::to_string(batch) + ", " + std::to_string(bytes) + ")");
          how.inside = inside->data();
        }
        float* to = total.mutable_data();
        const Released released;
        weight_gradient(x.data(), &p, batch, grad.data(), n, k, rows, how, to, num_threads);
      },
      py::arg("x").noconvert(), py::arg("grad").noconvert(), py::arg("total").noconvert(),
      py::arg("rows"), py::arg("kernel"), py::arg("stride"), py::arg("padding"),
      py::arg("dilation"), py::arg("dac_levels"), py::arg("shift"), py::arg("digit"),
      py::arg("fixed_range"), py::arg("row_scale").noconvert(), py::arg("inside").noconvert(),
      py::arg("num_threads") = 0);
}

}  // namespace noisycells::bindings
