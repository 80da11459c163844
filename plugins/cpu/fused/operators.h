// The fused operators on the threads of a pool (plugins/cpu/pool.h).
#pragma once

#include <cstddef>

#include "../pool.h"
#include "params.h"

namespace dinn360::fused {

// Why a call cannot run, or nullptr.
const char* check(ConvParams const& params);
const char* check(ChannelNormParams const& params);
const char* check(HaarParams const& params);
const char* check(SqueezeParams const& params);
const char* check(UnsqueezeParams const& params);

// The weights in the kernels' order, for any number of calls: they depend on weight, channels, out_channels and kernel.
size_t packed_floats(ConvParams const& params);
void pack(ConvParams const& params, float* packed);

// Bytes that a call needs beside its tensors. packed: of `pack`, or null, and the call does it in its workspace.
size_t workspace_size(ConvParams const& params, cpu::Pool const& pool, float const* packed);
void run(ConvParams const& params, cpu::Pool const& pool, void* workspace, float const* packed);

void run(ChannelNormParams const& params, cpu::Pool const& pool);
void run(HaarParams const& params, cpu::Pool const& pool);

size_t workspace_size(SqueezeParams const& params, cpu::Pool const& pool);
void run(SqueezeParams const& params, cpu::Pool const& pool, void* workspace);

size_t workspace_size(UnsqueezeParams const& params, cpu::Pool const& pool);
void run(UnsqueezeParams const& params, cpu::Pool const& pool, void* workspace);

}  // namespace dinn360::fused
