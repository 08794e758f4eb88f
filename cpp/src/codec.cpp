#include "noisycells/codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "mask_index.h"
#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"

namespace noisycells {
namespace {

// Kernels write whole vectors into buffers.
constexpr std::ptrdiff_t kRoom = kBlock + 16;
constexpr std::ptrdiff_t kGrainBlocks = 4;

std::int64_t blocks_of(std::int64_t stored) { return (stored + kBlock - 1) / kBlock; }

// Walks the stored weights of a tensor block by block, as float32.
template <class T>
class StoredWeights {
 public:
  StoredWeights(const T* w, std::int64_t n, const std::uint8_t* mask, std::int64_t position)
      : w_(w), n_(n), mask_(mask), position_(position) {}

  // The next m of them; valid until the next call.
  const float* next(std::ptrdiff_t m, const Kernels& k) {
    if constexpr (std::is_same_v<T, float>) {
      if (!mask_) {
        position_ += m;
        return w_ + position_ - m;
      }
      position_ = k.compress(w_, mask_, position_, n_, m, buffer_);
    } else {
      for (std::ptrdiff_t i = 0; i < m; ++position_)
        if (!mask_ || (mask_[position_ / 8] >> (position_ % 8) & 1) != 0)
          buffer_[i++] = static_cast<float>(w_[position_]);
    }
    return buffer_;
  }

 private:
  const T* w_;
  std::int64_t n_;
  const std::uint8_t* mask_;
  std::int64_t position_;
  alignas(64) float buffer_[kRoom];
};

// Puts weights read back where they belong, zeros between them.
class Placement {
 public:
  Placement(float* out, std::int64_t n, const std::uint8_t* mask, std::int64_t position)
      : out_(out), n_(n), mask_(mask), position_(position) {}

  void put(const float* w, std::ptrdiff_t m, const Kernels& k) {
    if (mask_) {
      position_ = k.expand(w, mask_, position_, n_, m, out_);
    } else {
      std::memcpy(out_ + position_, w, static_cast<std::size_t>(m) * sizeof(float));
      position_ += m;
    }
  }
  void finish() { std::fill(out_ + position_, out_ + n_, 0.0f); }

