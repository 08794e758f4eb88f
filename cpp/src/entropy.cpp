#include "noisycells/entropy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

// A value is a row of decisions: is it 0, is it beyond 1, beyond 2, ..., its sign. Each decision is
// coded at a probability that several adaptive estimates are mixed to (M. V. Mahoney, "Adaptive
// weighing of context models for lossless data compression", Florida Tech. TR CS-2005-16; range
// coding: G. N. N. Martin, 1979). All arithmetic is in integers, but for tables made of
// correctly rounded sums, products and quotients: the same everywhere.
namespace noisycells {
namespace {

constexpr int kSteps = 16;      // magnitudes below this are coded step by step, then in binary
constexpr int kInputs = 6;      // estimates of a decision
constexpr int kNeighbors = 16;  // combinations of the magnitudes beside and above, up to 3 each
constexpr int kBits = 24;       // of what is left of a magnitude beyond kSteps
constexpr int kLimit = 255;     // observations after which an estimate forgets
constexpr std::int32_t kOne = 1 << 16, kLeast = 24;  // of a probability

// exp(-x), 0 <= x <= 8: its series at x / 1024, squared ten times.
double exp_minus(double x) {
  const double y = x / 1024.0;
  double e = 1.0 - y * (1.0 - y / 2.0 * (1.0 - y / 3.0 * (1.0 - y / 4.0)));
  for (int k = 0; k < 10; ++k) e = e * e;
  return e;
}

struct Tables {
  std::array<std::int32_t, 4096> squash, stretch;  // of logits in 1/256; of probabilities / 16
  std::array<std::int32_t, kLimit + 1> share;      // of a new observation, by their number

  Tables() {
    for (int i = 0; i < 4096; ++i) {
      const double e = exp_minus(std::abs(i - 2048) / 256.0);
      const double p = i < 2048 ? e / (1.0 + e) : 1.0 / (1.0 + e);
      squash[i] =
          std::clamp(static_cast<std::int32_t>(std::lround(p * kOne)), kLeast, kOne - kLeast);
    }
    int logit = 0;
    for (int i = 0; i < 4096; ++i) {
      while (logit < 4095 && squash[logit] < 16 * i + 8) ++logit;
      stretch[i] = logit - 2048;
    }
    for (int n = 0; n <= kLimit; ++n) share[n] = static_cast<std::int32_t>(kOne / (n + 1.6));
  }
};

struct Estimate {
  std::uint16_t p = kOne / 2;
  std::uint16_t seen = 0;

  void update(int bit, const Tables& tables) {
    const std::int32_t error = (bit << 16) - bit - p;
    p = static_cast<std::uint16_t>(p +
                                   static_cast<std::int64_t>(error) * tables.share[seen] / kOne);
    seen += seen < kLimit;
  }
};

class Encoder {
 public:
  explicit Encoder(std::vector<std::uint8_t>& out) : out_(out) {}

  int code(int bit, std::int32_t p) {
    const std::uint32_t bound = (range_ >> 16) * static_cast<std::uint32_t>(p);
    if (bit) {
      range_ = bound;
    } else {
      low_ += bound;
      range_ -= bound;
    }
    while (range_ < 1u << 24) {
      range_ <<= 8;
      shift();
    }
    return bit;
  }

  // The fewest bytes that say where in the last interval: what follows counts as zeros.
  void finish() {
    for (int k = 24; k >= 0; k -= 8) {
      const std::uint64_t grain = (std::uint64_t{1} << k) - 1, up = (low_ + grain) & ~grain;
      if (up - low_ >= range_) continue;
      low_ = up;
      break;
    }
    for (int k = 0; k < 5; ++k) shift();
    while (out_.size() > start_ && out_.back() == 0) out_.pop_back();
  }

 private:
  void shift() {
    if (low_ < 0xFF000000u || low_ >> 32 != 0) {
      const auto carry = static_cast<std::uint8_t>(low_ >> 32);
      if (!first_) out_.push_back(static_cast<std::uint8_t>(cache_ + carry));
      for (; pending_ > 0; --pending_) out_.push_back(static_cast<std::uint8_t>(0xFF + carry));
      cache_ = static_cast<std::uint8_t>(low_ >> 24);
      first_ = false;
    } else {
      ++pending_;
    }
    low_ = (low_ & 0x00FFFFFFu) << 8;
  }

  std::vector<std::uint8_t>& out_;
  std::size_t start_ = out_.size();
  std::uint64_t low_ = 0;
  std::uint32_t range_ = 0xFFFFFFFFu;
  std::uint8_t cache_ = 0;
  std::int64_t pending_ = 0;
  bool first_ = true;
};

class Decoder {
 public:
  Decoder(const std::uint8_t* in, std::size_t bytes) : in_(in), end_(in + bytes) {
    for (int k = 0; k < 4; ++k) next();
  }

  int code(int, std::int32_t p) {
    const std::uint32_t bound = (range_ >> 16) * static_cast<std::uint32_t>(p);
    const int bit = code_ < bound;
    if (bit) {
      range_ = bound;
    } else {
      code_ -= bound;
      range_ -= bound;
    }
    while (range_ < 1u << 24) {
      range_ <<= 8;
      next();
    }
    return bit;
  }

  std::size_t used(const std::uint8_t* start) const {
    return static_cast<std::size_t>(in_ - start);
  }

