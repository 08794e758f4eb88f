#include "noisycells/crossbar.h"

#include <algorithm>
#include <cmath>

#include "test.h"

namespace noisycells::tests {
namespace {

// Multiples of 1/8 in [0, 25], one in eight of them 0.
std::vector<float> conductances(std::size_t n, std::uint64_t seed) {
  Integers g(seed);
  std::vector<float> v(n);
  for (float& x : v) x = g.below(8) == 0 ? 0.0f : static_cast<float>(g.below(201)) / 8;
  return v;
}

struct Case {
  bool integer = true, narrow = false;
  std::ptrdiff_t batch = 5, n = 10, k = 40;
  int rows = 16, planes = 1, dac = 15, slice_bits = 0, adc = 0;
  float output_noise = 0;
  bool weight_noise = false;
  float fixed_range = 0;
  bool bias = false, row_scale = false;
};

// With at most 15 input levels, sums of floats are exact too, in whatever order and rounding:
// at most 15^2 x 15 x 2048 of the smallest unit.
class Layer {
 public:
  explicit Layer(const Case& c)
      : c_(c), tiles_((c.k + c.rows - 1) / c.rows),
        passes_(CrossbarArray::slices(c.dac, c.slice_bits) * c.planes * tiles_) {
    const auto outputs = static_cast<std::size_t>(c.n), inputs = static_cast<std::size_t>(c.k);
    const std::size_t size = outputs * inputs;
    Integers g(size);
    for (int p = 0; p < c.planes; ++p) {
      positive.push_back(conductances(size, 3 * p));
      negative.push_back(conductances(size, 3 * p + 1));
      std::vector<float> v(size);
      for (float& x : v) x = static_cast<float>(g.below(16)) / 1024;
      variance.push_back(v);
    }
    for (std::ptrdiff_t i = 0; i < passes_; ++i)
      steps.push_back(static_cast<float>(8 + g.below(9)) / static_cast<float>(c.adc + 1));
    for (int p = 0; p < c.planes; ++p) factors.push_back(p == 0 ? 1.0f : 0.25f);
    scale = uniforms(outputs, 5, 1.0f);
    if (c.bias) bias = uniforms(outputs, 6, 1.0f);
    if (c.row_scale) {
      row_scale = uniforms(inputs, 7, 0.5f);
      for (float& s : row_scale) s += 1;
    }
  }

  // reach: of each plane and tile, where asked for.
  CrossbarArray pack(int threads, std::vector<float>* reach = nullptr) const {
    CrossbarArray a(c_.n, c_.k, c_.rows, c_.planes, c_.integer, c_.narrow, c_.weight_noise);
    std::vector<float> each(static_cast<std::size_t>(a.tiles()));
    for (int p = 0; p < c_.planes; ++p) {  // a difference, then the polarities on their own
      a.pack(p, p == 2 ? nullptr : positive[p].data(), p == 1 ? nullptr : negative[p].data(),
             0.125f, c_.weight_noise ? variance[p].data() : nullptr, each.data(), threads);
      if (reach) reach->insert(reach->end(), each.begin(), each.end());
    }
    return a;
  }

  Product how(std::uint8_t* inside) const {
    return {c_.dac,
            c_.slice_bits,
            c_.adc,
            steps.data(),
            factors.data(),
            c_.output_noise,
            c_.weight_noise,
            c_.fixed_range,
            scale.data(),
            c_.bias ? bias.data() : nullptr,
            c_.row_scale ? row_scale.data() : nullptr,
            kChipSeed,
            kLayerStream,
            inside};
  }

  std::size_t outputs() const { return static_cast<std::size_t>(c_.batch * c_.n); }
  std::size_t mask_bytes() const {
    return static_cast<std::size_t>(passes_ * c_.batch * ((c_.n + 7) / 8));
  }

