#include <algorithm>

#include "noisycells/crossbar.h"
#include "test.h"

namespace noisycells::tests {
namespace {

constexpr std::uint32_t kHalf = 1u << 31;
constexpr float kSpan = 24.5f, kLeast = 0.5f;
constexpr Draw kDraw = {kChipSeed, kLayerStream, 0, 65535};

// Rows (value, next value - value) of each column, at multiples of 1/4 from 0 on.
template <class F>
std::vector<float> make_table(int columns, F value) {
  constexpr int rows = 129;
  std::vector<float> t;
  for (int i = 0; i < rows; ++i)
    for (int c = 0; c < columns; ++c) {
      const float here = value(c, 0.25f * static_cast<float>(i));
      const float next = value(c, 0.25f * static_cast<float>(std::min(i + 1, rows - 1)));
      t.push_back(here);
      t.push_back(next - here);
    }
  return t;
}

struct Devices {
  std::vector<float> programming = make_table(2, [](int c, float g) {
    return c == 0 ? g + 0.02f * g * (25 - g) / 25 : 0.3f + 1.9f * g / 25 - 1.1f * g * g / 625;
  });
  std::vector<float> relaxation =
      make_table(2, [](int c, float g) { return c == 0 ? -0.1f * g : 0.3f + 0.02f * g; });
  std::vector<float> drift =
      make_table(2, [](int c, float g) { return c == 0 ? 0.35f + 4 * g : 0.14f + g; });
  std::vector<float> flicker = make_table(1, [](int, float g) { return 0.2f / (1 + g); });

