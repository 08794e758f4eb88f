// What the tests of the core share: checks, exact inputs that are the same on every machine,
// guarded outputs, and digests by which machines are compared.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "noisycells/simd_level.h"

namespace noisycells::tests {

void random_tests(const std::string& known_answers);
void channel_tests();
void codec_tests();
void bitpack_tests();
void device_tests();
void crossbar_tests();
void coding_tests();
void parallel_tests();

extern int failures;
extern long checks;

#define CHECK(condition, what)                                                \
  do {                                                                        \
    ++::noisycells::tests::checks;                                            \
    if (!(condition)) {                                                       \
      ++::noisycells::tests::failures;                                        \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
                   std::string(what).c_str());                                \
    }                                                                         \
  } while (false)

// CRC-32 (that of zlib) of all that a test produced, at the first level; the others are
// compared with it byte by byte. Printed, and compared with the committed file.
class Digest {
 public:
  explicit Digest(std::string name) : name_(std::move(name)) {}
  ~Digest();
  void add(const void* data, std::size_t bytes);
  template <class T>
  void add(const std::vector<T>& v) {
    add(v.data(), v.size() * sizeof(T));
  }

 private:
  std::string name_;
  std::uint32_t crc_ = 0;
};

constexpr int kThreads[] = {1, 2, 7};

// Of devices and of products.
constexpr std::uint64_t kChipSeed = 0xFFFFFFFFFFFFFFEAu, kLayerStream = std::uint64_t{33} << 40;

struct Shape {
  std::ptrdiff_t n, k;
  std::size_t size() const { return static_cast<std::size_t>(n * k); }
};

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kOdd[] = {kNaN, -kNaN, kInf, -kInf, 3e38f, -3e38f, 1e-45f, -0.0f};

// n of the odd ones.
inline std::vector<float> odd_numbers(std::size_t n) {
  std::vector<float> v(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = kOdd[i * 5 / 7 % std::size(kOdd)];
  return v;
}

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kGuard = 0;  // the sanitizer watches the ends of exact allocations
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr std::size_t kGuard = 0;
#else
constexpr std::size_t kGuard = 128;
#endif
#else
constexpr std::size_t kGuard = 128;
#endif

// An output of n elements between canaries, filled with a pattern.
template <class T>
class Output {
 public:
  explicit Output(std::size_t n)
      : n_(n), bytes_(n * sizeof(T) + 2 * kGuard), memory_(new unsigned char[bytes_]) {
    std::memset(memory_.get(), 0xA5, bytes_);
  }
  T* data() { return reinterpret_cast<T*>(memory_.get() + kGuard); }
  std::vector<T> values() const {
    const T* first = reinterpret_cast<const T*>(memory_.get() + kGuard);
    return std::vector<T>(first, first + n_);
  }
  bool untouched() const { return clean(0, bytes_); }
  bool guards_hold() const { return clean(0, kGuard) && clean(bytes_ - kGuard, bytes_); }

 private:
  bool clean(std::size_t begin, std::size_t end) const {
    for (std::size_t i = begin; i < end; ++i)
      if (memory_[i] != 0xA5) return false;
    return true;
  }
  std::size_t n_, bytes_;
  std::unique_ptr<unsigned char[]> memory_;
};

// Runs `produce` at every level and compares the bytes with those of the first level.
template <class T>
std::vector<T> at_every_level(const std::string& what, std::size_t n,
                              const std::function<void(T*)>& produce) {
  std::vector<T> first;
  for (const std::string& level : available_simd_levels()) {
    set_simd_level(level);
    Output<T> out(n);
    produce(out.data());
    CHECK(out.guards_hold(), what + " at " + level + " wrote outside its output");
    const std::vector<T> got = out.values();
    if (first.empty()) first = got;
    CHECK(got.empty() || std::memcmp(got.data(), first.data(), n * sizeof(T)) == 0,
          what + " at " + level);
  }
  return first;
}

// SplitMix64 (Steele, Lea & Flood 2014): integers, so the same everywhere.
class Integers {
 public:
  explicit Integers(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  // Multiples of 2^-24 in [-1, 1), exact.
  float uniform() {
    return static_cast<float>(static_cast<std::int64_t>(next() >> 39) - (1 << 24)) * 0x1p-24f;
  }

 private:
  std::uint64_t state_;
};

inline std::vector<float> uniforms(std::size_t n, std::uint64_t seed, float scale) {
  Integers g(seed);
  std::vector<float> v(n);
  for (float& x : v) x = g.uniform() * scale;
  return v;
}

// A channel or codec with the memory that its tables point to.
struct Channel {
  std::vector<float> table, columns, read;
  ChannelTables tables{};
  Channel() = default;
  Channel(const Channel&) = delete;
};
struct ChannelOptions {
  int rows = 17;
  bool columns = true;
  bool read = false;
  int adc_levels = 0;
  float d2d = 0;
  std::uint32_t stuck_low = 0, stuck_either = 0;
};
std::unique_ptr<Channel> make_channel(const ChannelOptions& options);

struct Codec {
  std::vector<float> inverse;
  CodecTables tables{};
  Codec() = default;
  Codec(const Codec&) = delete;
};
std::unique_ptr<Codec> make_codec(int ranges, bool sign, bool packed);

constexpr Keys kKeys = {11, 0xFFFFFFFFFFFFFFEAu, std::uint64_t{33} << 40};

}  // namespace noisycells::tests
