// Patches of a convolution's images, for products and for their gradients.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "noisycells/crossbar.h"
#include "noisycells/parallel.h"
#include "shares.h"

namespace noisycells {

inline constexpr std::ptrdiff_t kGathered = 8;  // patches at once

// A convolution's images with their padding, and where each line of a filter lies on them: a patch
// is then gathered by copying lines, in the order (channel, depth, height, width) of torch's
// filters.
class Images {
 public:
  Images(const float* x, const Patches& p, std::ptrdiff_t batch, int threads) : p_(p) {
    std::ptrdiff_t size[3];
    for (int d = 0; d < 3; ++d) size[d] = p.size[d] + 2 * p.padding[d];
    row_ = size[2];
    plane_ = size[1] * row_;
    const std::ptrdiff_t channel = size[0] * plane_;
    image_ = p.channels * channel;
    places_ = p.out[0] * p.out[1] * p.out[2];
    const std::ptrdiff_t images = batch / places_;
    // Lines are copied in whole fours.
    memory_.reset(new float[static_cast<std::size_t>(images * image_) + 4]);
    const std::ptrdiff_t lines = p.size[0] * p.size[1];
    parallel_for(images * p.channels, grain(kCopied * static_cast<double>(channel)), threads,
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                   for (std::ptrdiff_t c = begin; c < end; ++c) {
                     float* to = memory_.get() + c * channel;
                     std::fill(to, to + channel, 0.0f);
                     to += p.padding[0] * plane_ + p.padding[1] * row_ + p.padding[2];
                     const float* from = x + c * lines * p.size[2];
                     for (std::ptrdiff_t l = 0; l < lines; ++l, from += p.size[2])
                       std::memcpy(to + l / p.size[1] * plane_ + l % p.size[1] * row_, from,
                                   static_cast<std::size_t>(p.size[2]) * sizeof(float));
                   }
                 });
    const bool whole = p.dilation[2] == 1;
    length_ = whole ? p.kernel[2] : 1;
    for (std::ptrdiff_t c = 0; c < p.channels; ++c)
      for (std::ptrdiff_t d = 0; d < p.kernel[0]; ++d)
        for (std::ptrdiff_t h = 0; h < p.kernel[1]; ++h)
          for (std::ptrdiff_t w = 0; w < (whole ? 1 : p.kernel[2]); ++w)
            offsets_.push_back(c * channel + d * p.dilation[0] * plane_ + h * p.dilation[1] * row_ +
                               w * p.dilation[2]);
  }

  // Patches first .. first + count, one after the other; up to 3 floats more are written.
  void gather(std::ptrdiff_t first, std::ptrdiff_t count, float* to) const {
    while (count > 0) {
      const std::ptrdiff_t place = first % places_;
      const std::ptrdiff_t w = place % p_.out[2], h = place / p_.out[2] % p_.out[1];
      const std::ptrdiff_t d = place / (p_.out[2] * p_.out[1]);
      const float* from = memory_.get() + first / places_ * image_ + d * p_.stride[0] * plane_ +
                          h * p_.stride[1] * row_ + w * p_.stride[2];
      const std::ptrdiff_t along = std::min(count, p_.out[2] - w);  // the same line of the output
      for (std::ptrdiff_t i = 0; i < along; ++i, from += p_.stride[2]) to = copy_lines(from, to);
      first += along;
      count -= along;
    }
  }

 private:
  float* copy_lines(const float* from, float* to) const {
    const std::ptrdiff_t length = length_;
    if (length == 3) {  // a constant step lets the next line's address be known at once
      for (const std::ptrdiff_t offset : offsets_) {
        std::memcpy(to, from + offset, 4 * sizeof(float));
        to += 3;
      }
      return to;
    }
    for (const std::ptrdiff_t offset : offsets_) {
      for (std::ptrdiff_t i = 0; i < length; i += 4)
        std::memcpy(to + i, from + offset + i, 4 * sizeof(float));
      to += length;
    }
    return to;
  }

  Patches p_;
  std::ptrdiff_t row_, plane_, image_, places_;
  std::ptrdiff_t length_;
  std::vector<std::ptrdiff_t> offsets_;
  std::unique_ptr<float[]> memory_;
};

}  // namespace noisycells