 private:
  float* out_;
  std::int64_t n_;
  const std::uint8_t* mask_;
  std::int64_t position_;
};

// f(block, m) for the blocks of `stored` weights in [begin, end).
template <class F>
void for_blocks(std::ptrdiff_t begin, std::ptrdiff_t end, std::int64_t stored, F f) {
  for (std::ptrdiff_t b = begin; b < end; ++b)
    f(b, std::min<std::int64_t>(kBlock, stored - b * kBlock));
}

std::int64_t packed_block_bytes(const std::int64_t (&counts)[kMaxRanges], const CodecTables& c) {
  std::int64_t bytes = 0;
  for (int r = 0; r < c.ranges; ++r) bytes += (counts[r] * c.width[r] + 7) / 8;
  return bytes;
}

std::int64_t block_capacity(const CodecTables& c) {
  const int widest = *std::max_element(c.width, c.width + c.ranges);
  return kBlock * widest / 8 + (c.ranges > 1 ? c.ranges : 0);
}

// One block's levels to bytes, range by range. Returns the bytes written.
std::int64_t pack_levels(const std::int32_t* levels, const std::uint8_t* codes, std::ptrdiff_t m,
                         const CodecTables& c, const Kernels& k, std::uint8_t* out) {
  const std::uint8_t* start = out;
  for (int r = 0; r < c.ranges; ++r) {
    std::uint8_t narrow[kBlock];
    std::uint16_t wide[kBlock];
    const bool is_wide = c.width[r] > 8;
    std::ptrdiff_t count = 0;
    for (std::ptrdiff_t i = 0; i < m; ++i) {
      if (is_wide)
        wide[count] = static_cast<std::uint16_t>(levels[i]);
      else
        narrow[count] = static_cast<std::uint8_t>(levels[i]);
      count += codes[i] >> c.sign == r;
    }
    if (is_wide)
      k.pack16(wide, count, c.width[r], out);
    else
      k.pack8(narrow, count, c.width[r], out);
    out += (count * c.width[r] + 7) / 8;
  }
  return out - start;
}

void unpack_levels(const std::uint8_t* in, const std::uint8_t* codes, std::ptrdiff_t m,
                   const CodecTables& c, const Kernels& k, std::int32_t* levels) {
  for (int r = 0; r < c.ranges; ++r) {
    std::uint8_t narrow[kBlock];
    std::uint16_t wide[kBlock];
    std::ptrdiff_t count = 0;
    for (std::ptrdiff_t i = 0; i < m; ++i) count += codes[i] >> c.sign == r;
    const bool is_wide = c.width[r] > 8;
    if (is_wide)
      k.unpack16(in, count, c.width[r], wide);
    else
      k.unpack8(in, count, c.width[r], narrow);
    in += (count * c.width[r] + 7) / 8;
    for (std::ptrdiff_t i = 0, at = 0; i < m; ++i)
      if (codes[i] >> c.sign == r) {
        levels[i] = is_wide ? wide[at] : narrow[at];
        ++at;
      }
  }
}

std::uint8_t* side_at(std::uint8_t* side, std::int64_t block, const CodecTables& c) {
  return side + block * (kBlock / 8) * c.side_width;
}
const std::uint8_t* side_at(const std::uint8_t* side, std::int64_t block, const CodecTables& c) {
  return side + block * (kBlock / 8) * c.side_width;
}

void unpack_side(const std::uint8_t* side, std::int64_t block, std::ptrdiff_t m,
                 const CodecTables& c, const Kernels& k, std::uint8_t* codes) {
  if (c.side_width > 0)
    k.unpack8(side_at(side, block, c), m, c.side_width, codes);
  else
    std::memset(codes, 0, static_cast<std::size_t>(m));
}

// Where each block's packed levels start. Throws where a side code names no range.
std::vector<std::int64_t> block_offsets(const std::uint8_t* side, std::int64_t stored,
                                        const CodecTables& c, int threads) {
  const Kernels& k = kernels();
  const std::int64_t blocks = blocks_of(stored);
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(blocks + 1), 0);
  std::vector<std::uint8_t> bad(static_cast<std::size_t>(blocks), 0);
  parallel_for(blocks, kGrainBlocks, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for_blocks(begin, end, stored, [&](std::ptrdiff_t b, std::ptrdiff_t m) {
      std::uint8_t codes[kRoom];
      unpack_side(side, b, m, c, k, codes);
      std::int64_t counts[kMaxRanges] = {};
      for (std::ptrdiff_t i = 0; i < m; ++i) ++counts[codes[i] >> c.sign];
      for (int r = c.ranges; r < kMaxRanges; ++r) bad[b] |= counts[r] != 0;
      offsets[b + 1] = packed_block_bytes(counts, c);
    });
  });
  for (std::int64_t b = 0; b < blocks; ++b) {
    if (bad[b]) throw std::invalid_argument("side: a code names a range that does not exist");
    offsets[b + 1] += offsets[b];
  }
  return offsets;
}

}  // namespace

std::int64_t levels_capacity(std::int64_t stored, const CodecTables& codec) {
  return blocks_of(stored) * block_capacity(codec);
}

std::int64_t side_bytes(std::int64_t stored, const CodecTables& codec) {
  return (stored * codec.side_width + 7) / 8;
}

std::int64_t count_stored(std::int64_t n, const std::uint8_t* mask, int threads) {
  return MaskIndex(mask, n, threads).selected();
}

template <class T>
Extent scan(const T* w, std::int64_t n, const std::uint8_t* mask, int threads) {
  const MaskIndex index(mask, n, threads);
  const std::int64_t stored = index.selected(), blocks = blocks_of(stored);
  if (stored == 0) return {0, 0.0f, 0.0f, true};
  const Kernels& k = kernels();
  const std::int64_t shares = (blocks + 63) / 64;
  std::vector<Extent> part(static_cast<std::size_t>(shares));
  parallel_for(shares, 1, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    StoredWeights<T> weights(w, n, mask, index.seek(begin * 64 * kBlock));
    for (std::ptrdiff_t s = begin; s < end; ++s) {
      Extent& e = part[s];
      bool first = true;
      for_blocks(s * 64, std::min<std::int64_t>(blocks, (s + 1) * 64), stored,
                 [&](std::ptrdiff_t, std::ptrdiff_t m) {
                   float low = 0, high = 0;
                   const bool finite = k.extent(weights.next(m, k), m, &low, &high);
                   e.low = first ? low : std::min(e.low, low);
                   e.high = first ? high : std::max(e.high, high);
                   e.finite = (first || e.finite) && finite;
                   first = false;
                 });
    }
  });
  Extent all = part[0];
  for (const Extent& e : part) {
    all.low = std::min(all.low, e.low);
    all.high = std::max(all.high, e.high);
    all.finite = all.finite && e.finite;
  }
  all.stored = stored;
  return all;
}

