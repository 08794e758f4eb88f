#include "noisycells/codec.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "test.h"

namespace noisycells::tests {
namespace {

std::ptrdiff_t stored_of(const std::vector<std::uint8_t>& mask, std::size_t n) {
  std::ptrdiff_t stored = 0;
  for (std::size_t i = 0; i < n; ++i) stored += mask[i / 8] >> (i % 8) & 1;
  return stored;
}

// Each weight kept with probability kept / 256.
std::vector<std::uint8_t> make_mask(std::size_t n, unsigned kept) {
  Integers g(n + kept);
  std::vector<std::uint8_t> mask((n + 7) / 8, 0);
  for (std::size_t i = 0; i < n; ++i)
    if (g.below(256) < kept) mask[i / 8] |= static_cast<std::uint8_t>(1u << (i % 8));
  return mask;
}

// Many small, few large, as trained weights are.
std::vector<float> make_weights(std::size_t n) {
  auto w = uniforms(n, n + 1, 1.0f);
  for (float& v : w) v *= v * v;
  return w;
}

struct Case {
  int ranges;
  bool sign, packed;
  std::string name() const {
    return std::to_string(ranges) + " ranges" + (sign ? ", sign" : "") + (packed ? ", packed" : "");
  }
};
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int ranges : {1, 2, 3, 4, 8})
    for (const bool sign : {false, true})
      for (const bool packed : {false, true}) all.push_back({ranges, sign, packed});
  return all;
}

struct Encoded {
  std::vector<float> floats;
  std::vector<std::uint8_t> bytes, side;
  std::int64_t size() const { return static_cast<std::int64_t>(floats.size() + bytes.size()); }
};

template <class T>
Encoded encode_at_every_level(const std::string& what, const std::vector<T>& w,
                              const std::uint8_t* mask, std::int64_t stored, const CodecTables& c,
                              int threads) {
  const auto n = static_cast<std::int64_t>(w.size());
  Encoded e;
  std::int64_t used = 0;
  // Levels and side of one call each: both are outputs to guard.
  const auto room = static_cast<std::size_t>(c.packed ? levels_capacity(stored, c) : 0);
  const auto count = static_cast<std::size_t>(c.packed ? 0 : stored);
  const auto side_size = static_cast<std::size_t>(side_bytes(stored, c));
  for (const std::string& level : available_simd_levels()) {
    set_simd_level(level);
    Output<float> floats(count);
    Output<std::uint8_t> bytes(room), side(side_size);
    used = encode(w.data(), n, mask, c, floats.data(), bytes.data(), side.data(), threads);
    CHECK(floats.guards_hold() && bytes.guards_hold() && side.guards_hold(), what);
    Encoded got{floats.values(), bytes.values(), side.values()};
    CHECK(c.packed ? used <= levels_capacity(stored, c) : used == stored, what);
    if (c.packed) got.bytes.resize(static_cast<std::size_t>(used));
    if (level == available_simd_levels().front()) e = got;
    CHECK(got.floats.size() == e.floats.size() &&
              (got.floats.empty() ||
               std::memcmp(got.floats.data(), e.floats.data(), 4 * e.floats.size()) == 0),
          what + ", levels at " + level);
    CHECK(got.bytes == e.bytes, what + ", packed levels at " + level);
    CHECK(got.side == e.side, what + ", side at " + level);
  }
  return e;
}

std::vector<float> decode_at_every_level(const std::string& what, const Encoded& e, std::size_t n,
                                         const std::uint8_t* mask, const CodecTables& c,
                                         const ChannelTables& channel, bool literal, int threads) {
  return at_every_level<float>(what, n, [&](float* out) {
    decode(e.floats.data(), e.bytes.data(), e.size(), e.side.data(),
           static_cast<std::int64_t>(e.side.size()), static_cast<std::int64_t>(n), mask, c, channel,
           kKeys, literal, out, threads);
  });
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), 4 * a.size()) == 0);
}