 private:
  void next() { code_ = code_ << 8 | (in_ < end_ ? *in_++ : 0); }

  const std::uint8_t *in_, *end_;
  std::uint32_t code_ = 0, range_ = 0xFFFFFFFFu;
};

// The estimates of all decisions, and how they are mixed; Coder is Encoder or Decoder.
template <class Coder>
class Model {
 public:
  Model(const SymbolTable& table, Coder& coder)
      : table_(table), coder_(coder), rows_(static_cast<std::size_t>(table.rows) * kSteps),
        columns_(static_cast<std::size_t>(table.columns) * kSteps),
        groups_(static_cast<std::size_t>(table.columns / table.group + 1) * kSteps),
        around_(std::size_t{kNeighbors} * kSteps), overall_(std::size_t{2} * kSteps),
        joint_(std::size_t{64} * kSteps), rest_(std::size_t{2} * kBits) {
    for (auto& set : weights_) set.fill(kOne * 3 / 10);
  }

  std::int32_t code(std::int32_t value, std::int64_t row, std::int64_t column, int neighbors) {
    std::int32_t size = std::abs(value), step = 0;
    int sign = value < 0;
    for (; step < kSteps - 1; ++step) {
      const auto r = static_cast<std::size_t>(row * kSteps + step);
      const auto c = static_cast<std::size_t>(column * kSteps + step);
      const auto g = static_cast<std::size_t>(column / table_.group * kSteps + step);
      const int joint = (rows_[r].p >> 13) * 8 + (columns_[c].p >> 13);
      const int kind = (step > 0 ? sign : 0) * kSteps + step;
      Estimate* const from[kInputs] = {&rows_[r],       &columns_[c],
                                       &groups_[g],     &around_[neighbors * kSteps + step],
                                       &overall_[kind], &joint_[joint * kSteps + step]};
      if (!decide(size > step, from, std::min(step, 2))) break;
      if (step == 0) sign = simple(sign, sign_);
    }
    if (step == kSteps - 1) step += binary(size - step);
    return sign ? -step : step;
  }

 private:
  int decide(int bit, Estimate* const (&from)[kInputs], int set) {
    auto& weights = weights_[set];
    std::int32_t logits[kInputs];
    std::int64_t sum = 0;
    for (int k = 0; k < kInputs; ++k) {
      logits[k] = tables_.stretch[from[k]->p >> 4];
      sum += static_cast<std::int64_t>(weights[k]) * logits[k];
    }
    const auto logit = std::clamp<std::int64_t>(sum / kOne, -2047, 2047);
    const std::int32_t p = tables_.squash[static_cast<std::size_t>(logit + 2048)];
    bit = coder_.code(bit, p);
    const std::int64_t error = (bit << 16) - p;
    auto& slow = pace_[set];
    for (int k = 0; k < kInputs; ++k) {
      weights[k] += static_cast<std::int32_t>(logits[k] * error / (1 << (8 + slow / 256)));
      from[k]->update(bit, tables_);
    }
    slow += slow < 8 * 256;  // ever slower
    return bit;
  }

  int simple(int bit, Estimate& estimate) {
    bit = coder_.code(bit, std::clamp<std::int32_t>(estimate.p, kLeast, kOne - kLeast));
    estimate.update(bit, tables_);
    return bit;
  }

  // Elias' gamma code of n + 1 (1975), its bits adaptive.
  std::int32_t binary(std::int32_t n) {
    int bits = 0;
    while (simple((n + 1) >> (bits + 1) != 0, rest_[bits]) && bits < kBits - 1) ++bits;
    std::int32_t found = 1;
    for (int k = bits - 1; k >= 0; --k)
      found = 2 * found + simple((n + 1) >> k & 1, rest_[kBits + k]);
    return found - 1;
  }

  const Tables tables_;
  const SymbolTable& table_;
  Coder& coder_;
  std::vector<Estimate> rows_, columns_, groups_, around_, overall_, joint_, rest_;
  Estimate sign_;
  std::array<std::array<std::int32_t, kInputs>, 3> weights_;
  std::array<std::int32_t, 3> pace_{5 * 256, 5 * 256, 5 * 256};
};

template <class Coder>
void run(const SymbolTable& table, Coder& coder, const std::int32_t* in, std::int32_t* out) {
  Model<Coder> model(table, coder);
  std::vector<std::uint8_t> above(static_cast<std::size_t>(table.columns), 0);
  std::int64_t i = 0;
  for (std::int64_t row = 0; row < table.rows; ++row) {
    int left = 0;
    for (std::int64_t column = 0; column < table.columns; ++column, ++i) {
      const std::int32_t value = model.code(in ? in[i] : 0, row, column, 4 * left + above[column]);
      left = std::min(std::abs(value), 3);
      above[column] = static_cast<std::uint8_t>(left);
      if (out) out[i] = value;
    }
  }
}

}  // namespace

void entropy_encode(const SymbolTable& table, const std::int32_t* values,
                    std::vector<std::uint8_t>& out) {
  Encoder encoder(out);
  run(table, encoder, values, nullptr);
  encoder.finish();
}

std::size_t entropy_decode(const SymbolTable& table, const std::uint8_t* in, std::size_t bytes,
                           std::int32_t* values) {
  Decoder decoder(in, bytes);
  run(table, decoder, nullptr, values);
  return decoder.used(in);
}

}  // namespace noisycells
