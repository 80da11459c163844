// DST attention (params.h): window attention whose queries are sampled where the network says, in one pass. No scores,
// no sampled queries and no copy of a displaced image ever leave a multiprocessor.
#include "launch.h"

#include "dst_scores.cuh"
#include "dst_tiles.cuh"

namespace dinn360 {
namespace dst {
namespace {

template <class T, int kDepth, bool kVector>
__global__ void
__launch_bounds__(kThreads, (Shape<T, kDepth>::kBlocks)) dst_attention(Plan<T> const plan) {
  using Form = Shape<T, kDepth>;
  DINN360_SHARED(T, queries, Form::kUnits * kQueries * kDepth);
  DINN360_SHARED(T, keys, Form::kUnits * Form::kKeys * kDepth);
  DINN360_SHARED(T, values, Form::kUnits * Form::kKeys * kDepth);
  DINN360_SHARED(int, near, Form::kUnits * kTaps);
  DINN360_SHARED(float, share, Form::kUnits * kTaps);
  Taps const taps{near, share};
  Job const job(plan, static_cast<int>(blockIdx.x));
  Mover<T, kDepth, kVector> const mover{plan, job};
  int const row = static_cast<int>(threadIdx.x) / pieces::kWarp * 16;  // the warp's first of the tile
  int const units = job.windows << plan.head_bits;

  if (!plan.scale.is_null()) find_taps(plan, job, taps);
  for (int unit = 0; unit < units; ++unit) {
    Attention<T, kDepth> attention(unit, row, plan.twist_of(unit), static_cast<int>(threadIdx.x) % pieces::kWarp);
    Scoring<T> const scoring(plan, job, unit);
    for (int first = 0; first < plan.tokens; first += Form::kKeys) {
      if (unit == 0) {  // all units at once, or all steps of the only one: see Plan
        if (first > 0) __syncthreads();
        mover.load_keys(first, keys, values);
        if (first == 0) {
          __syncthreads();
          mover.load_queries(queries, taps);
        }
        __syncthreads();
      }
      attention.add(scoring, queries, keys, values, job.query + row, first);
    }
    attention.store(queries);
  }
  __syncthreads();
  mover.store_results(queries);
}

template <class T, int kDepth, bool kVector>
const char* launch(DstAttentionParams const& params, Stream stream) {
  using Form = Shape<T, kDepth>;
  Plan<T> const plan(params, Form::kUnits, Form::kKeys, Form::kChunks);
  if (plan.blocks() > 0x7fffffff) return "DSTAttention: more windows and heads than a launch has blocks";
  DINN360_LAUNCH((dst_attention<T, kDepth, kVector>), static_cast<uint32_t>(plan.blocks()), kThreads, 0, stream, plan);
  return cudaPeekAtLastError() == cudaSuccess ? nullptr : "DSTAttention: the launch failed";
}

template <class T, bool kVector>
const char* launch_depth(DstAttentionParams const& params, Stream stream) {
  int const depth = params.channels / params.heads;
  if (depth <= 8) return launch<T, 8, kVector>(params, stream);
  if (depth <= 16) return launch<T, 16, kVector>(params, stream);
  if (depth <= 32) return launch<T, 32, kVector>(params, stream);
  return launch<T, 64, kVector>(params, stream);
}

template <class T>
const char* launch_type(DstAttentionParams const& params, Stream stream) {
  // Whether a head's channels of a pixel are whole chunks of 16 bytes.
  bool const vector = params.layout != Layout::kLinear && params.channels / params.heads * sizeof(T) % 16 == 0;
  return vector ? launch_depth<T, true>(params, stream) : launch_depth<T, false>(params, stream);
}

bool aligned(void const* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace
}  // namespace dst

const char* check(DstAttentionParams const& p) {
  constexpr int32_t kMaxSize = 1 << 24;  // whole numbers in fp32
  if (!p.q || !p.k || !p.v || !p.bias || !p.y) return "DSTAttention: q, k, v, bias and y must not be null";
  if (!p.scale != !p.offset) return "DSTAttention: scale and offset come together or not at all";
  if (p.batch < 1 || p.channels < 1 || p.height < 1 || p.width < 1) return "DSTAttention: empty tensor";
  if (p.height > kMaxSize || p.width > kMaxSize) return "DSTAttention: height and width: expected at most 16777216";
  if (p.heads < 1 || p.channels % p.heads != 0) return "DSTAttention: channels: expected a multiple of heads";
  if (p.channels / p.heads > dst::kMaxDepth) return "DSTAttention: channels: expected at most 64 for each head";
  if (p.window < 2 || p.window > dst::kMaxWindow || p.window % 2 != 0) {
    return "DSTAttention: window: expected an even number from 2 to 16";
  }
  if (p.shift < 0 || p.shift >= p.window) return "DSTAttention: shift: expected at least 0 and less than the window";
  if (p.type != DataType::kFloat && p.type != DataType::kHalf) return "DSTAttention: type: expected float or half";
  if (p.layout < Layout::kLinear || p.layout > Layout::kHWC) {
    return "DSTAttention: layout: expected linear, HWC8 or HWC";
  }
  bool const activations = dst::aligned(p.q) && dst::aligned(p.k) && dst::aligned(p.v) && dst::aligned(p.y);
  if (!dst::aligned(p.bias) || (p.layout != Layout::kLinear && !activations)) {
    return "DSTAttention: tensors must begin on 16 bytes";
  }
  return nullptr;
}

size_t workspace_size(DstAttentionParams const&) { return 0; }

const char* launch(DstAttentionParams const& params, void*, Stream stream) {
  if (char const* const why = check(params)) return why;
  return params.type == DataType::kHalf ? dst::launch_type<__half>(params, stream)
                                        : dst::launch_type<float>(params, stream);
}

}  // namespace dinn360
