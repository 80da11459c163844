// DST attention: one warp's 16 queries of one unit against its keys and values, which come in steps of Shape::kKeys.
// Scores and weights never leave the registers; the softmax runs along (maximum and sum so far, rescaled in each step).
#pragma once

#include "dst_plan.cuh"

namespace dinn360::dst {

// 2^x as the hardware has it: relative error 2^-22, subnormal results are zero.
__device__ __forceinline__ float power_of_two(float x) {
#ifdef DINN360_EMULATED
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// `value`, but the compiler does not know. Of an index in a loop it would else keep all that is computed from it, one
// register for each constant, over the whole loop.
__device__ __forceinline__ int recomputed(int value) {
#ifndef DINN360_EMULATED
  asm volatile("" : "+r"(value));
#endif
  return value;
}

inline constexpr float kLog2E = 1.44269504f;

// What turns products into the scores of one unit: scale, bias and region.
template <class T>
struct Scoring {
  Plan<T> const& plan;
  Global<T const> bias;  // (tokens,tokens) of the head
  int rows, columns;     // of the window's part before the end
  bool restricted;       // keys are missing, or the window joins the image's ends

  __device__ __forceinline__ Scoring(Plan<T> const& plan_, Job const& job, int unit) : plan(plan_), bias(plan_.bias) {
    int const head = job.head + (unit & ((1 << plan.head_bits) - 1));
    int const window_column = job.window_column + (unit >> plan.head_bits);
    bias = bias + int64_t{head} * plan.tokens * plan.tokens;
    rows = job.window_row == plan.down - 1 ? plan.window - plan.shift : plan.window;
    columns = window_column == plan.across - 1 && !plan.wrap ? plan.window - plan.shift : plan.window;
    restricted = plan.tokens % kQueries != 0 || rows < plan.window || columns < plan.window;
  }

  __device__ __forceinline__ int part(int token) const {
    int2 const at = plan.by_window.of(token);
    return 2 * (at.x >= rows) + (at.y >= columns);
  }
  __device__ __forceinline__ bool allowed(int query, int key) const {
    return key < plan.tokens && part(query) == part(key);
  }

  // Makes products q·k scores times log2(e). kCount keys follow each other, `key` the first.
  template <int kCount>
  __device__ __forceinline__ void finish(float (&score)[kCount], int query, int key) const {
    query = min(query, plan.tokens - 1);  // rows that only fill a tile
    float added[kCount];
    load_bias(added, query * plan.tokens + key, plan.tokens - key);
#pragma unroll
    for (int i = 0; i < kCount; ++i) score[i] = fmaf(score[i], plan.score_factor, added[i] * kLog2E);
    if (!restricted) return;
    uint32_t refused = 0;
#pragma unroll 1
    for (int i = 0; i < kCount; ++i) refused |= static_cast<uint32_t>(!allowed(query, key + i)) << i;
#pragma unroll
    for (int i = 0; i < kCount; ++i) score[i] = refused >> i & 1 ? -HUGE_VALF : score[i];
  }

 private:
  // kCount biases of 16 bytes, of which `left` exist. An even window has a multiple of four tokens.
  template <int kCount>
  __device__ __forceinline__ void load_bias(float (&added)[kCount], int at, int left) const {
    if (plan.tokens % kCount == 0) {
      widen(added, left > 0 ? bias.load16(at) : uint4{});
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) added[i] = i < left ? pieces::to_float(bias.load(at + i)) : 0.0f;
    }
  }
};

// A row's softmax so far, shared by kLanes neighbouring lanes. `sum` is each lane's own.
struct Softmax {
  float maximum = -HUGE_VALF, sum = 0.0f;

  // Takes the maximum of a step's scores in: returns the factor for what was summed before.
  template <int kLanes>
  __device__ __forceinline__ float rescale(float score) {
    float const before = maximum;
    maximum = fmaxf(before, pieces::warp_max<kLanes>(score));
    float const factor = power_of_two(before - base());
    sum *= factor;
    return factor;
  }
  // A row may have met no allowed key yet; infinity minus itself is no number.
  __device__ __forceinline__ float base() const { return maximum == -HUGE_VALF ? 0.0f : maximum; }
  __device__ __forceinline__ float weight(float score) {
    float const weight = power_of_two(score - base());
    sum += weight;
    return weight;
  }
  template <int kLanes>
  __device__ __forceinline__ float normaliser() const {
    return 1.0f / pieces::warp_sum<kLanes>(sum);
  }
};

template <class T, int kDepth>
class Attention;

// fp16 on tensor cores: scores are mma results, and their registers, rounded to fp16, are at once the operand that
// multiplies v. Lane 4r+p holds rows r and r+8 and of each 32 keys 8p..8p+7.
template <int kDepth>
class Attention<__half, kDepth> {
  using Form = Shape<__half, kDepth>;
  static constexpr int kChunks = Form::kChunks, kGroups = Form::kKeys / 32;