template <class T>
std::vector<std::int64_t> magnitude_histogram(const T* w, std::int64_t n, const std::uint8_t* mask,
                                              float top, int bins, int threads) {
  const MaskIndex index(mask, n, threads);
  const std::int64_t stored = index.selected(), blocks = blocks_of(stored);
  const Kernels& k = kernels();
  const float scale = top > 0 ? static_cast<float>(bins) / top : 0.0f;
  // A histogram a share, not a thread, so that counts do not depend on who did what.
  const std::int64_t shares = std::min<std::int64_t>(blocks, 64);
  std::vector<std::int64_t> counts(static_cast<std::size_t>(shares * bins), 0);
  parallel_for(shares, 1, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t s = begin; s < end; ++s) {
      const std::int64_t b0 = blocks * s / shares, b1 = blocks * (s + 1) / shares;
      StoredWeights<T> weights(w, n, mask, index.seek(std::min(stored, b0 * kBlock)));
      for_blocks(b0, b1, stored, [&](std::ptrdiff_t, std::ptrdiff_t m) {
        const float* v = weights.next(m, k);
        for (std::ptrdiff_t i = 0; i < m; ++i) {
          const float t = std::fabs(v[i]) * scale;
          // Also false for NaN.
          const int bin = t < static_cast<float>(bins) ? static_cast<int>(t) : bins - 1;
          ++counts[s * bins + bin];
        }
      });
    }
  });
  std::vector<std::int64_t> total(static_cast<std::size_t>(bins), 0);
  for (std::int64_t s = 0; s < shares; ++s)
    for (int b = 0; b < bins; ++b) total[b] += counts[s * bins + b];
  return total;
}

template <class T>
std::int64_t encode(const T* w, std::int64_t n, const std::uint8_t* mask, const CodecTables& codec,
                    float* float_levels, std::uint8_t* packed_levels, std::uint8_t* side,
                    int threads) {
  const MaskIndex index(mask, n, threads);
  const std::int64_t stored = index.selected(), blocks = blocks_of(stored);
  const Kernels& k = kernels();
  const std::int64_t capacity = block_capacity(codec);
  std::vector<std::int32_t> bytes(codec.packed ? static_cast<std::size_t>(blocks) : 0);
  parallel_for(blocks, kGrainBlocks, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    StoredWeights<T> weights(w, n, mask, index.seek(begin * kBlock));
    for_blocks(begin, end, stored, [&](std::ptrdiff_t b, std::ptrdiff_t m) {
      alignas(64) std::uint8_t codes[kRoom];
      alignas(64) float x[kRoom];
      alignas(64) std::int32_t levels[kRoom];
      const float* v = weights.next(m, k);
      k.classify(v, m, codec, codes);
      if (codec.side_width > 0) k.pack8(codes, m, codec.side_width, side_at(side, b, codec));
      if (codec.packed) {
        k.to_inputs(v, codes, m, codec, x);
        k.quantize(x, codes, m, codec, levels);
        bytes[b] = static_cast<std::int32_t>(
            pack_levels(levels, codes, m, codec, k, packed_levels + b * capacity));
      } else if (m == kBlock) {
        k.to_inputs(v, codes, m, codec, float_levels + b * kBlock);
      } else {
        k.to_inputs(v, codes, m, codec, x);
        std::memcpy(float_levels + b * kBlock, x, static_cast<std::size_t>(m) * sizeof(float));
      }
    });
  });
  if (!codec.packed) return stored;
  std::int64_t at = 0;
  for (std::int64_t b = 0; b < blocks; at += bytes[b], ++b)
    if (at != b * capacity)
      std::memmove(packed_levels + at, packed_levels + b * capacity,
                   static_cast<std::size_t>(bytes[b]));
  return at;
}

