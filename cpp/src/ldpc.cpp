#include "noisycells/ldpc.h"

#include <algorithm>
#include <cstring>

#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {
namespace {

// to[z] ^= from[(z + shift) mod lanes].
void add_rotated(std::uint8_t* to, const std::uint8_t* from, std::ptrdiff_t shift,
                 std::ptrdiff_t lanes) {
  for (std::ptrdiff_t z = 0; z < lanes - shift; ++z) to[z] ^= from[z + shift];
  for (std::ptrdiff_t z = 0; z < shift; ++z) to[lanes - shift + z] ^= from[z];
}

void encode_block(const LdpcCode& code, const std::uint8_t* information, std::uint8_t* word,
                  std::vector<std::uint8_t>& sums) {
  const std::ptrdiff_t lanes = code.lanes;
  const int m = static_cast<int>(code.rows.size()), k = code.information();
  std::memcpy(word, information, static_cast<std::size_t>(k * lanes));
  std::uint8_t* parity = word + k * lanes;
  std::fill(sums.begin(), sums.end(), std::uint8_t{0});
  std::memset(parity, 0, static_cast<std::size_t>(m * lanes));
  // In the sum of all rows every parity column but the first cancels, and of it all but shift 0.
  for (int r = 0; r < m; ++r) {
    std::uint8_t* sum = sums.data() + r * lanes;
    for (const LdpcEdge& edge : code.rows[r])
      if (edge.column < k) add_rotated(sum, word + edge.column * lanes, edge.shift, lanes);
    add_rotated(parity, sum, 0, lanes);
  }
  for (int r = 0; r < m - 1; ++r) {
    std::uint8_t* next = parity + (r + 1) * lanes;
    add_rotated(next, sums.data() + r * lanes, 0, lanes);
    for (const LdpcEdge& edge : code.rows[r])
      if (edge.column >= k && edge.column <= k + r)
        add_rotated(next, word + edge.column * lanes, edge.shift, lanes);
  }
}

// One thread's room for decoding.
struct Decoder {
  const LdpcCode& code;
  std::vector<float> values, messages, rotated;
  std::vector<std::uint8_t> sums;

  explicit Decoder(const LdpcCode& c) : code(c) {
    std::size_t edges = 0, degree = 0;
    for (const auto& row : code.rows) {
      edges += row.size();
      degree = std::max(degree, row.size());
    }
    const auto lanes = static_cast<std::size_t>(code.lanes);
    values.resize(static_cast<std::size_t>(code.columns) * lanes);
    messages.resize(edges * lanes);
    rotated.resize(degree * lanes);
    sums.resize(lanes);
  }

  void pass(const Kernels& kernels) {
    const std::ptrdiff_t lanes = code.lanes;
    float* message = messages.data();
    for (const auto& row : code.rows) {
      const int degree = static_cast<int>(row.size());
      const auto move = [&](bool back) {
        float* beside = rotated.data();
        for (const LdpcEdge& edge : row) {
          float* column = values.data() + edge.column * lanes;
          const std::ptrdiff_t s = edge.shift, rest = lanes - s;
          if (back) {
            std::copy_n(beside, rest, column + s);
            std::copy_n(beside + rest, s, column);
          } else {
            std::copy_n(column + s, rest, beside);
            std::copy_n(column, s, beside + rest);
          }
          beside += lanes;
        }
      };
      move(false);
      kernels.check_nodes(rotated.data(), message, degree, lanes);
      move(true);
      message += degree * lanes;
    }
  }

  bool satisfied(const std::uint8_t* word) {
    for (const auto& row : code.rows) {
      std::fill(sums.begin(), sums.end(), std::uint8_t{0});
      for (const LdpcEdge& edge : row)
        add_rotated(sums.data(), word + edge.column * code.lanes, edge.shift, code.lanes);
      if (std::any_of(sums.begin(), sums.end(), [](std::uint8_t s) { return s != 0; }))
        return false;
    }
    return true;
  }

  std::int32_t decode(const float* llr, int most, std::uint8_t* word) {
    std::copy_n(llr, values.size(), values.begin());
    std::fill(messages.begin(), messages.end(), 0.0f);
    for (int round = 0;; ++round) {
      for (std::size_t i = 0; i < values.size(); ++i) word[i] = values[i] < 0;
      if (satisfied(word)) return round;
      if (round == most) return -1;
      pass(kernels());
    }
  }
};

}  // namespace

void ldpc_encode(const LdpcCode& code, const std::uint8_t* information, std::ptrdiff_t blocks,
                 std::uint8_t* words, int threads) {
  parallel_for(blocks, 1, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    std::vector<std::uint8_t> sums(code.rows.size() * static_cast<std::size_t>(code.lanes));
    for (std::ptrdiff_t b = begin; b < end; ++b)
      encode_block(code, information + b * code.information() * code.lanes,
                   words + b * code.columns * code.lanes, sums);
  });
}

void ldpc_decode(const LdpcCode& code, const float* llr, std::ptrdiff_t blocks, int most,
                 std::uint8_t* words, std::int32_t* rounds, int threads) {
  const std::ptrdiff_t n = code.columns * code.lanes;
  parallel_for(blocks, 1, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    Decoder decoder(code);
    for (std::ptrdiff_t b = begin; b < end; ++b)
      rounds[b] = decoder.decode(llr + b * n, most, words + b * n);
  });
}

}  // namespace noisycells