void round_trips() {
  Digest digest("codec");
  const auto plain = make_channel({17, true, true});
  const auto full = make_channel({17, true, true, 32, 0.05f, 1u << 29, 1u << 30});
  for (const Case& k : cases()) {
    const auto c = make_codec(k.ranges, k.sign, k.packed);
    for (const int kept : {-1, 0, 5, 77, 250, 256})
      for (const std::size_t n : {0u, 1u, 15u, 16u, 17u, 1024u, 1025u, 2500u}) {
        const auto w = make_weights(n);
        const std::vector<double> wide(w.begin(), w.end());
        const auto bits = make_mask(n, kept < 0 ? 256u : static_cast<unsigned>(kept));
        const std::uint8_t* mask = kept < 0 ? nullptr : bits.data();
        const std::int64_t stored = stored_of(bits, n);
        const auto count = static_cast<std::int64_t>(n);
        CHECK(count_stored(count, mask, 1) == stored, k.name());
        const Encoded e = encode_at_every_level(k.name(), w, mask, stored, c->tables, 1);
        const Encoded f = encode_at_every_level(k.name(), wide, mask, stored, c->tables, 1);
        CHECK(e.side == f.side && e.bytes == f.bytes && same(e.floats, f.floats), k.name());
        digest.add(e.floats);
        digest.add(e.bytes);
        digest.add(e.side);
        const bool literal = n == 1025;
        const ChannelTables& channel = (literal ? full : plain)->tables;
        const auto read =
            decode_at_every_level(k.name(), e, n, mask, c->tables, channel, literal, 1);
        digest.add(read);
        const auto sent = at_every_level<float>(k.name() + " sent", n, [&](float* out) {
          transmit(w.data(), count, mask, c->tables, channel, kKeys, literal, out, 1);
        });
        const auto sent_wide = at_every_level<float>(k.name() + " sent", n, [&](float* out) {
          transmit(wide.data(), count, mask, c->tables, channel, kKeys, literal, out, 1);
        });
        CHECK(same(sent, read) && same(sent_wide, read), k.name() + ": transmit is not decode");
        for (std::size_t i = 0; i < n; ++i)
          if (mask && (mask[i / 8] >> (i % 8) & 1) == 0)
            CHECK(read[i] == 0.0f && !std::signbit(read[i]), k.name() + ": pruned weight");
        if (!mask) {
          const auto side = at_every_level<std::uint8_t>(
              k.name() + " side", e.side.size(),
              [&](std::uint8_t* out) { side_bits(w.data(), count, c->tables, out, 1); });
          CHECK(side == e.side, k.name() + ": side_bits is not encode's side");
        }
      }
  }
}

void threads_do_not_matter() {
  Digest digest("codec_on_threads");
  constexpr std::size_t n = 60'001;
  const auto channel = make_channel({17, true, true});
  const auto w = make_weights(n);
  const auto bits = make_mask(n, 160);
  const std::int64_t stored = stored_of(bits, n);
  for (const Case& k : cases()) {
    const auto c = make_codec(k.ranges, k.sign, k.packed);
    const Encoded one = encode_at_every_level(k.name(), w, bits.data(), stored, c->tables, 1);
    const auto read =
        decode_at_every_level(k.name(), one, n, bits.data(), c->tables, channel->tables, false, 1);
    digest.add(one.bytes);
    digest.add(one.side);
    digest.add(read);
    for (const int threads : kThreads) {
      const Encoded e = encode_at_every_level(k.name(), w, bits.data(), stored, c->tables, threads);
      CHECK(e.side == one.side && e.bytes == one.bytes && same(e.floats, one.floats), k.name());
      CHECK(same(read, decode_at_every_level(k.name(), e, n, bits.data(), c->tables,
                                             channel->tables, false, threads)),
            k.name());
      CHECK(same(read, at_every_level<float>(k.name(), n,
                                             [&](float* out) {
                                               transmit(w.data(), n, bits.data(), c->tables,
                                                        channel->tables, kKeys, false, out,
                                                        threads);
                                             })),
            k.name());
    }
  }
}

