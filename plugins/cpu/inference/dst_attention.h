// Window attention with deformable queries. A strip of neighbouring windows of one head shares the loads of q, k and v;
// then each window is multiplied, normalised and multiplied again in the first-level cache.
//
// Everything is channel-major, as in the planes that it comes from, with a window's queries along the vectors. Scores
// are kept as [key][query]: the softmax over keys is then plain vector arithmetic, and the result channel-major again.
#pragma once

#include "../simd.h"
#include "dst_strip.h"
#include "kernels.h"

namespace dinn360::cpu::DINN360_CPU_SET::dst {

constexpr float kLog2E = 1.44269504f;

// ---- phase 1: the bias of each head as [key][query], in units of log 2

template <class T>
void transpose_bias(DstAttentionParams const& p, Plan const& plan, float* transposed, int64_t head) {
  T const* const bias = static_cast<T const*>(p.bias) + head * plan.tokens * plan.tokens;
  float* const to = transposed + head * plan.tokens * plan.padded;
  for (int64_t key = 0; key < plan.tokens; ++key) {
    for (int64_t query = 0; query < plan.padded; ++query) {
      bool const real = query < plan.tokens;
      to[key * plan.padded + query] = real ? to_float(bias[query * plan.tokens + key]) * kLog2E : 0.f;
    }
  }
}

// ---- phase 2: attention of a window

// Scores of kQueries vectors of queries with every key, and each query's largest.
template <int kKeys, int kQueries>
void score(Plan const& plan, float const* q, float const* k, float const* bias, float* scores, Vec (&most)[kQueries]) {
  for (int64_t key = 0; key < plan.tokens; key += kKeys) {
    Vec sum[kKeys][kQueries];
    DINN360_UNROLL
    for (int i = 0; i < kKeys; ++i) {
      DINN360_UNROLL
      for (int n = 0; n < kQueries; ++n) sum[i][n] = load<Vec>(bias + (key + i) * plan.padded + n * kLanes);
    }
    for (int64_t channel = 0; channel < plan.depth; ++channel) {
      Vec query[kQueries];
      DINN360_UNROLL
      for (int n = 0; n < kQueries; ++n) query[n] = load<Vec>(q + channel * plan.padded + n * kLanes);
      DINN360_UNROLL
      for (int i = 0; i < kKeys; ++i) {
        Vec const one = broadcast(k[channel * plan.padded + key + i]);
        DINN360_UNROLL
        for (int n = 0; n < kQueries; ++n) sum[i][n] = fma(one, query[n], sum[i][n]);
      }
    }
    DINN360_UNROLL
    for (int i = 0; i < kKeys; ++i) {
      DINN360_UNROLL
      for (int n = 0; n < kQueries; ++n) {
        store(scores + ((key + i) * kQueries + n) * kLanes, sum[i][n]);
        most[n] = larger(sum[i][n], most[n]);
      }
    }
  }
}

// Takes the keys of other parts out of the scores.
template <int kQueries>
void separate(Plan const& plan, int32_t const* parts, int64_t first, float* scores, Vec (&most)[kQueries]) {
  Vec const nothing = broadcast(-__builtin_inff());
  for (int n = 0; n < kQueries; ++n) {
    IntVec const mine = load_bits<IntVec>(parts + first + n * kLanes);
    most[n] = nothing;
    for (int64_t key = 0; key < plan.tokens; ++key) {
      float* const at = scores + (key * kQueries + n) * kLanes;
      Vec const kept = mine == parts[key] ? load<Vec>(at) : nothing;
      store(at, kept);
      most[n] = larger(kept, most[n]);
    }
  }
}

// kChannels of the result for kQueries vectors of queries: weights over `total` times v.
template <int kChannels, int kQueries>
void mix(Plan const& plan, float const* weights, Vec const (&share)[kQueries], float const* v, float* out) {
  Vec sum[kChannels][kQueries] = {};
  for (int64_t key = 0; key < plan.tokens; ++key) {
    Vec weight[kQueries];
    DINN360_UNROLL
    for (int n = 0; n < kQueries; ++n) weight[n] = load<Vec>(weights + (key * kQueries + n) * kLanes);
    DINN360_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      Vec const value = broadcast(v[c * plan.padded + key]);
      DINN360_UNROLL
      for (int n = 0; n < kQueries; ++n) sum[c][n] = fma(value, weight[n], sum[c][n]);
    }
  }
  DINN360_UNROLL
  for (int c = 0; c < kChannels; ++c) {
    DINN360_UNROLL
    for (int n = 0; n < kQueries; ++n) store(out + c * plan.padded + n * kLanes, sum[c][n] * share[n]);
  }
}

