#include "checks.h"
#include "noisycells/ldpc.h"

namespace noisycells::bindings {
namespace {

// Whether the parity columns are as LdpcCode says.
bool encodable(const LdpcCode& code) {
  const int m = static_cast<int>(code.rows.size()), k = code.information();
  int shift = -1;
  for (int r = 0; r < m; ++r) {
    std::vector<int> seen(static_cast<std::size_t>(m), -1);
    for (const LdpcEdge& edge : code.rows[r])
      if (edge.column >= k) seen[edge.column - k] = edge.shift;
    for (int c = 1; c < m; ++c)
      if (seen[c] != (c == r || c == r + 1 ? 0 : -1)) return false;
    const bool end = r == 0 || r == m - 1;
    if (!end && seen[0] != (r == code.middle ? 0 : -1)) return false;
    if (end && (seen[0] < 0 || (shift >= 0 && seen[0] != shift))) return false;
    shift = end ? seen[0] : shift;
  }
  return true;
}

LdpcCode make_code(int rows, int columns, std::int64_t lanes, int middle,
                   const Array<std::int32_t>& edges) {
  require(rows >= 3 && columns > rows, "rows: expected 3 or more, and fewer than columns");
  require(middle > 0 && middle < rows - 1, "middle: expected a row between the first and the last");
  require(lanes >= 16 && lanes % 16 == 0 && lanes <= 1 << 16,
          "lanes: expected a multiple of 16 up to 65536, got ", lanes);
  require(edges.ndim() == 2 && edges.shape(1) == 3, "edges: expected shape (n, 3)");
  LdpcCode code{std::vector<std::vector<LdpcEdge>>(static_cast<std::size_t>(rows)), columns, middle,
                lanes};
  const auto at = edges.unchecked<2>();
  std::vector<std::uint8_t> seen(static_cast<std::size_t>(rows) * columns);
  for (py::ssize_t i = 0; i < edges.shape(0); ++i) {
    const int row = at(i, 0), column = at(i, 1), shift = at(i, 2);
    require(
        row >= 0 && row < rows && column >= 0 && column < columns && shift >= 0 && shift < lanes,
        "edges: expected rows, columns and shifts of the code");
    std::uint8_t& once = seen[static_cast<std::size_t>(row) * columns + column];
    require(!once, "edges: expected each row and column once");
    once = 1;
    code.rows[row].push_back({column, shift});
  }
  for (const auto& row : code.rows)
    require(row.size() >= 2 && row.size() <= kMaxDegree, "edges: expected 2 to ", kMaxDegree,
            " in a row");
  require(encodable(code), "edges: expected parity columns in two diagonals");
  return code;
}

}  // namespace

void register_ldpc(py::module_& m) {
  py::class_<LdpcCode>(m, "LdpcCode")
      .def(py::init(&make_code), py::arg("rows"), py::arg("columns"), py::arg("lanes"),
           py::arg("middle"), py::arg("edges").noconvert())
      .def(
          "encode",
          [](const LdpcCode& code, const Array<std::uint8_t>& information,
             Array<std::uint8_t>& words, int num_threads) {
            const std::int64_t size = code.information() * code.lanes;
            const std::int64_t blocks = length(information, "information") / size;
            require_length(information, "information", blocks * size);
            require_length(words, "words", blocks * code.columns * code.lanes);
            auto* to = words.mutable_data();
            const Released released;
            ldpc_encode(code, information.data(), blocks, to, num_threads);
          },
          py::arg("information").noconvert(), py::arg("words").noconvert(),
          py::arg("num_threads") = 0)
      .def(
          "decode",
          [](const LdpcCode& code, const Array<float>& llr, int most, Array<std::uint8_t>& words,
             Array<std::int32_t>& rounds, int num_threads) {
            const std::int64_t blocks = length(rounds, "rounds");
            require(most >= 0, "most: expected 0 rounds or more");
            require_length(llr, "llr", blocks * code.columns * code.lanes);
            require_length(words, "words", blocks * code.columns * code.lanes);
            auto* to = words.mutable_data();
            auto* taken = rounds.mutable_data();
            const Released released;
            ldpc_decode(code, llr.data(), blocks, most, to, taken, num_threads);
          },
          py::arg("llr").noconvert(), py::arg("most"), py::arg("words").noconvert(),
          py::arg("rounds").noconvert(), py::arg("num_threads") = 0);
}

}  // namespace noisycells::bindings
