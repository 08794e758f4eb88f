#include "noisycells/channel.h"

#include <limits>

#include "test.h"

namespace noisycells::tests {
namespace {

constexpr std::uint32_t kHalf = 1u << 31;

const ChannelOptions kCases[] = {
    {},
    {17, false},
    {2},
    {64, true, true},
    {65, true, true},
    {1025, true, true, 0, 0.05f},
    {17, true, false, 32},
    {17, true, false, 0, 0, kHalf / 4, kHalf},
    {17, true, true, 200, 0.05f, kHalf / 4, kHalf},
    {17, true, true, 2, 0, kHalf, 0xFFFFFFFFu},
};

std::vector<std::int32_t> cell_counts(std::size_t n) {
  Integers g(n);
  std::vector<std::int32_t> cells(n);
  for (std::int32_t& c : cells)
    c = static_cast<std::int32_t>(g.below(20) == 0 ? 1 + g.below(70) : 1 + g.below(3));
  return cells;
}

void samples_agree() {
  Digest digest("sample");
  const std::int64_t offset = (std::int64_t{1} << 34) - 500;
  for (const ChannelOptions& options : kCases) {
    const auto c = make_channel(options);
    const bool collapses = options.adc_levels == 0 && options.stuck_either == 0;
    for (const bool literal : {true, false}) {
      if (!literal && !collapses) continue;
      for (const std::size_t n : {0u, 1u, 3u, 15u, 16u, 17u, 1023u, 1024u, 2100u}) {
        const auto x = uniforms(n, n, 1.1f);
        const auto cells = cell_counts(n);
        const auto size = static_cast<std::ptrdiff_t>(n);
        digest.add(at_every_level<float>("sample", n, [&](float* y) {
          sample(x.data(), y, size, cells.data(), 1, c->tables, kKeys, offset, literal, 1);
        }));
        const std::int32_t five = 5;
        digest.add(at_every_level<float>("sample of 5 cells", n, [&](float* y) {
          sample(x.data(), y, size, &five, 0, c->tables, kKeys, offset, literal, 1);
        }));
      }
    }
  }
}

void columns_do_not_matter() {
  for (const int rows : {2, 17, 64}) {
    const auto with = make_channel({rows, true}), without = make_channel({rows, false});
    const auto x = uniforms(1000, 3, 1.1f);
    const std::int32_t one = 1;
    std::vector<float> got[2];
    for (int k = 0; k < 2; ++k)
      got[k] = at_every_level<float>("small tables", 1000, [&](float* y) {
        sample(x.data(), y, 1000, &one, 0, (k != 0 ? with : without)->tables, kKeys, 0, false, 1);
      });
    CHECK(std::memcmp(got[0].data(), got[1].data(), 4000) == 0, "columns change the result");
  }
}

void threads_do_not_matter() {
  Digest digest("sample_on_threads");
  constexpr std::ptrdiff_t n = 30'003;
  const auto c = make_channel({17, true, true, 32, 0.05f, kHalf / 4, kHalf});
  const auto x = uniforms(n, 4, 1.1f);
  const auto cells = cell_counts(n);
  std::vector<float> first;
  for (const int threads : kThreads) {
    const auto got = at_every_level<float>("sample on threads", n, [&](float* y) {
      sample(x.data(), y, n, cells.data(), 1, c->tables, kKeys, 1, true, threads);
    });
    if (first.empty()) first = got;
    CHECK(std::memcmp(got.data(), first.data(), n * 4) == 0, "sample depends on threads");
  }
  digest.add(first);
}

// 65,535 cells: every value of the counter's field, and the last vector of them goes past it.
void most_cells() {
  Digest digest("sample_of_most_cells");
  const auto c = make_channel({17, true, true});
  const auto x = uniforms(9, 5, 1.1f);
  const std::vector<std::int32_t> cells = {1, 65535, 1, 1, 1, 1, 2, 1, 65535};
  digest.add(at_every_level<float>("most cells", 9, [&](float* y) {
    sample(x.data(), y, 9, cells.data(), 1, c->tables, kKeys, 2, true, 1);
  }));
}

// The last code of a converter, lo + a step with a step = 2^-24 + 2^-57: beside the middle of two
// floats, where rounding to double first goes wrong.
void one_rounding() {
  for (const float sign : {1.0f, -1.0f}) {
    auto c = make_channel({});
    for (std::size_t i = 0; i < c->table.size(); ++i) c->table[i] = i % 4 == 0 ? 0x1p30f : 0.0f;
    c->tables.columns = nullptr;
    c->tables.adc = {sign, sign * 12576771.0f * 0x1p-57f, 1.0f, 683 + 1};
    const std::vector<float> x(19, 0.0f);
    const std::int32_t one = 1;
    const auto got = at_every_level<float>("one rounding", x.size(), [&](float* y) {
      sample(x.data(), y, 19, &one, 0, c->tables, kKeys, 0, true, 1);
    });
    for (const float y : got) CHECK(y == sign * (1.0f + 0x1p-23f), "a sum was rounded twice");
  }
}

// The public functions refuse these; the kernels must still not read outside their tables.
void no_numbers() {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {nan, inf, -inf, 3e38f, -3e38f, 1e-45f, -0.0f, nan, nan, 1.0f};
  const auto size = static_cast<std::ptrdiff_t>(x.size());
  for (const ChannelOptions& options : kCases) {
    const auto c = make_channel(options);
    const std::int32_t three = 3;
    for (const bool literal : {false, true})
      at_every_level<float>("not a number", x.size(), [&](float* y) {
        sample(x.data(), y, size, &three, 0, c->tables, kKeys, 0, literal, 1);
      });
  }
}

}  // namespace

void channel_tests() {
  samples_agree();
  columns_do_not_matter();
  threads_do_not_matter();
  most_cells();
  one_rounding();
  no_numbers();
}

}  // namespace noisycells::tests