// The queries of kQueries vectors from token `first` on. parts: null where all tokens see each other.
template <int kQueries>
void attend(Plan const& plan, float* q, float const* k, float const* v, float const* bias, int32_t const* parts,
            int64_t first, float* scores) {
  Vec most[kQueries], total[kQueries] = {};
  for (int n = 0; n < kQueries; ++n) most[n] = broadcast(-__builtin_inff());
  if (plan.tokens % kTileKeys == 0) {
    score<kTileKeys, kQueries>(plan, q + first, k, bias + first, scores, most);
  } else {
    score<4, kQueries>(plan, q + first, k, bias + first, scores, most);  // windows have even sides
  }
  if (parts != nullptr) separate<kQueries>(plan, parts, first, scores, most);
  for (int64_t key = 0; key < plan.tokens; ++key) {
    DINN360_UNROLL
    for (int n = 0; n < kQueries; ++n) {
      float* const at = scores + (key * kQueries + n) * kLanes;
      Vec const weight = exp2_of_negative(load<Vec>(at) - most[n]);
      store(at, weight);
      total[n] += weight;
    }
  }
  for (int n = 0; n < kQueries; ++n) total[n] = 1.f / total[n];
  int64_t channel = 0;
  auto const rows = [&](int64_t count) { return channel + count <= plan.depth; };
  for (; rows(kTileKeys); channel += kTileKeys) {
    mix<kTileKeys, kQueries>(plan, scores, total, v + channel * plan.padded, q + channel * plan.padded + first);
  }
  for (; rows(1); ++channel) {
    mix<1, kQueries>(plan, scores, total, v + channel * plan.padded, q + channel * plan.padded + first);
  }
}

inline void attend_window(Plan const& plan, float* q, float const* k, float const* v, float const* bias,
                          int32_t const* parts, float* scores) {
  int64_t first = 0;
  for (; first + kTileQueries * kLanes <= plan.padded; first += kTileQueries * kLanes) {
    attend<kTileQueries>(plan, q, k, v, bias, parts, first, scores);
  }
  for (; first < plan.padded; first += kLanes) attend<1>(plan, q, k, v, bias, parts, first, scores);
}

// Fills `parts` of a window of the strip; null when it is whole.
inline int32_t const* parts_of(DstAttentionParams const& p, Plan const& plan, Strip const& strip, int64_t window) {
  Place const* const columns = strip.columns + window * p.window;
  bool whole = true;
  for (int64_t token = 0; token < plan.padded; ++token) {
    Place const row = strip.rows[token / p.window % p.window], column = columns[token % p.window];
    strip.parts[token] = 2 * row.past + (column.past && !p.wrap);
    whole = whole && (token >= plan.tokens || strip.parts[token] == strip.parts[0]);
  }
  return whole ? nullptr : strip.parts;
}

