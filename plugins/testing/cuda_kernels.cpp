// The host side of the kernels (cuda/launch.h) as C functions for ctypes: over the CUDA kernels on a device, or over the
// emulated ones. Null for success, else a message. Tests only.
#include "../cuda/launch.h"

#define DINN360_EXPORT extern "C" __attribute__((visibility("default")))

using namespace dinn360;

DINN360_EXPORT size_t dinn360_deform_conv_workspace(DeformConvParams const* params) { return workspace_size(*params); }
DINN360_EXPORT char const* dinn360_deform_conv(DeformConvParams const* params, void* workspace, Stream stream) {
  return launch(*params, workspace, stream);
}
DINN360_EXPORT size_t dinn360_dst_attention_workspace(DstAttentionParams const* params) {
  return workspace_size(*params);
}
DINN360_EXPORT char const* dinn360_dst_attention(DstAttentionParams const* params, void* workspace, Stream stream) {
  return launch(*params, workspace, stream);
}
