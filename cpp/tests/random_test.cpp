#include "noisycells/digest.h"
#include "noisycells/rng.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "test.h"

namespace noisycells::tests {
namespace {

constexpr std::uint64_t kSeed = 12345678901234567890u, kStream = 987654321987654321u;
constexpr std::int64_t kOffsets[] = {
    0, 1, 2, 3, 130, (std::int64_t{1} << 34) - 7, (std::int64_t{1} << 45) + 1};

struct Words4 {
  std::uint32_t w[4];
};

// The definition, in scalars.
Words4 philox(Words4 x, std::uint32_t k0, std::uint32_t k1, int rounds) {
  for (int r = 0; r < rounds; ++r) {
    const std::uint64_t p0 = std::uint64_t{x.w[0]} * 0xD2511F53u;
    const std::uint64_t p1 = std::uint64_t{x.w[2]} * 0xCD9E8D57u;
    x = {{static_cast<std::uint32_t>(p1 >> 32) ^ x.w[1] ^ k0, static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ x.w[3] ^ k1, static_cast<std::uint32_t>(p0)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return x;
}

void known_answers(const std::string& path) {
  std::ifstream file(path);
  int rows = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    int rounds = 0;
    std::uint32_t word[10];
    fields >> rounds >> std::hex;
    for (std::uint32_t& w : word) fields >> w;
    CHECK(static_cast<bool>(fields), line);
    const auto got = at_every_level<std::uint32_t>(
        line, 4, [&](std::uint32_t* out) { kernels().philox(word, word + 4, rounds, 1, out); });
    CHECK(std::memcmp(got.data(), word + 6, 16) == 0, line);
    ++rows;
  }
  CHECK(rows == 6, path);
}

void random_counters() {
  Integers g(1);
  std::vector<std::uint32_t> counter(4 * 300), key(2 * 300);
  for (std::uint32_t& w : counter) w = static_cast<std::uint32_t>(g.next());
  for (std::uint32_t& w : key) w = static_cast<std::uint32_t>(g.next());
  for (int rounds = 0; rounds <= 12; ++rounds) {
    const auto got = at_every_level<std::uint32_t>("philox", 4 * 300, [&](std::uint32_t* out) {
      kernels().philox(counter.data(), key.data(), rounds, 300, out);
    });
    for (int i = 0; i < 300; ++i) {
      Words4 x;
      std::memcpy(x.w, &counter[4 * i], 16);
      x = philox(x, key[2 * i], key[2 * i + 1], rounds);
      CHECK(std::memcmp(x.w, &got[4 * i], 16) == 0, "philox of a random counter");
    }
  }
}

// Elements of a draw are the words that the counter layout says.
void words_by_definition() {
  Digest digest("words");
  for (const std::int64_t offset : kOffsets)
    for (std::size_t n = 0; n < 300; n += n < 40 ? 1 : 37) {
      const Draw draw{kSeed, kStream, kStuck, 65535};
      const auto got = at_every_level<std::uint32_t>("words", n, [&](std::uint32_t* out) {
        random_words(out, static_cast<std::ptrdiff_t>(n), draw, offset, 1);
      });
      digest.add(got);
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t index = static_cast<std::uint64_t>(offset) + i, block = index / 4;
        const Words4 x = philox(
            {{static_cast<std::uint32_t>(block),
              static_cast<std::uint32_t>(block >> 32) | 65535u << 12 | std::uint32_t{kStuck} << 28,
              static_cast<std::uint32_t>(kStream), static_cast<std::uint32_t>(kStream >> 32)}},
            static_cast<std::uint32_t>(kSeed), static_cast<std::uint32_t>(kSeed >> 32), 10);
        CHECK(got[i] == x.w[index % 4], "word of an element");
      }
    }
}

void normals_agree() {
  Digest digest("normals");
  const Draw draw{kSeed, kStream, kProgram, 0};
  for (const std::int64_t offset : kOffsets)
    for (std::size_t n = 0; n < 300; n += n < 40 ? 1 : 37)
      digest.add(at_every_level<float>("normals", n, [&](float* out) {
        standard_normal(out, static_cast<std::ptrdiff_t>(n), draw, offset, 1);
      }));
  constexpr std::size_t n = 150'003;
  const std::int64_t offset = (std::int64_t{1} << 34) - 70'001;
  std::vector<float> first;
  for (const int threads : kThreads) {
    const auto got = at_every_level<float>("normals on threads", n, [&](float* out) {
      standard_normal(out, n, draw, offset, threads);
    });
    if (first.empty()) first = got;
    CHECK(std::memcmp(got.data(), first.data(), n * 4) == 0, "normals depend on threads");
  }
  digest.add(first);
}

// The definition, in scalars.
std::uint64_t block_digest(const std::vector<std::uint32_t>& words, const std::int32_t* key) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < words.size(); i += 2)
    sum += std::uint64_t{words[i] + static_cast<std::uint32_t>(key[i])} *
           (words[i + 1] + static_cast<std::uint32_t>(key[i + 1]));
  return sum;
}

void digests_by_definition() {
  Digest digest("block_digests");
  Integers g(2);
  std::vector<std::int32_t> key(kDigestKey);
  for (std::int32_t& w : key) w = static_cast<std::int32_t>(g.next());
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{4095},
                                 std::size_t{4096}, std::size_t{4097}, std::size_t{2'000'003}}) {
    std::vector<unsigned char> bytes(size);
    for (unsigned char& b : bytes) b = static_cast<unsigned char>(g.next());
    const std::size_t blocks = (size + kDigestBytes - 1) / kDigestBytes;
    std::vector<std::uint64_t> expected;
    for (std::size_t i = 0; i < blocks; ++i) {
      std::vector<std::uint32_t> words(kDigestBytes / 4);
      std::memcpy(words.data(), &bytes[i * kDigestBytes],
                  std::min<std::size_t>(kDigestBytes, size - i * kDigestBytes));
      for (const std::int32_t* k : {key.data(), key.data() + 4})
        expected.push_back(block_digest(words, k));
    }
    for (const int threads : kThreads) {
      const auto got =
          at_every_level<std::uint64_t>("digests", 2 * blocks, [&](std::uint64_t* out) {
            block_digests(bytes.data(), static_cast<std::ptrdiff_t>(size), key.data(), out,
                          threads);
          });
      CHECK(got == expected, "digests of " + std::to_string(size) + " bytes");
    }
    digest.add(expected);
  }
}

}  // namespace

void random_tests(const std::string& path) {
  known_answers(path);
  random_counters();
  words_by_definition();
  normals_agree();
  digests_by_definition();
}

}  // namespace noisycells::tests
