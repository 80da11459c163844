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

// Bytes that a call needs beside its tensors.
size_t workspace_size(ConvParams const& params, cpu::Pool const& pool);

void run(ConvParams const& params, cpu::Pool const& pool, void* workspace);
void run(ChannelNormParams const& params, cpu::Pool const& pool);
void run(HaarParams const& params, cpu::Pool const& pool);

}  // namespace dinn360::fused
