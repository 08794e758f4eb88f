#include "noisycells/entropy.h"
#include "noisycells/ldpc.h"

#include "test.h"

namespace noisycells::tests {
namespace {

// A code of 5 rows and 9 + 5 columns, three entries in each column of information.
LdpcCode make_code(std::ptrdiff_t lanes) {
  LdpcCode code{std::vector<std::vector<LdpcEdge>>(5), 14, 2, lanes};
  Integers g(7);
  for (int column = 0; column < 9; ++column)
    for (int k = 0; k < 3; ++k)
      code.rows[(column + 2 * k) % 5].push_back(
          {column, static_cast<std::int32_t>(g.below(static_cast<std::uint64_t>(lanes)))});
  for (const int row : {0, 2, 4}) code.rows[row].push_back({9, row == 2 ? 0 : 1});
  for (int k = 1; k < 5; ++k) {
    code.rows[k - 1].push_back({9 + k, 0});
    code.rows[k].push_back({9 + k, 0});
  }
  return code;
}

void ldpc() {
  Digest digest("ldpc");
  for (const std::ptrdiff_t lanes : {16, 48, 112}) {
    const LdpcCode code = make_code(lanes);
    constexpr std::ptrdiff_t blocks = 7;
    const auto k = static_cast<std::size_t>(code.information() * lanes);
    const auto n = static_cast<std::size_t>(code.columns * lanes);
    std::vector<std::uint8_t> information(blocks * k), words(blocks * n);
    Integers g(lanes);
    for (auto& bit : information) bit = static_cast<std::uint8_t>(g.next() & 1);
    ldpc_encode(code, information.data(), blocks, words.data(), 2);
    for (std::ptrdiff_t b = 0; b < blocks; ++b)
      for (const auto& row : code.rows)
        for (std::ptrdiff_t z = 0; z < lanes; ++z) {
          int sum = 0;
          for (const LdpcEdge& e : row)
            sum ^= words[b * n + e.column * lanes + (z + e.shift) % lanes];
          CHECK(sum == 0, "parity of block " + std::to_string(b));
        }
    digest.add(words);
    // The first blocks are nearly clean, the last ones beyond help.
    std::vector<float> llr(blocks * n);
    for (std::size_t i = 0; i < llr.size(); ++i) {
      const float noise = g.uniform() + g.uniform() + g.uniform();
      llr[i] = (words[i] ? -1.0f : 1.0f) * 2.0f + noise * (0.5f + static_cast<float>(i / n));
    }
    for (const int threads : {1, 3}) {
      std::vector<std::int32_t> rounds(blocks);
      const auto decoded =
          at_every_level<std::uint8_t>("ldpc_decode", blocks * n, [&](std::uint8_t* out) {
            ldpc_decode(code, llr.data(), blocks, 15, out, rounds.data(), threads);
          });
      CHECK(rounds.front() >= 0 && rounds.back() == -1, "rounds");
      for (std::size_t b = 0; b < blocks; ++b)
        if (rounds[b] >= 0 && b < 3)
          CHECK(std::equal(words.begin() + b * n, words.begin() + (b + 1) * n,
                           decoded.begin() + b * n),
                "decoded");
      digest.add(decoded);
      digest.add(rounds);
    }
  }
}

void entropy() {
  Digest digest("entropy");
  for (const std::int64_t rows : {0, 1, 5, 40})
    for (const std::int32_t spread : {1, 2, 50, kLargestSymbol}) {
      const SymbolTable table{rows, 60, 9};
      std::vector<std::int32_t> values(static_cast<std::size_t>(rows * 60)), back(values.size());
      Integers g(rows + spread);
      for (auto& v : values) v = static_cast<std::int32_t>(g.below(2 * spread + 1)) - spread;
      std::vector<std::uint8_t> code;
      entropy_encode(table, values.data(), code);
      entropy_decode(table, code.data(), code.size(), back.data());
      CHECK(back == values, "entropy round trip");
      digest.add(code);
    }
}

}  // namespace

void coding_tests() {
  ldpc();
  entropy();
}

}  // namespace noisycells::tests