void decode(const float* float_levels, const std::uint8_t* packed_levels, std::int64_t levels,
            const std::uint8_t* side, std::int64_t side_size, std::int64_t n,
            const std::uint8_t* mask, const CodecTables& codec, const ChannelTables& channel,
            const Keys& keys, bool literal, float* out, int threads) {
  const MaskIndex index(mask, n, threads);
  const std::int64_t stored = index.selected();
  if (side_size != side_bytes(stored, codec))
    throw std::invalid_argument("side: expected " + std::to_string(side_bytes(stored, codec)) +
                                " bytes for " + std::to_string(stored) + " stored weights, got " +
                                std::to_string(side_size));
  std::vector<std::int64_t> offsets;
  const bool some_codes_name_no_range = (codec.ranges & (codec.ranges - 1)) != 0;
  if (codec.packed || some_codes_name_no_range)
    offsets = block_offsets(side, stored, codec, threads);
  const std::int64_t expected = codec.packed ? offsets.back() : stored;
  if (levels != expected)
    throw std::invalid_argument(
        "levels: expected " + std::to_string(expected) + (codec.packed ? " bytes" : " elements") +
        " for " + std::to_string(stored) + " stored weights, got " + std::to_string(levels));
  const Kernels& k = kernels();
  const std::int64_t blocks = blocks_of(stored);
  if (blocks == 0) std::fill(out, out + n, 0.0f);
  parallel_for(blocks, literal ? 1 : kGrainBlocks, threads,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 Placement placement(out, n, mask, index.seek(begin * kBlock));
                 for_blocks(begin, end, stored, [&](std::ptrdiff_t b, std::ptrdiff_t m) {
                   alignas(64) std::uint8_t codes[kRoom] = {};
                   alignas(64) float buffer[kRoom], weights[kRoom];
                   alignas(64) std::int32_t packed[kRoom] = {};
                   unpack_side(side, b, m, codec, k, codes);
                   const float* x = float_levels + (codec.packed ? 0 : b * kBlock);
                   if (codec.packed) {
                     unpack_levels(packed_levels + offsets[b], codes, m, codec, k, packed);
                     k.dequantize(packed, codes, m, codec, buffer);
                     x = buffer;
                   }
                   k.read_back(x, codes, m, codec, channel, keys, b * kBlock, literal, weights);
                   placement.put(weights, m, k);
                 });
                 if (end == blocks) placement.finish();
               });
}

template <class T>
void transmit(const T* w, std::int64_t n, const std::uint8_t* mask, const CodecTables& codec,
              const ChannelTables& channel, const Keys& keys, bool literal, float* out,
              int threads) {
  const MaskIndex index(mask, n, threads);
  const std::int64_t stored = index.selected(), blocks = blocks_of(stored);
  const Kernels& k = kernels();
  if (blocks == 0) std::fill(out, out + n, 0.0f);
  parallel_for(blocks, literal ? 1 : kGrainBlocks, threads,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 StoredWeights<T> source(w, n, mask, index.seek(begin * kBlock));
                 Placement placement(out, n, mask, index.seek(begin * kBlock));
                 for_blocks(begin, end, stored, [&](std::ptrdiff_t b, std::ptrdiff_t m) {
                   alignas(64) std::uint8_t codes[kRoom];
                   alignas(64) float x[kRoom], weights[kRoom];
                   const float* v = source.next(m, k);
                   k.classify(v, m, codec, codes);
                   k.to_inputs(v, codes, m, codec, x);
                   if (codec.packed) {
                     alignas(64) std::int32_t levels[kRoom];
                     k.quantize(x, codes, m, codec, levels);
                     k.dequantize(levels, codes, m, codec, x);
                   }
                   k.read_back(x, codes, m, codec, channel, keys, b * kBlock, literal, weights);
                   placement.put(weights, m, k);
                 });
                 if (end == blocks) placement.finish();
               });
}

template <class T>
void side_bits(const T* w, std::int64_t n, const CodecTables& codec, std::uint8_t* side,
               int threads) {
  const Kernels& k = kernels();
  parallel_for(blocks_of(n), kGrainBlocks, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    StoredWeights<T> weights(w, n, nullptr, begin * kBlock);
    for_blocks(begin, end, n, [&](std::ptrdiff_t b, std::ptrdiff_t m) {
      alignas(64) std::uint8_t codes[kRoom];
      k.classify(weights.next(m, k), m, codec, codes);
      if (codec.side_width > 0) k.pack8(codes, m, codec.side_width, side_at(side, b, codec));
    });
  });
}

#define NOISYCELLS_INSTANTIATE(T)                                                                  \
  template Extent scan<T>(const T*, std::int64_t, const std::uint8_t*, int);                       \
  template std::vector<std::int64_t> magnitude_histogram<T>(const T*, std::int64_t,                \
                                                            const std::uint8_t*, float, int, int); \
  template std::int64_t encode<T>(const T*, std::int64_t, const std::uint8_t*, const CodecTables&, \
                                  float*, std::uint8_t*, std::uint8_t*, int);                      \
  template void transmit<T>(const T*, std::int64_t, const std::uint8_t*, const CodecTables&,       \
                            const ChannelTables&, const Keys&, bool, float*, int);                 \
  template void side_bits<T>(const T*, std::int64_t, const CodecTables&, std::uint8_t*, int);
NOISYCELLS_INSTANTIATE(float)
NOISYCELLS_INSTANTIATE(double)
#undef NOISYCELLS_INSTANTIATE

}  // namespace noisycells
