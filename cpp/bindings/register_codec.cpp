#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include <pybind11/stl.h>

#include "checks.h"
#include "noisycells/codec.h"
#include "tables.h"

namespace noisycells::bindings {
namespace {

using Write = std::tuple<float, float, float, std::int32_t>;  // lo, step, inv_step, levels
// threshold, alpha, beta, inv_alpha, shift, cells, write: reference.Range
using Range = std::tuple<float, float, float, float, float, std::int32_t, std::optional<Write>>;
using Mask = std::optional<Array<std::uint8_t>>;

int bits_for(std::int32_t levels) {
  int bits = 0;
  while ((std::int64_t{1} << bits) < levels) ++bits;
  return bits;
}

std::unique_ptr<BoundCodec> make_codec(const Array<float>& inverse, float y0, float inv_dy,
                                       const std::vector<Range>& ranges, bool sign) {
  require_rows(inverse, "inverse", 2);
  require(!ranges.empty() && ranges.size() <= kMaxRanges, "ranges: expected 1 to ", kMaxRanges,
          ", got ", ranges.size());
  auto b = std::make_unique<BoundCodec>();
  b->inverse.assign(inverse.data(), inverse.data() + inverse.size());
  CodecTables& t = b->tables;
  t.inverse = b->inverse.data();
  t.m = static_cast<std::int32_t>(inverse.shape(0));
  t.y0 = y0;
  t.inv_dy = inv_dy;
  t.ranges = static_cast<std::int32_t>(ranges.size());
  t.sign = sign;
  t.side_width = static_cast<int>(sign) + bits_for(t.ranges);
  t.packed = std::get<6>(ranges[0]).has_value();
  for (int r = 0; r < t.ranges; ++r) {
    const auto& [threshold, alpha, beta, inv_alpha, shift, cells, write] = ranges[r];
    t.threshold[r] = threshold;
    t.alpha[r] = alpha;
    t.minus_beta[r] = -beta;
    t.inv_alpha[r] = inv_alpha;
    t.shift[r] = shift;
    require(cells >= 1 && cells <= 65535, "cells: expected 1 to 65535, got ", cells);
    t.cells[r] = cells;
    t.inv_sqrt_cells[r] = 1.0f / std::sqrt(static_cast<float>(cells));
    require(write.has_value() == t.packed,
            "ranges: expected a write converter in all of them or in none");
    if (write) {
      const auto& [lo, step, inv_step, levels] = *write;
      require(levels >= 2 && levels <= 1 << 16, "write: expected 2 to 2^16 levels, got ", levels);
      t.write_lo[r] = lo;
      t.write_step[r] = step;
      t.write_inv_step[r] = inv_step;
      t.write_top[r] = static_cast<float>(levels - 1);
      t.width[r] = bits_for(levels);
    }
  }
  return b;
}

template <class T>
void register_scans(py::module_& m) {
  m.def(
      "scan",
      [](const Array<T>& w, const Mask& mask, int num_threads) {
        const std::int64_t n = length(w, "weights");
        const auto* bits = mask_data(mask, n);
        Extent e;
        {
          const Released released;
          e = scan(w.data(), n, bits, num_threads);
        }
        return py::make_tuple(e.stored, e.low, e.high, e.finite);
      },
      py::arg("weights").noconvert(), py::arg("mask").noconvert(), py::arg("num_threads") = 0);
  m.def(
      "magnitude_histogram",
      [](const Array<T>& w, const Mask& mask, float top, int bins, int num_threads) {
        const std::int64_t n = length(w, "weights");
        const auto* bits = mask_data(mask, n);
        require(bins >= 1 && bins <= 1 << 20, "bins: expected 1 to 2^20");
        Array<std::int64_t> out(bins);
        std::vector<std::int64_t> counts;
        {
          const Released released;
          counts = magnitude_histogram(w.data(), n, bits, top, bins, num_threads);
        }
        std::copy(counts.begin(), counts.end(), out.mutable_data());
        return out;
      },
      py::arg("weights").noconvert(), py::arg("mask").noconvert(), py::arg("top"), py::arg("bins"),
      py::arg("num_threads") = 0);
}

template <class T>
void register_encoders(py::module_& m) {
  m.def(
      "encode",
      [](const Array<T>& w, const Mask& mask, const BoundCodec& codec, py::array& levels,
         Array<std::uint8_t>& side, int num_threads) {
        const std::int64_t n = length(w, "weights");
        const auto* bits = mask_data(mask, n);
        const std::int64_t stored = count_stored(n, bits, num_threads);
        require_length(side, "side", side_bytes(stored, codec.tables));
        float* floats = nullptr;
        std::uint8_t* packed = nullptr;
        if (codec.tables.packed) {
          require(py::isinstance<Array<std::uint8_t>>(levels), "levels: expected uint8");
          auto a = py::reinterpret_borrow<Array<std::uint8_t>>(levels);
          require_length(a, "levels", levels_capacity(stored, codec.tables));
          packed = a.mutable_data();
        } else {
          require(py::isinstance<Array<float>>(levels), "levels: expected float32");
          auto a = py::reinterpret_borrow<Array<float>>(levels);
          require_length(a, "levels", stored);
          floats = a.mutable_data();
        }
        auto* to = side.mutable_data();
        const Released released;
        return encode(w.data(), n, bits, codec.tables, floats, packed, to, num_threads);
      },
      py::arg("weights").noconvert(), py::arg("mask").noconvert(), py::arg("codec"),
      py::arg("levels"), py::arg("side").noconvert(), py::arg("num_threads") = 0);
  m.def(
      "transmit",
      [](const Array<T>& w, const Mask& mask, Array<float>& out, const BoundCodec& codec,
         const BoundChannel& channel, std::uint64_t chip, std::uint64_t read, std::uint64_t stream,
         bool literal, int num_threads) {
        const std::int64_t n = length(w, "weights");
        const auto* bits = mask_data(mask, n);
        require_length(out, "out", n);
        auto* to = out.mutable_data();
        const Released released;
        transmit(w.data(), n, bits, codec.tables, channel.tables, {chip, read, stream}, literal, to,
                 num_threads);
      },
      py::arg("weights").noconvert(), py::arg("mask").noconvert(), py::arg("out").noconvert(),
      py::arg("codec"), py::arg("channel"), py::arg("chip"), py::arg("read"), py::arg("stream"),
      py::arg("literal") = false, py::arg("num_threads") = 0);
  m.def(
      "side_bits",
      [](const Array<T>& w, const BoundCodec& codec, Array<std::uint8_t>& side, int num_threads) {
        const std::int64_t n = length(w, "weights");
        require_length(side, "side", side_bytes(n, codec.tables));
        auto* to = side.mutable_data();
        const Released released;
        side_bits(w.data(), n, codec.tables, to, num_threads);
      },
      py::arg("weights").noconvert(), py::arg("codec"), py::arg("side").noconvert(),
      py::arg("num_threads") = 0);
}

}  // namespace

void register_codec(py::module_& m) {
  py::class_<BoundCodec>(m, "CodecTables")
      .def(py::init(&make_codec), py::arg("inverse").noconvert(), py::arg("y0"), py::arg("inv_dy"),
           py::arg("ranges"), py::arg("sign"))
      .def_property_readonly("side_width", [](const BoundCodec& c) { return c.tables.side_width; });
  m.def(
      "levels_capacity",
      [](std::int64_t stored, const BoundCodec& codec) {
        require(stored >= 0, "stored: expected >= 0, got ", stored);
        return levels_capacity(stored, codec.tables);
      },
      py::arg("stored"), py::arg("codec"));
  m.def(
      "count_stored",
      [](const Array<std::uint8_t>& mask, std::int64_t n, int num_threads) {
        require_length(mask, "mask (packed bits)", (n + 7) / 8);
        const Released released;
        return count_stored(n, mask.data(), num_threads);
      },
      py::arg("mask").noconvert(), py::arg("n"), py::arg("num_threads") = 0);
  register_scans<float>(m);
  register_scans<double>(m);
  register_encoders<float>(m);
  register_encoders<double>(m);
  m.def(
      "decode",
      [](const py::array& levels, const Array<std::uint8_t>& side, const Mask& mask,
         Array<float>& out, const BoundCodec& codec, const BoundChannel& channel,
         std::uint64_t chip, std::uint64_t read, std::uint64_t stream, bool literal,
         int num_threads) {
        const std::int64_t n = length(out, "out");
        const auto* bits = mask_data(mask, n);
        const std::int64_t side_size = length(side, "side");
        const float* floats = nullptr;
        const std::uint8_t* packed = nullptr;
        std::int64_t size = 0;
        if (codec.tables.packed) {
          require(py::isinstance<Array<std::uint8_t>>(levels), "levels: expected uint8");
          const auto a = py::reinterpret_borrow<Array<std::uint8_t>>(levels);
          size = length(a, "levels");
          packed = a.data();
        } else {
          require(py::isinstance<Array<float>>(levels), "levels: expected float32");
          const auto a = py::reinterpret_borrow<Array<float>>(levels);
          size = length(a, "levels");
          floats = a.data();
        }
        auto* to = out.mutable_data();
        const Released released;
        decode(floats, packed, size, side.data(), side_size, n, bits, codec.tables, channel.tables,
               {chip, read, stream}, literal, to, num_threads);
      },
      py::arg("levels"), py::arg("side").noconvert(), py::arg("mask").noconvert(),
      py::arg("out").noconvert(), py::arg("codec"), py::arg("channel"), py::arg("chip"),
      py::arg("read"), py::arg("stream"), py::arg("literal") = false, py::arg("num_threads") = 0);
}

}  // namespace noisycells::bindings