template <class T>
void run_strip(DstAttentionParams const& p, Plan const& plan, float const* bias, char* memory, int64_t unit) {
  int64_t const first = unit % plan.strips * kStripWindows, head = unit / plan.strips % p.heads;
  int64_t const window_row = unit / plan.strips / p.heads % plan.down, batch = unit / plan.strips / p.heads / plan.down;
  int64_t const start = (batch * p.channels + head * plan.depth) * plan.plane;
  float const factor = kLog2E / __builtin_sqrtf(static_cast<float>(plan.depth));
  Strip strip(p, plan, memory);
  strip.windows = smaller(kStripWindows, plan.across - first);
  int64_t const width = strip.windows * p.window;
  fill_places(strip.rows, window_row * p.window + p.shift, p.window, plan.down * p.window, p.height, false);
  fill_places(strip.columns, first * p.window + p.shift, width, plan.across * p.window, p.width, p.wrap != 0);
  strip.plain = true;
  for (int64_t j = 0; j < width; ++j) {
    strip.plain = strip.plain && strip.columns[j].real && strip.columns[j].source == strip.columns[0].source + j;
  }
  T const* const q = static_cast<T const*>(p.q) + start;
  if (p.scale == nullptr) {
    collect(p, plan, strip, q, factor, strip.q);
  } else {
    for (int64_t w = 0; w < strip.windows; ++w) {
      // [head, (row, column)] of this window
      int64_t const field = ((batch * p.heads + head) * 2 * plan.down + window_row) * plan.across + first + w;
      int64_t const next = plan.down * plan.across;
      float const middle = static_cast<float>(p.window - 1) / 2;
      auto const at = [&](void const* tensor, int64_t index) { return to_float(static_cast<T const*>(tensor)[index]); };
      for (int32_t i = 0; i < p.window; ++i) {
        float const base = static_cast<float>(i) - middle;
        float const down = base * at(p.scale, field) + at(p.offset, field);
        float const across = base * at(p.scale, field + next) + at(p.offset, field + next);
        strip.sampled_rows[i] = between(strip.rows[i].source, down, p.height, false);
        strip.sampled_columns[i] = between(strip.columns[w * p.window + i].source, across, p.width, p.wrap != 0);
      }
      sample(p, plan, strip, q, factor, strip.q + w * plan.block);
    }
  }
  collect(p, plan, strip, static_cast<T const*>(p.k) + start, 1.f, strip.k);
  collect(p, plan, strip, static_cast<T const*>(p.v) + start, 1.f, strip.v);
  for (int64_t w = 0; w < strip.windows; ++w) {
    int64_t const at = w * plan.block;
    attend_window(plan, strip.q + at, strip.k + at, strip.v + at, bias + head * plan.tokens * plan.padded,
                  parts_of(p, plan, strip, w), strip.scores);
  }
  distribute(p, plan, strip, static_cast<T*>(p.y) + start);
}

template <class T>
void run_typed(DstAttentionParams const& p, Memory memory, int32_t phase, int64_t unit) {
  Plan const plan(p);
  float* const bias = reinterpret_cast<float*>(memory.shared);
  if (phase == 0) {
    transpose_bias<T>(p, plan, bias, unit);
  } else {
    run_strip<T>(p, plan, bias, memory.own, unit);
  }
}

inline size_t shared_bytes(DstAttentionParams const& p) {
  Plan const plan(p);
  return sizeof(float) * static_cast<size_t>(p.heads * plan.tokens * plan.padded);
}

inline size_t own_bytes(DstAttentionParams const& p) { return static_cast<size_t>(Strip::bytes(p, Plan(p))); }

inline int32_t phases(DstAttentionParams const&) { return 2; }

inline int64_t units(DstAttentionParams const& p, int32_t phase) {
  Plan const plan(p);
  return phase == 0 ? p.heads : p.batch * plan.down * p.heads * plan.strips;
}

inline void run(DstAttentionParams const& p, Memory memory, int32_t phase, int64_t unit) {
  p.type == DataType::kHalf ? run_typed<Half>(p, memory, phase, unit) : run_typed<float>(p, memory, phase, unit);
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::dst