  // At every level, and adds outputs, masks and clipped inputs to the digest.
  void run(const std::vector<float>& x, const Patches* patches, int threads, Digest& digest) const {
    std::int64_t clipped[2] = {-2, -2};
    const auto y = at_every_level<float>("product", outputs(), [&](float* out) {
      clipped[0] = pack(threads).product(x.data(), patches, c_.batch, out, how(nullptr), threads);
      CHECK(clipped[0] >= 0, "finite inputs");
    });
    const auto inside = at_every_level<std::uint8_t>("masks", mask_bytes(), [&](std::uint8_t* m) {
      std::vector<float> again(outputs());
      clipped[1] = pack(1).product(x.data(), patches, c_.batch, again.data(), how(m), threads);
      CHECK(again == y, "masks change the outputs");
    });
    CHECK(clipped[0] == clipped[1], "masks change the count");
    digest.add(at_every_level<float>("reach", steps.size(), [&](float* out) {
      std::vector<float> reach;
      pack(threads, &reach);
      std::fill(out, out + steps.size(), 0.0f);
      std::copy(reach.begin(), reach.end(), out);
    }));
    digest.add(y);
    digest.add(inside);
    digest.add(&clipped[0], sizeof clipped[0]);
  }

  std::vector<std::vector<float>> positive, negative, variance;
  std::vector<float> steps, factors, scale, bias, row_scale;

