// Tensors of weights to cells and back, one pass each way (reference.encode, decode).
//
// Masks are bits, least significant first, one a weight; null means that every weight is
// stored. Everything is done in blocks of kBlock stored weights, shared out among threads.
// Sizes that do not agree throw std::invalid_argument before anything is written.
#pragma once

#include <cstdint>
#include <vector>

#include "noisycells/kernels.h"

namespace noisycells {

// Bytes that packed levels of `stored` weights may take at most while being encoded.
std::int64_t levels_capacity(std::int64_t stored, const CodecTables& codec);
std::int64_t side_bytes(std::int64_t stored, const CodecTables& codec);
std::int64_t count_stored(std::int64_t n, const std::uint8_t* mask, int threads);

struct Extent {
  std::int64_t stored;
  float low, high;  // of the stored weights, 0 where there are none
  bool finite;
};
template <class T>
Extent scan(const T* w, std::int64_t n, const std::uint8_t* mask, int threads);

// Stored |w| in `bins` equal bins on [0, top]; what lies above goes to the last.
template <class T>
std::vector<std::int64_t> magnitude_histogram(const T* w, std::int64_t n, const std::uint8_t* mask,
                                              float top, int bins, int threads);

// Levels go to float_levels, or to packed_levels where codec.packed (levels_capacity bytes of
// room). Returns the number of floats, or of bytes, that the levels take.
template <class T>
std::int64_t encode(const T* w, std::int64_t n, const std::uint8_t* mask, const CodecTables& codec,
                    float* float_levels, std::uint8_t* packed_levels, std::uint8_t* side,
                    int threads);

// `levels`: number of floats or bytes given.
void decode(const float* float_levels, const std::uint8_t* packed_levels, std::int64_t levels,
            const std::uint8_t* side, std::int64_t side_size, std::int64_t n,
            const std::uint8_t* mask, const CodecTables& codec, const ChannelTables& channel,
            const Keys& keys, bool literal, float* out, int threads);

// encode and decode at once, without the stored form in between; the same bits.
template <class T>
void transmit(const T* w, std::int64_t n, const std::uint8_t* mask, const CodecTables& codec,
              const ChannelTables& channel, const Keys& keys, bool literal, float* out,
              int threads);

// The packed side codes of `stored` weights, none masked.
template <class T>
void side_bits(const T* w, std::int64_t n, const CodecTables& codec, std::uint8_t* side,
               int threads);

}  // namespace noisycells