  Programming program(const Limits& limits) const {
    return {programming.data(), 129, 0.0f, 4.0f, limits};
  }
  Aging age(bool relaxes, bool drifts, bool flickers, const Limits& limits) const {
    return {relaxes ? relaxation.data() : nullptr,
            drifts ? drift.data() : nullptr,
            flickers ? flicker.data() : nullptr,
            129,
            90,
            60,
            0.0f,
            4.0f,
            limits};
  }
};

const Limits kLimits[] = {
    {-40, 40, 0, 0, 0, 0},
    {5, 12, 0, 0, 0, 0},
    {0, 40, kHalf / 4, kHalf, 0.25f, 23},
    {0, 40, 0, 0xFFFFFFFFu, 0, 7},
};

void devices_agree() {
  Digest program_digest("device_program"), age_digest("device_age");
  const Devices d;
  for (const Shape shape : {Shape{1, 1}, {3, 15}, {17, 16}, {5, 33}, {2, 1025}}) {
    const auto n = shape.n, k = shape.k;
    const auto size = shape.size();
    const auto w = uniforms(size, size, 1.1f);
    auto inverse = uniforms(static_cast<std::size_t>(n), 1, 0.5f);
    for (float& i : inverse) i += 1;
    for (const Limits& limits : kLimits)
      for (const int stride : {0, 1})
        for (const float sign : {1.0f, -1.0f}) {
          const auto g = at_every_level<float>("program", size, [&](float* out) {
            program(w.data(), inverse.data(), stride, sign, kLeast, kSpan, n, k, out,
                    d.program(limits), kDraw, 1);
          });
          program_digest.add(g);
          for (int what = 0; what < 8; ++what) {
            const Aging device = d.age(what & 1, what & 2, what & 4, limits);
            age_digest.add(at_every_level<float>("age", size, [&](float* out) {
              age(w.data(), inverse.data(), stride, sign, kLeast, kSpan, g.data(), n, k, out,
                  device, kDraw, 1);
            }));
          }
        }
  }
}

// Both polarities at once: the same as one by one.
void pairs_agree() {
  const Devices d;
  for (const Shape shape : {Shape{1, 1}, {17, 16}, {5, 33}, {2, 1025}, {7, 3001}}) {
    const auto n = shape.n, k = shape.k;
    const auto size = shape.size();
    auto w = uniforms(size, size, 1.1f);
    w[0] = 0.0f;
    w[size / 2] = -0.0f;
    const std::vector<float> inverse(static_cast<std::size_t>(n), 0.9f);
    for (const Limits& limits : kLimits)
      for (const int stride : {0, 1})
        for (const std::string& level : available_simd_levels()) {
          set_simd_level(level);
          Output<float> plus(size), minus(size);
          const Draw draw = {kChipSeed, kLayerStream, 0, 8};
          program_pair(w.data(), inverse.data(), stride, kLeast, kSpan, n, k, plus.data(),
                       minus.data(), d.program(limits), draw, 7);
          CHECK(plus.guards_hold() && minus.guards_hold(), "a pair at " + level);
          for (const float sign : {1.0f, -1.0f}) {
            std::vector<float> g(size);
            program(w.data(), inverse.data(), stride, sign, kLeast, kSpan, n, k, g.data(),
                    d.program(limits), {kChipSeed, kLayerStream, 0, sign > 0 ? 8u : 9u}, 1);
            CHECK(g == (sign > 0 ? plus : minus).values(), "a pair at " + level);
          }
        }
  }
}

void devices_on_threads() {
  Digest digest("devices_on_threads");
  const Devices d;
  for (const Shape shape : {Shape{7, 3001}, {3001, 7}}) {
    const auto n = shape.n, k = shape.k;
    const auto size = shape.size();
    const auto w = uniforms(size, 2, 1.0f);
    const std::vector<float> inverse(static_cast<std::size_t>(n), 1.0f);
    for (const int stride : {0, 1}) {
      std::vector<float> first;
      for (const int threads : kThreads) {
        const auto g = at_every_level<float>("devices on threads", size, [&](float* out) {
          std::vector<float> before(size);
          program(w.data(), inverse.data(), stride, 1, kLeast, kSpan, n, k, before.data(),
                  d.program(kLimits[2]), kDraw, threads);
          age(w.data(), inverse.data(), stride, 1, kLeast, kSpan, before.data(), n, k, out,
              d.age(true, true, true, kLimits[2]), kDraw, threads);
        });
        if (first.empty()) first = g;
        CHECK(g == first, "devices depend on threads");
      }
      digest.add(first);
    }
  }
}

// Where the counter of the random numbers carries, and blocks of every length.
void devices_at_large_indices() {
  Digest digest("devices_at_large_indices");
  const Devices d;
  for (const std::int64_t index : {(std::int64_t{1} << 34) - 13, (std::int64_t{1} << 45) + 3})
    for (const std::ptrdiff_t n : {1, 3, 16, 37, 1024}) {
      const auto size = static_cast<std::size_t>(n);
      const auto w = uniforms(size, size, 1.0f);
      digest.add(at_every_level<float>("devices at large indices", size, [&](float* out) {
        std::vector<float> before(size);
        const Target target{1, kLeast, kSpan};
        kernels().program(w.data(), before.data(), n, target, d.program(kLimits[2]), kDraw, index);
        kernels().age(w.data(), before.data(), out, n, target, d.age(true, true, true, kLimits[2]),
                      kDraw, index);
      }));
    }
}

// Nothing may be read or written outside tables whatever the weights are.
void weights_that_are_not_finite() {
  const Devices d;
  const std::vector<float> w = odd_numbers(70 * 9);
  for (const std::string& level : available_simd_levels()) {
    set_simd_level(level);
    for (const float inverse : kOdd) {
      Output<float> g(w.size()), later(w.size());
      program(w.data(), &inverse, 0, 1, kLeast, kSpan, 70, 9, g.data(), d.program(kLimits[0]),
              kDraw, 1);
      age(w.data(), &inverse, 0, 1, kLeast, kSpan, w.data(), 70, 9, later.data(),
          d.age(true, true, true, kLimits[2]), kDraw, 1);
      CHECK(g.guards_hold() && later.guards_hold(), "devices at " + level);
    }
  }
}

}  // namespace

void device_tests() {
  devices_agree();
  pairs_agree();
  devices_on_threads();
  devices_at_large_indices();
  weights_that_are_not_finite();
}

}  // namespace noisycells::tests
