// Run-time choice among the SIMD levels the core was built with.
#pragma once

#include <string>
#include <vector>

#include "noisycells/kernels.h"

namespace noisycells {

// The functions of the level in use. The best level of this processor unless one was set.
const Kernels& kernels();

// Names of the levels that this build has and this processor runs, slowest first.
std::vector<std::string> available_simd_levels();

// Returns false, and changes nothing, where the level is not available.
bool set_simd_level(const std::string& name);

}  // namespace noisycells
