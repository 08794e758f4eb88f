// The immutable tables that Python hands to the kernels, with the memory they point to.
#pragma once

#include <vector>

#include "noisycells/kernels.h"

namespace noisycells::bindings {

struct BoundChannel {
  std::vector<float> table, columns, read;
  ChannelTables tables{};
};

struct BoundCodec {
  std::vector<float> inverse;
  CodecTables tables{};
};

}  // namespace noisycells::bindings
