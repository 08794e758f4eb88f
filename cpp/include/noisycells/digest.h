// Digests of an array's bytes, in parallel (reference.block_digests).
#pragma once

#include <cstddef>
#include <cstdint>

namespace noisycells {

constexpr std::ptrdiff_t kDigestKey = 1028;  // words
// Bytes that one digest stands for; an array's last ones are followed by zeros.
constexpr std::ptrdiff_t kDigestBytes = 4096;

// bytes -> two numbers a block of them.
void block_digests(const void* bytes, std::ptrdiff_t size, const std::int32_t* key,
                   std::uint64_t* out, int threads);

}  // namespace noisycells