void scans() {
  Digest digest("scans");
  for (const std::size_t n : {1u, 17u, 1025u, 200'001u}) {
    auto w = make_weights(n);
    const auto bits = make_mask(n, 100);
    float low = 0, high = 0;
    bool any = false;
    for (std::size_t i = 0; i < n; ++i)
      if ((bits[i / 8] >> (i % 8) & 1) != 0) {
        low = any ? std::min(low, w[i]) : w[i];
        high = any ? std::max(high, w[i]) : w[i];
        any = true;
      }
    const auto count = static_cast<std::int64_t>(n);
    for (const std::string& level : available_simd_levels()) {
      set_simd_level(level);
      for (const int threads : kThreads) {
        const Extent e = scan(w.data(), count, bits.data(), threads);
        CHECK(e.stored == stored_of(bits, n) && e.low == low && e.high == high && e.finite, level);
        const auto h = magnitude_histogram(w.data(), count, bits.data(), 0.75f, 100, threads);
        std::int64_t total = 0;
        for (const std::int64_t v : h) total += v;
        CHECK(total == e.stored, level);
        if (level == available_simd_levels().front() && threads == 1) digest.add(h);
      }
      const float good = w[n / 2];
      for (const float bad :
           {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        w[n / 2] = bad;
        CHECK(!scan(w.data(), count, nullptr, 1).finite, level);
      }
      w[n / 2] = good;
    }
  }
}

template <class F>
void throws(const std::string& what, F f) {
  bool thrown = false;
  try {
    f();
  } catch (const std::invalid_argument&) {
    thrown = true;
  }
  CHECK(thrown, what + " was accepted");
}

// Sizes that do not agree, bits where none may be, codes that name no range: an exception, and
// nothing written.
void corrupt_inputs() {
  constexpr std::int64_t n = 3001;
  const auto channel = make_channel({});
  const auto w = make_weights(n);
  const auto mask = make_mask(n, 128);
  const std::int64_t stored = stored_of(mask, n);
  for (const Case& k : cases()) {
    const auto c = make_codec(k.ranges, k.sign, k.packed);
    set_simd_level(available_simd_levels().back());
    const Encoded e = encode_at_every_level(k.name(), w, mask.data(), stored, c->tables, 1);
    Output<float> out(n);
    const auto attempt = [&](const std::string& what, const Encoded& bad,
                             const std::vector<std::uint8_t>& m) {
      throws(k.name() + ": " + what, [&] {
        decode(bad.floats.data(), bad.bytes.data(), bad.size(), bad.side.data(),
               static_cast<std::int64_t>(bad.side.size()), n, m.data(), c->tables, channel->tables,
               kKeys, false, out.data(), 2);
      });
    };
    for (const int by : {-1, 1}) {
      Encoded bad = e;
      (k.packed ? bad.bytes.resize(e.bytes.size() + by) : bad.floats.resize(e.floats.size() + by));
      attempt("levels of the wrong size", bad, mask);
      bad = e;
      if (e.side.empty() && by < 0) continue;
      bad.side.resize(e.side.size() + by);
      attempt("side of the wrong size", bad, mask);
    }
    auto other = mask;
    other[n / 8] |= 0x80;
    attempt("mask with bits past its end", e, other);
    throws("encode", [&] {
      Output<float> floats(stored);
      Output<std::uint8_t> bytes(levels_capacity(stored, c->tables)), side(e.side.size());
      encode(w.data(), n, other.data(), c->tables, floats.data(), bytes.data(), side.data(), 1);
    });
    throws("scan", [&] { scan(w.data(), n, other.data(), 1); });
    throws("count", [&] { count_stored(n, other.data(), 1); });
    if ((k.ranges & (k.ranges - 1)) != 0) {
      Encoded bad = e;
      bad.side[bad.side.size() / 2] = 0xFF;
      attempt("a code that names no range", bad, mask);
    }
    CHECK(out.untouched(), k.name() + ": written before the error");
  }
}

// Any bytes of the right sizes are read back, whatever they say; ASan and UBSan look on.
void random_bytes() {
  constexpr std::int64_t n = 2049;
  const auto channel = make_channel({17, true, true, 32, 0.05f, 1u << 29, 1u << 30});
  Integers g(9);
  int accepted = 0;
  for (const Case& k : cases()) {
    const auto c = make_codec(k.ranges, k.sign, k.packed);
    for (int attempt = 0; attempt < 4; ++attempt) {
      Encoded e;
      e.side.resize(static_cast<std::size_t>(side_bytes(n, c->tables)));
      for (std::uint8_t& b : e.side) b = static_cast<std::uint8_t>(g.next());
      e.bytes.resize(static_cast<std::size_t>(levels_capacity(n, c->tables)) * k.packed);
      for (std::uint8_t& b : e.bytes) b = static_cast<std::uint8_t>(g.next());
      e.floats.resize(k.packed ? 0 : n);
      for (float& f : e.floats) {
        const auto bits = static_cast<std::uint32_t>(g.next());
        std::memcpy(&f, &bits, 4);
      }
      Output<float> out(n);
      // Packed levels have one size for given side codes: look for it as a file's reader would
      // not, from the largest down.
      for (std::int64_t size = e.size(); size >= 0; --size) {
        try {
          decode(e.floats.data(), e.bytes.data(), size, e.side.data(),
                 static_cast<std::int64_t>(e.side.size()), n, nullptr, c->tables, channel->tables,
                 kKeys, attempt % 2 != 0, out.data(), 1);
          ++accepted;
          break;
        } catch (const std::invalid_argument& error) {
          if (std::string(error.what()).find("levels") == std::string::npos) break;
        }
      }
      CHECK(out.guards_hold(), k.name());
    }
  }
  CHECK(accepted >= 4 * 16, "random bytes were mostly refused");
}

}  // namespace

void codec_tests() {
  round_trips();
  threads_do_not_matter();
  scans();
  corrupt_inputs();
  random_bytes();
}

}  // namespace noisycells::tests