  int const lane_;
  int const query_, result_, key_;  // indices of the rows that this lane gives to ldmatrix, and of its results
  float out_[kChunks][4] = {};
  Softmax softmax_[2];

 public:
  // `row` of the tile is the warp's first.
  __device__ __forceinline__ Attention(int unit, int row, int twist, int lane)
      : lane_(lane),
        query_(Form::template at<kQueries>(unit, (row | lane % 16) ^ twist, 0)),
        result_(Form::template at<kQueries>(unit, (row | lane / 4) ^ twist, 0)),
        // Row lane%8 of matrix lane/8, as key_row has put it.
        key_(Form::template at<Form::kKeys>(unit, lane ^ lane >> 3 << 1 ^ twist, 0)) {}

  // Keys from token `first` on; `query` is the token of the warp's first row.
  __device__ __forceinline__ void add(Scoring<__half> const& scoring, Shared<__half> queries, Shared<__half> keys,
                                      Shared<__half> values, int query, int first) {
    float score[kGroups][2][8];
    multiply_keys(score, queries, keys);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      int const token = query + lane_ / 4 + row * 8;
      float maximum = -HUGE_VALF;
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        scoring.finish(score[group][row], token, first + group * 32 + lane_ % 4 * 8);
#pragma unroll
        for (float const s : score[group][row]) maximum = fmaxf(maximum, s);
      }
      float const factor = softmax_[row].rescale<4>(maximum);
#pragma unroll
      for (auto& out : out_) {
        out[2 * row] *= factor;
        out[2 * row + 1] *= factor;
      }
#pragma unroll
      for (auto& group : score) {
#pragma unroll
        for (float& s : group[row]) s = softmax_[row].weight(s);
      }
    }
    multiply_values(score, values);
  }

  // The results take the place of the warp's queries.
  __device__ __forceinline__ void store(Shared<__half> queries) const {
    float const share[2] = {softmax_[0].normaliser<4>(), softmax_[1].normaliser<4>()};
    __syncwarp();  // every lane has read its queries
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        int const to = result_ ^ Form::template at<kQueries>(0, row * 8, chunk);
        queries.store4(to + lane_ % 4 * 2,
                       pieces::pack(out_[chunk][2 * row] * share[row], out_[chunk][2 * row + 1] * share[row]));
      }
    }
  }

 private:
  __device__ __forceinline__ void multiply_keys(float (&score)[kGroups][2][8], Shared<__half> queries,
                                                Shared<__half> keys) const {
    float product[kGroups][4][4] = {};
#pragma unroll
    for (int chunk = 0; chunk < kChunks; chunk += 2) {  // 16 channels; the last eight may be missing
      bool const both = chunk + 1 < kChunks;
      uint32_t query[4];
      int const second = both ? Form::template at<kQueries>(0, 0, lane_ / 16) : 0;
      simt::ldmatrix_x4(query, queries, query_ ^ second ^ Form::template at<kQueries>(0, 0, chunk));
      if (!both) query[2] = query[3] = 0;
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        uint32_t low[4], high[4] = {};
        simt::ldmatrix_x4(low, keys, key_ ^ Form::template at<Form::kKeys>(0, group * 32, chunk));
        if (both) simt::ldmatrix_x4(high, keys, key_ ^ Form::template at<Form::kKeys>(0, group * 32, chunk + 1));
#pragma unroll
        for (int matrix = 0; matrix < 4; ++matrix) {
          uint32_t const key[2] = {low[matrix], high[matrix]};
          simt::mma_m16n8k16(product[group][matrix], query, key);
        }
      }
    }
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int i = 0; i < 16; ++i) score[group][i / 2 % 2][i / 4 * 2 + i % 2] = product[group][i / 4][i % 4];
    }
  }

  __device__ __forceinline__ void multiply_values(float const (&weight)[kGroups][2][8], Shared<__half> values) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      uint32_t share[2][4];  // two mma operands of 16 keys
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float const* const pair = weight[group][i % 2] + i / 2 * 2;
        share[i / 4][i % 4] = pieces::pack(pair[0], pair[1]);
      }
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        uint32_t value[4];
        simt::ldmatrix_x4_transposed(value, values, key_ ^ Form::template at<Form::kKeys>(0, group * 32, chunk));
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint32_t const operand[2] = {value[2 * half], value[2 * half + 1]};
          simt::mma_m16n8k16(out_[chunk], share[half], operand);
        }
      }
    }
  }
};

// fp32 on CUDA cores. Lane 8r+p holds rows r, r+4, r+8, r+12 and of each 32 keys 4p..4p+3: a 4x4 tile of scores. The
// products with v are sums over a lane's own keys; eight lanes then add theirs, and each keeps one of eight channels.
template <int kDepth>
class Attention<float, kDepth> {
  using Form = Shape<float, kDepth>;
  static constexpr int kGroups = Form::kKeys / 32, kEights = kDepth / 8;

  int const lane_;
  int const query_, key_;  // indices of the lane's first query and key
  float out_[kEights][4] = {};
  Softmax softmax_[4];

