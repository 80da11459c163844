// What each instruction set's build of the fused operators offers.
#pragma once

#include <cstdint>

#include "../dispatch.h"
#include "params.h"

namespace dinn360::fused {

// A way to compute a convolution. packed: packed_floats made by `pack`, own: own_floats of any content.
struct ConvKernels {
  int64_t (*packed_floats)(ConvParams const&);  // of channels, out_channels and kernel alone, as what `pack` writes
  int64_t (*own_floats)(ConvParams const&);
  int64_t (*units)(ConvParams const&);
  void (*pack)(ConvParams const&, float* packed);
  void (*convolve)(ConvParams const&, float const* packed, float* own, int64_t unit);
};

// own: own_floats of any content.
template <class Params>
struct BlockKernels {
  int64_t (*own_floats)(Params const&);
  int64_t (*units)(Params const&);
  void (*run)(Params const&, float* own, int64_t unit);
};

struct Kernels {
  bool (*winograd_pays)(ConvParams const&);  // of channels, out_channels and kernel alone
  ConvKernels direct, winograd;              // winograd: 3x3
  int64_t (*norm_units)(ChannelNormParams const&);
  void (*normalise)(ChannelNormParams const&, int64_t unit);
  int64_t (*haar_units)(HaarParams const&);
  void (*haar)(HaarParams const&, int64_t unit);
  BlockKernels<SqueezeParams> squeeze;
  BlockKernels<UnsqueezeParams> unsqueeze;
};

inline ConvKernels const& conv_kernels(Kernels const& kernels, ConvParams const& params) {
  return kernels.winograd_pays(params) ? kernels.winograd : kernels.direct;
}

}  // namespace dinn360::fused

namespace dinn360::cpu {
DINN360_DISPATCH(fused, dinn360::fused::Kernels)
}
