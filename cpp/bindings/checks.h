// Array arguments of the bindings: exact dtype and C order (nothing is converted or copied
// silently), with errors that name the argument, what was expected and what came.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>

#include "noisycells/parallel.h"

namespace noisycells::bindings {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

using Floats = Array<float>;
using MaybeFloats = std::optional<Floats>;

// Without the interpreter's lock, for as long as one lives. Signals are looked for meanwhile: where
// a handler raises, as that of Ctrl-C does, the call ends with Interrupted and Python's error set.
class Released {
  py::gil_scoped_release release_;
  Interruptible interruptible_{[] {
    const py::gil_scoped_acquire lock;
    return PyErr_CheckSignals() != 0;
  }};
};

inline void require(bool ok, const std::string& message) {
  if (!ok) throw py::value_error(message);
}

template <class T>
std::int64_t length(const Array<T>& a, const char* name) {
  require(a.ndim() == 1,
          std::string(name) + ": expected 1 dimension, got " + std::to_string(a.ndim()));
  return a.shape(0);
}

template <class T>
void require_length(const Array<T>& a, const char* name, std::int64_t expected) {
  const std::int64_t got = length(a, name);
  require(got == expected, std::string(name) + ": expected " + std::to_string(expected) +
                               " elements, got " + std::to_string(got));
}

template <class T>
void require_rows(const Array<T>& a, const char* name, std::int64_t columns) {
  require(a.ndim() == 2 && a.shape(1) == columns && a.shape(0) >= 2,
          std::string(name) + ": expected shape (n >= 2, " + std::to_string(columns) + ")");
}

inline void require_matrix(const Floats& a, const char* name, std::int64_t n, std::int64_t k) {
  require(a.ndim() == 2 && a.shape(0) == n && a.shape(1) == k,
          std::string(name) + ": expected shape (" + std::to_string(n) + ", " + std::to_string(k) +
              ")");
}

inline const std::uint8_t* mask_data(const std::optional<Array<std::uint8_t>>& mask,
                                     std::int64_t n) {
  if (!mask) return nullptr;
  require_length(*mask, "mask (packed bits)", (n + 7) / 8);
  return mask->data();
}

}  // namespace noisycells::bindings
