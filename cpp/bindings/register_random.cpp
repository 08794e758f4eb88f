#include <optional>

#include "checks.h"
#include "noisycells/rng.h"
#include "noisycells/simd_level.h"

namespace noisycells::bindings {

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
        require(rounds >= 0 && rounds <= 64,
                "rounds: expected 0 to 64, got " + std::to_string(rounds));
        auto* to = out.mutable_data();
        const Released released;
        kernels().philox(counter.data(), key.data(), rounds, n, to);
      },
      py::arg("counter").noconvert(), py::arg("key").noconvert(), py::arg("rounds"),
      py::arg("out").noconvert());
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
