#include <optional>

#include "checks.h"
#include "noisycells/digest.h"
#include "noisycells/rng.h"
#include "noisycells/simd_level.h"

namespace noisycells::bindings {
namespace {

// One block of (data, ~0) under the key `seed` (reference.fold_in).
std::uint64_t fold_in(std::uint64_t seed, std::uint64_t data) {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const std::uint32_t counter[4] = {low(data), low(data >> 32), ~0u, ~0u};
  const std::uint32_t key[2] = {low(seed), low(seed >> 32)};
  std::uint32_t words[4];
  kernels().philox(counter, key, 10, 1, words);
  return words[0] | std::uint64_t{words[1]} << 32;
}

}  // namespace

void register_random(py::module_& m) {
  m.def(
      "philox4x32",
      [](const Array<std::uint32_t>& counter, const Array<std::uint32_t>& key, int rounds,
         Array<std::uint32_t>& out) {
        require(counter.ndim() == 2 && counter.shape(1) == 4, "counter: expected shape (n, 4)");
        const py::ssize_t n = counter.shape(0);
        require(key.ndim() == 2 && key.shape(0) == n && key.shape(1) == 2,
                "key: expected shape (n, 2)");
        require(out.ndim() == 2 && out.shape(0) == n && out.shape(1) == 4,
                "out: expected shape (n, 4)");
        require(rounds >= 0 && rounds <= 64, "rounds: expected 0 to 64, got ", rounds);
        auto* to = out.mutable_data();
        const Released released;
        kernels().philox(counter.data(), key.data(), rounds, n, to);
      },
      py::arg("counter").noconvert(), py::arg("key").noconvert(), py::arg("rounds"),
      py::arg("out").noconvert());
  m.def("fold_in", &fold_in, py::arg("seed"), py::arg("data"));
  m.def(
      "block_digests",
      [](const Array<std::uint8_t>& data, const Array<std::int32_t>& key, Array<std::uint64_t>& out,
         int num_threads) {
        const std::int64_t size = length(data, "data");
        require_length(key, "key", kDigestKey);
        const std::int64_t blocks = (size + kDigestBytes - 1) / kDigestBytes;
        require(out.ndim() == 2 && out.shape(0) == blocks && out.shape(1) == 2,
                "out: expected shape (", blocks, ", 2)");
        auto* to = out.mutable_data();
        const Released released;
        block_digests(data.data(), size, key.data(), to, num_threads);
      },
      py::arg("data").noconvert(), py::arg("key").noconvert(), py::arg("out").noconvert(),
      py::arg("num_threads") = 0);
  m.def(
      "standard_normal",
      [](Array<float>& out, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
         int num_threads) {
        const std::int64_t n = length(out, "out");
        auto* to = out.mutable_data();
        const Released released;
        standard_normal(to, n, {seed, stream, kProgram, 0}, offset, num_threads);
      },
      py::arg("out").noconvert(), py::arg("seed"), py::arg("stream"), py::arg("offset"),
      py::arg("num_threads") = 0);
  m.def(
      "random_words",
      [](Array<std::uint32_t>& out, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
         int num_threads) {
        const std::int64_t n = length(out, "out");
        auto* to = out.mutable_data();
        const Released released;
        random_words(to, n, {seed, stream, kProgram, 0}, offset, num_threads);
      },
      py::arg("out").noconvert(), py::arg("seed"), py::arg("stream"), py::arg("offset"),
      py::arg("num_threads") = 0);
}

}  // namespace noisycells::bindings
