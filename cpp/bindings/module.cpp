#include <pybind11/pybind11.h>

#include <utility>

#include "noisycells/parallel.h"

namespace noisycells::bindings {
void register_runtime(pybind11::module_& m);
void register_random(pybind11::module_& m);
void register_channel(pybind11::module_& m);
void register_codec(pybind11::module_& m);
void register_bitpack(pybind11::module_& m);
void register_devices(pybind11::module_& m);
void register_crossbar(pybind11::module_& m);
void register_ldpc(pybind11::module_& m);
void register_entropy(pybind11::module_& m);
}  // namespace noisycells::bindings

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  using namespace noisycells::bindings;
  m.doc() = "The compiled core of noisycells. Definitions: noisycells.reference.";
  m.attr("__version__") = NOISYCELLS_VERSION;
  pybind11::register_local_exception_translator([](std::exception_ptr error) {
    try {
      std::rethrow_exception(std::move(error));
    } catch (const noisycells::Interrupted&) {
      if (!PyErr_Occurred()) throw;  // else the signal's handler has raised
    }
  });
  register_runtime(m);
  register_random(m);
  register_channel(m);
  register_codec(m);
  register_bitpack(m);
  register_devices(m);
  register_crossbar(m);
  register_ldpc(m);
  register_entropy(m);
}