 public:
  __device__ __forceinline__ Attention(int unit, int row, int twist, int lane)
      : lane_(lane),
        query_(Form::template at<kQueries>(unit, (row | lane / 8) ^ twist, 0)),
        key_(Form::template at<Form::kKeys>(unit, lane % 8 ^ twist, 0)) {}

  __device__ __forceinline__ void add(Scoring<float> const& scoring, Shared<float> queries, Shared<float> keys,
                                      Shared<float> values, int query, int first) {
    float score[kGroups][4][4] = {};
    multiply_keys(score, queries, keys);
#pragma unroll
    for (int row = 0; row < 4; ++row) {
      int const token = recomputed(query + lane_ / 8) + row * 4;
      float maximum = -HUGE_VALF;
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        scoring.finish(score[group][row], token, first + group * 32 + lane_ % 8 * 4);
#pragma unroll
        for (float const s : score[group][row]) maximum = fmaxf(maximum, s);
      }
      float const factor = softmax_[row].rescale<8>(maximum);
#pragma unroll
      for (auto& out : out_) out[row] *= factor;
#pragma unroll
      for (auto& group : score) {
#pragma unroll
        for (float& s : group[row]) s = softmax_[row].weight(s);
      }
    }
#pragma unroll
    for (int eight = 0; eight < kEights; ++eight) multiply_values(out_[eight], score, values, eight);
  }

  __device__ __forceinline__ void store(Shared<float> queries) const {
    int const channel = lane_ % 8;
    __syncwarp();  // every lane has read its queries
#pragma unroll
    for (int row = 0; row < 4; ++row) {
      float const share = softmax_[row].normaliser<8>();
#pragma unroll
      for (int eight = 0; eight < kEights; ++eight) {
        int const to = query_ ^ to_query(row, 2 * eight) ^ to_query(0, channel / 4);
        queries.store(to + channel % 4, out_[eight][row] * share);
      }
    }
  }

 private:
  // From the first row's index to that of row 4 * `row`; from the first key's to that of key i, four of each 32, as
  // key_row has put it.
  __device__ __forceinline__ static constexpr int to_query(int row, int chunk) {
    return Form::template at<kQueries>(0, row * 4, chunk);
  }
  __device__ __forceinline__ static constexpr int to_key(int i, int chunk) {
    return Form::template at<Form::kKeys>(0, i * 8 ^ i % 4 << 1, chunk);
  }

  __device__ __forceinline__ void multiply_keys(float (&score)[kGroups][4][4], Shared<float> queries,
                                                Shared<float> keys) const {
#pragma unroll 2
    for (int chunk = 0; chunk < Form::kChunks; ++chunk) {
      int const first_query = recomputed(query_), first_key = recomputed(key_);
      float query[4][4];
#pragma unroll
      for (int row = 0; row < 4; ++row) widen(query[row], queries.load16(first_query ^ to_query(row, chunk)));
#pragma unroll
      for (int i = 0; i < 4 * kGroups; ++i) {
        float key[4];
        widen(key, keys.load16(first_key ^ to_key(i, chunk)));
#pragma unroll
        for (int row = 0; row < 4; ++row) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            score[i / 4][row][i % 4] = fmaf(query[row][c], key[c], score[i / 4][row][i % 4]);
          }
        }
      }
    }
  }

  // out += weights times eight channels of v; this lane's channel is lane%8.
  __device__ __forceinline__ void multiply_values(float (&out)[4], float const (&weight)[kGroups][4][4],
                                                  Shared<float> values, int eight) const {
    int const first_key = recomputed(key_);
    float sum[4][8] = {};
#pragma unroll
    for (int i = 0; i < 4 * kGroups; ++i) {
      float value[2][4];
      widen(value[0], values.load16(first_key ^ to_key(i, 2 * eight)));
      widen(value[1], values.load16(first_key ^ to_key(i, 2 * eight + 1)));
#pragma unroll
      for (int row = 0; row < 4; ++row) {
#pragma unroll
        for (int c = 0; c < 8; ++c) sum[row][c] = fmaf(weight[i / 4][row][i % 4], value[c / 4][c % 4], sum[row][c]);
      }
    }
    // Halves the channels three times: a lane sends those that belong to its partner.
#pragma unroll
    for (int step = 4; step > 0; step /= 2) {
      bool const upper = (lane_ & step) != 0;
#pragma unroll
      for (int row = 0; row < 4; ++row) {
#pragma unroll
        for (int c = 0; c < step; ++c) {
          float const kept = upper ? sum[row][c + step] : sum[row][c];
          float const sent = upper ? sum[row][c] : sum[row][c + step];
          sum[row][c] = kept + __shfl_xor_sync(pieces::kAllLanes, sent, step);
        }
      }
    }
#pragma unroll
    for (int row = 0; row < 4; ++row) out[row] += sum[row][0];
  }
};

}  // namespace dinn360::dst
