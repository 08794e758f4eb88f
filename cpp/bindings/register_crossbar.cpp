// Products with packed conductances, and the gradients of their weights.
#include <array>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <vector>

#include "checks.h"
#include "noisycells/crossbar.h"
#include "noisycells/simd_level.h"

namespace noisycells::bindings {
namespace {

using Bits = Array<std::uint8_t>;
using MaybeBits = std::optional<Bits>;
using Three = std::array<int, 3>;

std::vector<float> copied(const Floats& a, const char* name) {
  length(a, name);
  return {a.data(), a.data() + a.size()};
}

std::vector<float> copied(const MaybeFloats& a, const char* name) {
  return a ? copied(*a, name) : std::vector<float>{};
}

void require_range(std::optional<float> fixed_range) {
  require(!fixed_range || (std::isfinite(*fixed_range) && *fixed_range > 0),
          "fixed_range: expected a finite number > 0, or None");
}

void require_size(const std::vector<float>& a, const char* name, std::int64_t expected) {
  require(static_cast<std::int64_t>(a.size()) == expected, name, ": expected ", expected,
          " elements, got ", a.size());
}

// ---- settings

// How products are computed. The arrays are copies; those of `how` are these.
struct ProductSettings {
  std::vector<float> steps, plane_factors, scale, row_scale;
  Product how{};
};

void check(const ProductSettings& s) {
  const Product& how = s.how;
  require(how.dac_levels >= 0 && how.dac_levels <= 32767, "dac_levels: expected 0 to 32767, got ",
          how.dac_levels);
  require(
      how.slice_bits >= 0 && how.slice_bits <= 15 && (how.slice_bits == 0 || how.dac_levels > 0),
      "slice_bits: expected 0 to 15, with a DAC, got ", how.slice_bits);
  require(how.adc_levels >= 0 && how.adc_levels <= 32767, "adc_levels: expected 0 to 32767, got ",
          how.adc_levels);
  require(std::isfinite(how.output_noise) && how.output_noise >= 0,
          "output_noise: expected a finite number >= 0");
  if (how.adc_levels)
    for (const float step : s.steps)
      require(std::isfinite(step) && step > 0 && std::isfinite(1 / step),
              "steps: expected finite numbers > 0 with finite inverses");
  for (const float scale : s.row_scale)
    require(std::isfinite(scale), "row_scale: expected finite values");
}

std::unique_ptr<ProductSettings> make_settings(int dac_levels, int slice_bits, int adc_levels,
                                               const Floats& steps, const Floats& plane_factors,
                                               float output_noise, bool weight_noise,
                                               std::optional<float> fixed_range,
                                               const Floats& scale, const MaybeFloats& row_scale) {
  require_range(fixed_range);
  auto s = std::make_unique<ProductSettings>();
  s->steps = copied(steps, "steps");
  s->plane_factors = copied(plane_factors, "plane_factors");
  s->scale = copied(scale, "scale");
  s->row_scale = copied(row_scale, "row_scale");
  Product& how = s->how;
  how.dac_levels = dac_levels;
  how.slice_bits = slice_bits;
  how.adc_levels = adc_levels;
  how.steps = s->steps.data();
  how.plane_factors = s->plane_factors.data();
  how.output_noise = output_noise;
  how.weight_noise = weight_noise;
  how.fixed_range = fixed_range.value_or(0.0f);
  how.scale = s->scale.data();
  how.row_scale = row_scale ? s->row_scale.data() : nullptr;
  check(*s);
  return s;
}

// How a kernel moves over images: depth, height, width.
struct Convolution {
  Three kernel, stride, padding, dilation;
};

std::unique_ptr<Convolution> make_convolution(const Three& kernel, const Three& stride,
                                              const Three& padding, const Three& dilation) {
  for (std::size_t d = 0; d < 3; ++d)
    require(kernel[d] >= 1 && stride[d] >= 1 && padding[d] >= 0 && dilation[d] >= 1,
            "kernel, stride, padding, dilation: expected positive sizes");
  return std::make_unique<Convolution>(Convolution{kernel, stride, padding, dilation});
}

// The patches of x (batch, channels, depth, height, width), with `k` inputs each.
Patches patches_of(const Floats& x, const Convolution& c, std::int64_t k) {
  require(x.ndim() == 5, "x: expected 5 dimensions");
  Patches p{};
  p.channels = x.shape(1);
  std::int64_t size = p.channels;
  for (std::size_t d = 0; d < 3; ++d) {
    p.size[d] = x.shape(static_cast<py::ssize_t>(2 + d));
    p.kernel[d] = c.kernel[d];
    p.stride[d] = c.stride[d];
    p.padding[d] = c.padding[d];
    p.dilation[d] = c.dilation[d];
    size *= c.kernel[d];
    const std::int64_t reach = p.size[d] + 2 * std::int64_t{c.padding[d]} -
                               (std::int64_t{c.kernel[d]} - 1) * c.dilation[d] - 1;
    require(reach >= 0, "kernel: expected to fit into the padded input");
    p.out[d] = reach / c.stride[d] + 1;
  }
  require(size == k, "x: expected channels x kernel = ", k, " inputs a patch, got ", size);
  return p;
}

std::int64_t count(const Floats& x, const Patches& p) {
  return x.shape(0) * p.out[0] * p.out[1] * p.out[2];
}

// ---- products

std::unique_ptr<CrossbarArray> make_array(std::int64_t n, std::int64_t k, int rows, int planes,
                                          bool integer, bool int8, bool variance) {
  require(n >= 1 && k >= 1, "n, k: expected >= 1");
  require(rows >= 1, "rows: expected >= 1, got ", rows);
  require(!integer || rows <= kIntegerRows, "rows: the integer kernel takes at most 512, got ",
          rows);
  require(planes >= 1, "planes: expected >= 1, got ", planes);
  return std::make_unique<CrossbarArray>(n, k, rows, planes, integer, int8, variance);
}

Floats pack(CrossbarArray& array, int plane, const MaybeFloats& positive,
            const MaybeFloats& negative, float inverse_span, const MaybeFloats& variance,
            int num_threads) {
  require(plane >= 0 && plane < array.planes(), "plane: expected less than planes");
  require(positive || negative, "positive, negative: expected one or both");
  require(variance.has_value() == array.has_variance(), "variance: expected as the array was made");
  const auto data = [&](const MaybeFloats& m, const char* name) -> const float* {
    if (!m) return nullptr;
    require_matrix(*m, name, array.n(), array.k());
    return m->data();
  };
  const float* plus = data(positive, "positive");
  const float* minus = data(negative, "negative");
  const float* var = data(variance, "variance");
  Floats reach(array.tiles());
  float* to = reach.mutable_data();
  {
    const Released released;
    array.pack(plane, plus, minus, inverse_span, var, to, num_threads);
  }
  return reach;
}

// Refuses settings that are not for this array; returns its passes under them.
std::int64_t checked_passes(const CrossbarArray& array, const ProductSettings& s) {
  const int most = array.integer() ? 127 : 32767;
  require(s.how.dac_levels <= most, "dac_levels: expected 0 to ", most, ", got ", s.how.dac_levels);
  require(!array.integer() || s.how.dac_levels > 0, "dac_levels: the integer kernel needs a DAC");
  require(!s.how.weight_noise || array.has_variance(),
          "weight_noise: the array was packed without variances");
  const std::int64_t passes = static_cast<std::int64_t>(array.planes()) * array.tiles() *
                              CrossbarArray::slices(s.how.dac_levels, s.how.slice_bits);
  require(passes < 1 << 16, "passes: expected at most 65535, got ", passes);
  require_size(s.steps, "steps", passes);
  require_size(s.plane_factors, "plane_factors", array.planes());
  require_size(s.scale, "scale", array.n());
  if (s.how.row_scale) require_size(s.row_scale, "row_scale", array.k());
  return passes;
}

// Of a product's y with or without a convolution.
void require_output(const Floats& y, const Patches* p, std::int64_t images, std::int64_t n) {
  if (!p) return require_matrix(y, "y", images, n);
  require(y.ndim() == 5, "y: expected 5 dimensions");
  for (int d = 0; d < 3; ++d)
    require(y.shape(1 + d) == p->out[d], "y: expected the size of the output");
  require(y.shape(0) == images && y.shape(4) == n,
          "y: expected shape (batch, depth, height, width, out)");
}

void require_inside(const Bits& inside, std::int64_t passes, std::int64_t batch, std::int64_t n) {
  const std::int64_t bytes = (n + 7) / 8;
  require(inside.ndim() == 3 && inside.shape(0) == passes && inside.shape(1) == batch &&
              inside.shape(2) == bytes,
          "inside: expected shape (", passes, ", ", batch, ", ", bytes, ")");
}

std::int64_t product(const CrossbarArray& array, const Floats& x, Floats& y,
                     const ProductSettings& settings, std::uint64_t seed, std::uint64_t stream,
                     const MaybeFloats& bias, MaybeBits& inside, const Convolution* convolution,
                     int num_threads) {
  Patches patches{};
  if (convolution)
    patches = patches_of(x, *convolution, array.k());
  else
    require(x.ndim() == 2 && x.shape(1) == array.k(), "x: expected shape (batch, ", array.k(), ")");
  const Patches* p = convolution ? &patches : nullptr;
  const std::int64_t batch = p ? count(x, patches) : x.shape(0);
  require_output(y, p, x.shape(0), array.n());
  const std::int64_t passes = checked_passes(array, settings);
  require(array.packed(), "product: expected every plane to be packed first");
  Product how = settings.how;
  how.seed = seed;
  how.stream = stream;
  if (bias) {
    require_length(*bias, "bias", array.n());
    how.bias = bias->data();
  }
  if (inside) {
    require_inside(*inside, passes, batch, array.n());
    how.inside = inside->mutable_data();
  }
  float* out = y.mutable_data();
  std::int64_t clipped = 0;
  {
    const Released released;
    clipped = array.product(x.data(), p, batch, out, how, num_threads);
  }
  require(clipped >= 0, "x: expected finite values, got NaN or infinity");
  return clipped;
}

// ---- gradients

void bound_weight_gradient(const Floats& x, const Floats& grad, Floats& total,
                           const Convolution& convolution, int rows, int dac_levels, int shift,
                           int digit, std::optional<float> fixed_range,
                           const MaybeFloats& row_scale, const MaybeBits& inside, int num_threads) {
  require(total.ndim() == 2 && total.shape(0) >= 1 && total.shape(1) >= 1,
          "total: expected shape (out, inputs)");
  const std::int64_t n = total.shape(0), k = total.shape(1);
  const Patches p = patches_of(x, convolution, k);
  const std::int64_t batch = count(x, p);
  require_matrix(grad, "grad", batch, n);
  require(rows >= 1, "rows: expected >= 1, got ", rows);
  require(dac_levels >= 1 && dac_levels <= 32767, "dac_levels: expected 1 to 32767, got ",
          dac_levels);
  require(shift >= 0 && shift < 16, "shift: expected 0 to 15, got ", shift);
  require(digit >= 0, "digit: expected >= 0, got ", digit);
  require_range(fixed_range);
  if (row_scale) require_length(*row_scale, "row_scale", k);
  if (inside) require_inside(*inside, (k + rows - 1) / rows, batch, n);
  const WeightGradient how{dac_levels,
                           shift,
                           digit,
                           fixed_range.value_or(0.0f),
                           row_scale ? row_scale->data() : nullptr,
                           inside ? inside->data() : nullptr};
  float* to = total.mutable_data();
  const Released released;
  weight_gradient(x.data(), &p, batch, grad.data(), n, k, rows, how, to, num_threads);
}

}  // namespace

void register_crossbar(py::module_& m) {
  py::class_<ProductSettings>(m, "ProductSettings")
      .def(py::init(&make_settings), py::kw_only(), py::arg("dac_levels"), py::arg("slice_bits"),
           py::arg("adc_levels"), py::arg("steps").noconvert(),
           py::arg("plane_factors").noconvert(), py::arg("output_noise"), py::arg("weight_noise"),
           py::arg("fixed_range"), py::arg("scale").noconvert(), py::arg("row_scale").noconvert());
  py::class_<Convolution>(m, "Convolution")
      .def(py::init(&make_convolution), py::arg("kernel"), py::arg("stride"), py::arg("padding"),
           py::arg("dilation"));
  py::class_<CrossbarArray>(m, "CrossbarArray")
      .def(py::init(&make_array), py::arg("n"), py::arg("k"), py::arg("rows"), py::arg("planes"),
           py::arg("integer"), py::arg("int8"), py::arg("variance"))
      .def_property_readonly("simd_level",
                             [](const CrossbarArray& a) { return std::string(a.level().level); })
      .def("pack", &pack, py::arg("plane"), py::arg("positive").noconvert(),
           py::arg("negative").noconvert(), py::arg("inverse_span"),
           py::arg("variance").noconvert(), py::arg("num_threads") = 0)
      .def("product", &product, py::arg("x").noconvert(), py::arg("y").noconvert(),
           py::arg("settings"), py::arg("seed"), py::arg("stream"),
           py::arg("bias").noconvert() = py::none(), py::arg("inside").noconvert() = py::none(),
           py::arg("convolution") = py::none(), py::arg("num_threads") = 0);
  m.def("weight_gradient", &bound_weight_gradient, py::arg("x").noconvert(),
        py::arg("grad").noconvert(), py::arg("total").noconvert(), py::arg("convolution"),
        py::kw_only(), py::arg("rows"), py::arg("dac_levels"), py::arg("shift"), py::arg("digit"),
        py::arg("fixed_range"), py::arg("row_scale").noconvert(), py::arg("inside").noconvert(),
        py::arg("num_threads") = 0);
}

}  // namespace noisycells::bindings
