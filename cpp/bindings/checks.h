// Array arguments of the bindings: exact dtype and C order (nothing is converted or copied
// silently), with errors that name the argument, what was expected and what came.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <sstream>
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

// `message` in parts, which are put together only where it is needed.
template <class... Parts>
void require(bool ok, Parts... message) {
  if (ok) return;
  std::ostringstream text;
  (text << ... << message);
  throw py::value_error(text.str());
}

template <class T>
std::int64_t length(const Array<T>& a, const char* name) {
  require(a.ndim() == 1, name, ": expected 1 dimension, got ", a.ndim());
  return a.shape(0);
}

template <class T>
void require_length(const Array<T>& a, const char* name, std::int64_t expected) {
  const std::int64_t got = length(a, name);
  require(got == expected, name, ": expected ", expected, " elements, got ", got);
}

template <class T>
void require_rows(const Array<T>& a, const char* name, std::int64_t columns) {
  require(a.ndim() == 2 && a.shape(1) == columns && a.shape(0) >= 2, name,
          ": expected shape (n >= 2, ", columns, ")");
}

inline void require_matrix(const Floats& a, const char* name, std::int64_t n, std::int64_t k) {
  require(a.ndim() == 2 && a.shape(0) == n && a.shape(1) == k, name, ": expected shape (", n, ", ",
          k, ")");
}

inline const std::uint8_t* mask_data(const std::optional<Array<std::uint8_t>>& mask,
                                     std::int64_t n) {
  if (!mask) return nullptr;
  require_length(*mask, "mask (packed bits)", (n + 7) / 8);
  return mask->data();
}

}  // namespace noisycells::bindings
