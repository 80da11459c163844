// The two operators on CPU cores: fp32 (fp16 data is widened), layout kLinear. Chooses AVX-512, AVX2 or NEON at run time.
#pragma once

#include <cstdint>

#include "../kernels/params.h"

namespace dinn360::cpu {

// The host's threads. `run` calls task(data, index) once for each index in [0, count), in any order, and returns when
// all are done. `threads` is how many may run at once.
struct Pool {
  void* self;
  void (*run)(void* self, int64_t count, void (*task)(void* data, int64_t index), void* data);
  int32_t threads;
};

// Why a call cannot run, or nullptr.
const char* check(DeformConvParams const& params);
const char* check(DstAttentionParams const& params);

// Both return nullptr, or a static message (memory could not be had).
const char* deform_conv(DeformConvParams const& params, Pool const& pool);
const char* dst_attention(DstAttentionParams const& params, Pool const& pool);

}  // namespace dinn360::cpu
