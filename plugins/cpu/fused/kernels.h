// What each instruction set's build of the fused operators offers.
#pragma once

#include <cstdint>

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

// Those of the instruction set that plugins/cpu has chosen for this CPU.
Kernels const& kernels();

}  // namespace dinn360::fused

namespace dinn360::cpu {
namespace portable::fused {
extern const dinn360::fused::Kernels kernels;
}
namespace avx2::fused {
extern const dinn360::fused::Kernels kernels;
}
namespace avx512::fused {
extern const dinn360::fused::Kernels kernels;
}
namespace neon::fused {
extern const dinn360::fused::Kernels kernels;
}
}  // namespace dinn360::cpu
