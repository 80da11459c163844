// The two operators on CPU cores: fp32 (fp16 data is widened), layout kLinear; AVX-512, AVX2 or NEON at run time.
#pragma once

#include <cstddef>

#include "../../params.h"
#include "../pool.h"

namespace dinn360::cpu {

struct Kernels;

// Why a call cannot run, or nullptr.
const char* check(DeformConvParams const& params);
const char* check(DstAttentionParams const& params);

// Bytes that a call needs beside its tensors. `kernels`: those of an instruction set (kernels.h), nullptr for the best.
size_t workspace_size(DeformConvParams const& params, Pool const& pool, Kernels const* kernels = nullptr);
size_t workspace_size(DstAttentionParams const& params, Pool const& pool, Kernels const* kernels = nullptr);

// Both return nullptr, or a static message (memory could not be had). `workspace`: workspace_size bytes of any content,
// or nullptr, and they are allocated for the time of the call. The result is the same to the bit for every pool.
const char* deform_conv(DeformConvParams const& params, Pool const& pool, void* workspace = nullptr,
                        Kernels const* kernels = nullptr);
const char* dst_attention(DstAttentionParams const& params, Pool const& pool, void* workspace = nullptr,
                          Kernels const* kernels = nullptr);

}  // namespace dinn360::cpu
