#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells::bindings {

void register_runtime(pybind11::module_& m) {
  namespace py = pybind11;
#if defined(__clang__)
  m.attr("compiler") = "clang " __clang_version__;
#elif defined(__GNUC__)
  m.attr("compiler") = "gcc " __VERSION__;
#else
  m.attr("compiler") = "unknown";
#endif
  m.def("simd_level", [] { return std::string(kernels().level); });
  m.def("available_simd_levels", &available_simd_levels);
  m.def("set_simd_level", &set_simd_level, py::arg("name"));
  m.def("threading_backend", &threading_backend);
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("get_num_threads", &get_num_threads);
  m.def("after_fork_in_child", &after_fork_in_child);
}

}  // namespace noisycells::bindings
