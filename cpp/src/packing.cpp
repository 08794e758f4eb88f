// Where a crossbar array keeps its panels, and how conductances get there.
#include <algorithm>

#include "align.h"
#include "noisycells/crossbar.h"
#include "noisycells/parallel.h"
#include "noisycells/simd_level.h"
#include "shares.h"

namespace noisycells {

CrossbarArray::CrossbarArray(std::ptrdiff_t n, std::ptrdiff_t k, int rows, int planes, bool integer,
                             bool narrow, bool variance)
    : n_(n), k_(k), groups_((n + kGroup - 1) / kGroup), rows_(rows), planes_(planes),
      tiles_(static_cast<int>((k + rows - 1) / rows)), integer_(integer), narrow_(narrow),
      variance_(variance), kernels_(&kernels()) {
  padded_k_ = 0;
  for (int t = 0; t < tiles_; ++t) padded_k_ += padded_rows(t);
  const std::ptrdiff_t float_bytes = std::ptrdiff_t{kernels_->float_bytes} * kernels_->float_parts;
  const std::ptrdiff_t code_bytes = kernels_->code_bytes;
  weight_bytes_ = kGroup * (!integer ? float_bytes : narrow ? kernels_->narrow_code_bytes : 2);
  variance_bytes_ = kGroup * (!variance ? 0 : integer ? code_bytes : float_bytes);
  extra_bytes_ = integer && narrow ? kernels_->narrow_extra_bytes : 0;
  group_bytes_ = planes * (padded_k_ * (weight_bytes_ + variance_bytes_) + tiles_ * extra_bytes_);
  memory_.reset(new char[static_cast<std::size_t>(groups_ * group_bytes_) + kAlign]);
  panels_ = aligned(memory_.get());
  peaks_.reset(
      new float[static_cast<std::size_t>(groups_ * planes * tiles_ * kGroup * (variance ? 2 : 1))]);
  packed_.resize(static_cast<std::size_t>(planes));
}

bool CrossbarArray::packed() const {
  return std::find(packed_.begin(), packed_.end(), false) == packed_.end();
}

int CrossbarArray::tile_rows(int tile) const {
  const std::ptrdiff_t before = static_cast<std::ptrdiff_t>(tile) * rows_;
  return static_cast<int>(std::min<std::ptrdiff_t>(rows_, k_ - before));
}

int CrossbarArray::padded_rows(int tile) const {
  const int step = integer_ ? kernels_->row_step : kernels_->float_row_step;
  return (tile_rows(tile) + step - 1) / step * step;
}

char* CrossbarArray::panel(std::ptrdiff_t group, int plane, int tile, bool variance) const {
  const std::ptrdiff_t before =
      plane * padded_k_ + static_cast<std::ptrdiff_t>(tile) * padded_rows(0);
  return panels_ + group * group_bytes_ + before * (weight_bytes_ + variance_bytes_) +
         (plane * tiles_ + tile) * extra_bytes_ +
         (variance ? padded_rows(tile) * weight_bytes_ + extra_bytes_ : 0);
}

float* CrossbarArray::peaks(std::ptrdiff_t group, int plane, int tile, bool variance) const {
  const std::ptrdiff_t at = (group * planes_ + plane) * tiles_ + tile;
  const std::ptrdiff_t all = groups_ * planes_ * tiles_;
  return peaks_.get() + (at + (variance ? all : 0)) * kGroup;
}

void CrossbarArray::pack(int plane, const float* positive, const float* negative,
                         float inverse_span, const float* variance, float* reach, int threads) {
  if (!positive) {  // -(negative) inverse_span
    positive = negative;
    negative = nullptr;
    inverse_span = -inverse_span;
  }
  std::vector<float> each(static_cast<std::size_t>(groups_ * tiles_));
  const int levels = !integer_ ? 0 : narrow_ ? kNarrowLevels : kWeightLevels;
  const double panel_weights = static_cast<double>(kGroup * tile_rows(0));
  parallel_for(groups_ * tiles_, grain(kInput * 2 * panel_weights), threads,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 for (std::ptrdiff_t i = begin; i < end; ++i) {
                   const std::ptrdiff_t group = i / tiles_;
                   const int tile = static_cast<int>(i % tiles_);
                   const std::ptrdiff_t at =
                       group * kGroup * k_ + static_cast<std::ptrdiff_t>(tile) * rows_;
                   const int columns =
                       static_cast<int>(std::min<std::ptrdiff_t>(kGroup, n_ - group * kGroup));
                   each[static_cast<std::size_t>(i)] = kernels_->pack(
                       positive + at, negative ? negative + at : nullptr, k_, columns,
                       tile_rows(tile), inverse_span, levels, panel(group, plane, tile, false),
                       peaks(group, plane, tile, false));
                   if (variance_)
                     kernels_->pack(variance + at, nullptr, k_, columns, tile_rows(tile), 1.0f,
                                    integer_ ? kVarianceLevels : 0, panel(group, plane, tile, true),
                                    peaks(group, plane, tile, true));
                 }
               });
  std::fill(reach, reach + tiles_, 0.0f);
  for (std::ptrdiff_t i = 0; i < groups_ * tiles_; ++i)
    reach[i % tiles_] = std::max(reach[i % tiles_], each[static_cast<std::size_t>(i)]);
  packed_[static_cast<std::size_t>(plane)] = true;
}

}  // namespace noisycells
