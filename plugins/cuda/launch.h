// The host side of the CUDA kernels: what a shell calls. Returns nullptr on success, else a static message.
// Nothing here throws, allocates or synchronises.
#pragma once

#include <cstddef>

#include "../params.h"

namespace dinn360 {

// `stream` is a cudaStream_t; the emulator ignores it.
using Stream = void*;

// Why a call cannot run (unsupported sizes, null pointers), or nullptr.
const char* check(DeformConvParams const& params);
const char* check(DstAttentionParams const& params);

// Bytes of device scratch that a launch needs (packed weights; 0 where none).
size_t workspace_size(DeformConvParams const& params);
size_t workspace_size(DstAttentionParams const& params);

const char* launch(DeformConvParams const& params, void* workspace, Stream stream);

// The same in two steps, for weights that do not change: what `pack` puts into the workspace depends on weight, bias,
// their sizes, groups, type and layout, and serves calls of any image that may run at the same time.
const char* pack(DeformConvParams const& params, void* workspace, Stream stream);
const char* launch_packed(DeformConvParams const& params, void const* workspace, Stream stream);

const char* launch(DstAttentionParams const& params, void* workspace, Stream stream);

}  // namespace dinn360
