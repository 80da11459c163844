// What each instruction set's build of the fused operators offers.
#pragma once

#include <cstdint>

#include "../dispatch.h"
#include "params.h"

namespace dinn360::fused {

struct Kernels {
  int64_t (*packed_floats)(ConvParams const&);
  int64_t (*own_floats)(ConvParams const&);
  int64_t (*conv_units)(ConvParams const&);
  void (*pack)(ConvParams const&, float* packed);
  void (*convolve)(ConvParams const&, float const* packed, float* own, int64_t unit);
  int64_t (*norm_units)(ChannelNormParams const&);
  void (*normalise)(ChannelNormParams const&, int64_t unit);
  int64_t (*haar_units)(HaarParams const&);
  void (*haar)(HaarParams const&, int64_t unit);
};

}  // namespace dinn360::fused

namespace dinn360::cpu {
DINN360_DISPATCH(fused, dinn360::fused::Kernels)
}