 private:
  Case c_;
  std::ptrdiff_t tiles_, passes_;
};

std::vector<float> inputs(std::ptrdiff_t batch, std::ptrdiff_t k) {
  auto x = uniforms(static_cast<std::size_t>(batch * k), 8, 2.0f);
  if (batch > 2) std::fill(x.begin() + k, x.begin() + 2 * k, 0.0f);
  return x;
}

void products_agree() {
  for (const bool integer : {true, false}) {
    Digest digest(integer ? "crossbar_integer" : "crossbar_float");
    int i = 0;
    for (const std::ptrdiff_t n : {1, 16, 17, 32, 33, 64, 65, 130})
      for (const std::ptrdiff_t k : {1, 15, 64, 65, 200})
        for (const bool narrow : {false, true}) {
          if (narrow && !integer) continue;
          ++i;
          Case c;
          c.integer = integer;
          c.narrow = narrow;
          c.n = n;
          c.k = k;
          c.batch = i % 7 == 0 ? 67 : 1 + i % 9;
          c.rows = i % 3 == 0 ? 64 : i % 3 == 1 ? 50 : 512;
          c.planes = 1 + i % 3;
          c.slice_bits = i % 4 == 0 ? 3 : 0;
          c.dac = integer && c.slice_bits == 0 ? 127 : 15;
          c.adc = i % 5 == 0 ? 0 : 63;
          c.output_noise = i % 2 == 0 ? 0.04f : 0;
          c.weight_noise = i % 4 < 2 && c.dac == 15;
          if (integer) c.weight_noise = i % 4 < 2;
          c.fixed_range = i % 3 == 0 ? 1.5f : 0;
          c.bias = i % 5 < 2;
          c.row_scale = i % 6 < 2;
          Layer(c).run(inputs(c.batch, c.k), nullptr, 1, digest);
        }
    Case tall;
    tall.integer = integer;
    tall.rows = integer ? 512 : 1100;
    tall.k = 1300;
    tall.weight_noise = true;
    Layer(tall).run(inputs(tall.batch, tall.k), nullptr, 1, digest);
  }
}

// Of several panels, and more vectors than are prepared at once.
void products_on_threads() {
  Digest digest("crossbar_on_threads");
  for (const int kind : {0, 1, 2}) {
    Case c;
    c.integer = kind < 2;
    c.batch = 300;  // two threads have their own vectors, seven share them
    c.n = kind == 0 ? 70 : 20;
    c.k = 1600;
    c.rows = 500;
    c.slice_bits = 1;
    c.adc = 63;
    c.weight_noise = true;
    c.bias = true;
    const Layer layer(c);
    const auto x = inputs(c.batch, c.k);
    std::vector<float> first;
    for (const int threads : kThreads) {
      const auto y = at_every_level<float>("product on threads", layer.outputs(), [&](float* out) {
        layer.pack(threads).product(x.data(), nullptr, c.batch, out, layer.how(nullptr), threads);
      });
      if (first.empty()) first = y;
      CHECK(y == first, "products depend on threads");
    }
    digest.add(first);
    if (kind == 1) layer.run(x, nullptr, 2, digest);  // with masks
    // The beginning of a batch, in other chunks.
    const auto y =
        at_every_level<float>("beginning", static_cast<std::size_t>(67 * c.n), [&](float* out) {
          layer.pack(1).product(x.data(), nullptr, 67, out, layer.how(nullptr), 2);
        });
    CHECK(std::equal(y.begin(), y.end(), first.begin()), "the beginning of a batch");
  }
}

// 512 rows of the largest codes: 127 x 32767, and 127^2 x 255.
void largest_codes() {
  for (const bool narrow : {false, true}) {
    Case c;
    c.narrow = narrow;
    c.batch = 33;
    c.n = 65;
    c.k = 512;
    c.rows = 512;
    c.dac = 127;
    Layer layer(c);
    std::fill(layer.positive[0].begin(), layer.positive[0].end(), 8.0f);
    std::fill(layer.negative[0].begin(), layer.negative[0].end(), 0.0f);
    std::fill(layer.negative[0].begin() + 30 * c.k, layer.negative[0].end(), 16.0f);
    std::fill(layer.scale.begin(), layer.scale.end(), 1.0f);
    std::vector<float> x(static_cast<std::size_t>(c.batch * c.k), 1.0f);
    std::fill(x.begin() + 20 * c.k, x.end(), -1.0f);
    const auto y = at_every_level<float>("largest codes", layer.outputs(), [&](float* out) {
      layer.pack(1).product(x.data(), nullptr, c.batch, out, layer.how(nullptr), 1);
    });
    for (std::ptrdiff_t b = 0; b < c.batch; ++b)
      for (std::ptrdiff_t j = 0; j < c.n; ++j) {
        const float expected = (b < 20) == (j < 30) ? 512.0f : -512.0f;
        CHECK(std::abs(y[b * c.n + j] / expected - 1) < 1e-6f, "a sum overflowed");
      }
    c.weight_noise = true;
    Layer noisy(c);
    std::fill(noisy.variance[0].begin(), noisy.variance[0].end(), 1.0f);
    const auto z = at_every_level<float>("largest squares", layer.outputs(), [&](float* out) {
      noisy.pack(1).product(x.data(), nullptr, c.batch, out, noisy.how(nullptr), 1);
    });
    for (const float v : z) CHECK(std::isfinite(v), "a sum of squares overflowed");
  }
}

// Float sums are made in the order of the rows: fused, or at the baseline of x86 rounded twice.
// AMX makes them of parts, so that they are compared within rounding: at most 16 numbers in each
// half of 32 rows, the halves, and 6 products of parts of each 32 rows; less than 9 u is left out.
void float_sums() {
  for (const std::ptrdiff_t k : {1, 2, 63, 700})
    for (const std::ptrdiff_t batch : {1, 6, 13, 70}) {
      Case c;
      c.integer = false;
      c.batch = batch;
      c.n = 67;
      c.k = k;
      c.rows = 1000;
      c.dac = 0;
      c.fixed_range = 2;
      Layer layer(c);
      std::fill(layer.scale.begin(), layer.scale.end(), 1.0f);
      layer.positive[0] = uniforms(layer.positive[0].size(), 11, 1.0f);
      const auto x = inputs(batch, k);
      const double bound = static_cast<double>(9 + 17 + 6 * ((k + 31) / 32) + 2) * 0x1p-24;
      for (const std::string& level : available_simd_levels()) {
        set_simd_level(level);
        bool fused = true;
#if defined(__x86_64__)
        fused = level != "baseline";
#endif
        Output<float> out(layer.outputs());
        layer.pack(1).product(x.data(), nullptr, batch, out.data(), layer.how(nullptr), 1);
        CHECK(out.guards_hold(), "float sums at " + level + " wrote outside their output");
        bool right = true;
        for (std::ptrdiff_t b = 0; b < batch; ++b)
          for (std::ptrdiff_t j = 0; j < c.n; ++j) {
            float sum = 0;
            double exact = 0, magnitudes = 0;
            for (std::ptrdiff_t i = 0; i < k; ++i) {
              const float w =
                  (layer.positive[0][j * k + i] - layer.negative[0][j * k + i]) * 0.125f;
              const float a = x[b * k + i] * 0.5f;
              sum = fused ? std::fma(a, w, sum) : a * w + sum;
              const double product = static_cast<double>(a) * w;
              exact += product;
              magnitudes += std::abs(product);
            }
            const float y = out.data()[b * c.n + j];
            if (level == "amx")
              right = right && std::abs(y / 2.0 - exact) <= bound * magnitudes;
            else
              right = right && y == 2 * sum;
          }
        CHECK(right, "float sums at " + level);
      }
    }
}

// ---------------------------------------------------------------- convolutions

// Of images and of their patches, on any number of threads.
void gradients_agree(const std::vector<float>& x, const std::vector<float>& flat, const Patches& p,
                     const Case& c) {
  constexpr std::ptrdiff_t n = 70;
  constexpr int rows = 7;
  const auto grad = uniforms(static_cast<std::size_t>(c.batch * n), 5, 2.0f);
  auto row_scale = uniforms(static_cast<std::size_t>(c.k), 6, 0.5f);
  for (float& scale : row_scale) scale += 1;
  row_scale[0] = 0;
  const std::ptrdiff_t tiles = (c.k + rows - 1) / rows;
  std::vector<std::uint8_t> inside(static_cast<std::size_t>(tiles * c.batch * ((n + 7) / 8)));
  for (std::size_t i = 0; i < inside.size(); ++i)
    inside[i] = static_cast<std::uint8_t>(i % 3 == 0 ? 0xFF : i * 37);
  for (const float range : {0.0f, 1.25f}) {
    const WeightGradient how{15, 2, range > 0 ? 3 : 0, range, row_scale.data(), inside.data()};
    for (const std::string& level : available_simd_levels()) {
      set_simd_level(level);
      const auto run = [&](const Patches* patches, int threads) {
        Output<float> total(static_cast<std::size_t>(n * c.k));
        weight_gradient(patches ? x.data() : flat.data(), patches, c.batch, grad.data(), n, c.k,
                        rows, how, total.data(), threads);
        CHECK(total.guards_hold(), "gradients at " + level);
        return std::vector<float>(total.data(), total.data() + n * c.k);
      };
      const auto expected = run(nullptr, 1);
      for (const int threads : kThreads)
        CHECK(run(&p, threads) == expected, "gradients of weights at " + level);
    }
  }
}

void convolutions_agree() {
  Digest digest("crossbar_convolution");
  const Patches cases[] = {
      {3, {1, 9, 11}, {1, 9, 11}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {1, 1, 1}},
      {2, {1, 9, 11}, {1, 5, 4}, {1, 2, 3}, {1, 2, 3}, {0, 1, 2}, {1, 2, 2}},
      {5, {1, 1, 40}, {1, 1, 19}, {1, 1, 5}, {1, 1, 2}, {0, 0, 1}, {1, 1, 1}},
      {2, {4, 5, 6}, {2, 2, 7}, {2, 3, 2}, {3, 2, 1}, {1, 1, 1}, {1, 2, 1}},
  };
  constexpr std::ptrdiff_t images = 3;
  for (const Patches& p : cases)
    for (const bool integer : {true, false}) {
      const std::ptrdiff_t pixels = p.size[0] * p.size[1] * p.size[2];
      const std::ptrdiff_t places = p.out[0] * p.out[1] * p.out[2];
      Case c;
      c.integer = integer;
      c.batch = images * places;
      c.k = p.channels * p.kernel[0] * p.kernel[1] * p.kernel[2];
      c.adc = 63;
      c.weight_noise = true;
      c.row_scale = true;
      const auto x = uniforms(static_cast<std::size_t>(images * p.channels * pixels), 9, 2.0f);
      std::vector<float> flat;
      for (std::ptrdiff_t b = 0; b < c.batch; ++b) {
        const std::ptrdiff_t place = b % places;
        const std::ptrdiff_t start[3] = {place / (p.out[1] * p.out[2]) * p.stride[0] - p.padding[0],
                                         place / p.out[2] % p.out[1] * p.stride[1] - p.padding[1],
                                         place % p.out[2] * p.stride[2] - p.padding[2]};
        for (std::ptrdiff_t i = 0; i < c.k; ++i) {
          const std::ptrdiff_t in[3] = {
              start[0] + i / (p.kernel[1] * p.kernel[2]) % p.kernel[0] * p.dilation[0],
              start[1] + i / p.kernel[2] % p.kernel[1] * p.dilation[1],
              start[2] + i % p.kernel[2] * p.dilation[2]};
          bool within = true;
          for (int d = 0; d < 3; ++d) within = within && in[d] >= 0 && in[d] < p.size[d];
          const std::ptrdiff_t channel =
              b / places * p.channels + i / (p.kernel[0] * p.kernel[1] * p.kernel[2]);
          const std::ptrdiff_t pixel = (in[0] * p.size[1] + in[1]) * p.size[2] + in[2];
          flat.push_back(within ? x[channel * pixels + pixel] : 0.0f);
        }
      }
      const Layer layer(c);
      std::vector<float> y[2];
      for (int k = 0; k < 2; ++k)
        y[k] = at_every_level<float>("convolution", layer.outputs(), [&](float* out) {
          layer.pack(1).product(k != 0 ? flat.data() : x.data(), k != 0 ? nullptr : &p, c.batch,
                                out, layer.how(nullptr), 2);
        });
      CHECK(y[0] == y[1], "a convolution differs from the product of its patches");
      gradients_agree(x, flat, p, c);
      layer.run(x, &p, 7, digest);
    }
}

// ---------------------------------------------------------------- what is no number

void inputs_that_are_not_finite() {
  const Shape shapes[] = {{70, 37}, {7, 5000}};  // of the long vectors each thread has its own
  for (const Shape& shape : shapes)
    for (const bool integer : {true, false}) {
      Case c;
      c.integer = integer;
      c.batch = shape.n;
      c.n = 2;
      c.k = shape.k;
      c.rows = 500;
      c.fixed_range = 1;
      const Layer layer(c);
      for (const float value : {kNaN, -kNaN, kInf, -kInf})
        for (const std::ptrdiff_t at :
             {std::ptrdiff_t{0}, shape.k - 1, 3 * shape.k, shape.n * shape.k - 1}) {
          auto x = inputs(c.batch, c.k);
          x[at] = value;
          for (const std::string& level : available_simd_levels()) {
            set_simd_level(level);
            Output<float> y(layer.outputs());
            for (const int threads : kThreads)
              CHECK(layer.pack(1).product(x.data(), nullptr, c.batch, y.data(), layer.how(nullptr),
                                          threads) == -1,
                    "not finite at " + level);
            CHECK(y.untouched(), "outputs of one chunk that is not finite at " + level);
          }
        }
    }
}

// Nothing may be read or written outside panels whatever the weights are.
void weights_that_are_not_finite() {
  const std::vector<float> w = odd_numbers(70 * 9);
  for (const std::string& level : available_simd_levels()) {
    set_simd_level(level);
    for (const bool integer : {true, false}) {
      Case c;
      c.integer = integer;
      c.n = 70;
      c.k = 9;
      c.adc = 63;
      c.weight_noise = true;
      Layer layer(c);
      layer.positive[0] = w;
      layer.variance[0] = w;
      const auto x = inputs(c.batch, c.k);
      Output<float> y(layer.outputs());
      Output<std::uint8_t> inside(layer.mask_bytes());
      layer.pack(1).product(x.data(), nullptr, c.batch, y.data(), layer.how(inside.data()), 1);
      CHECK(y.guards_hold() && inside.guards_hold(), "products at " + level);
    }
  }
}

}  // namespace

void crossbar_tests() {
  products_agree();
  products_on_threads();
  largest_codes();
  float_sums();
  convolutions_agree();
  inputs_that_are_not_finite();
  weights_that_are_not_finite();
}

}  // namespace noisycells::tests
