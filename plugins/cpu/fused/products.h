// Output channels times columns with all sums in registers: what both ways of a convolution are made of.
#pragma once

#include "../simd.h"
#include "params.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused {

using namespace dinn360::fused;

// kBlock channels times kColumns vectors are the sums; they fit the registers beside the operands.
#if defined(DINN360_CPU_PORTABLE)
constexpr int kBlock = 4, kColumns = 2;
#elif defined(__AVX2__) && !defined(__AVX512F__)
constexpr int kBlock = 6, kColumns = 2;
#else
constexpr int kBlock = 8, kColumns = 3;
#endif
constexpr int64_t kTile = int64_t{kColumns} * kLanes;

// The output channels in blocks of nearly equal size.
struct Blocks {
  explicit Blocks(int64_t channels)
      : count(ceil_div(channels, kBlock)), each(channels / count), rest(channels % count) {}
  int64_t first(int64_t block) const { return block * each + smaller(block, rest); }
  int64_t size(int64_t block) const { return each + (block < rest); }
  int64_t count, each, rest;
};

// The weights (O,inputs) as [block][input][channel of the block]: the order in which
// the products read.
inline void pack_blocks(float const* weight, int64_t out_channels, int64_t inputs, float* to) {
  Blocks const blocks(out_channels);
  for (int64_t block = 0; block < blocks.count; ++block) {
    for (int64_t input = 0; input < inputs; ++input) {
      for (int64_t o = 0; o < blocks.size(block); ++o) *to++ = weight[(blocks.first(block) + o) * inputs + input];
    }
  }
}

// O output channels of P vectors of columns, from `bias` on; those of a channel lie `apart` floats after the last one's.
template <int K, int O, int P>
void multiply(float const* x, int64_t plane, int64_t row, int64_t channels, float const* weight, float const* bias,
              float* to, int64_t apart) {
  Vec sums[O][P];
  DINN360_UNROLL
  for (int o = 0; o < O; ++o) {
    DINN360_UNROLL
    for (int p = 0; p < P; ++p) sums[o][p] = broadcast(bias[o]);
  }
  for (int64_t c = 0; c < channels; ++c, x += plane) {
    DINN360_UNROLL
    for (int r = 0; r < K; ++r) {
      DINN360_UNROLL
      for (int s = 0; s < K; ++s, weight += O) {
        Vec pixels[P];
        DINN360_UNROLL
        for (int p = 0; p < P; ++p) pixels[p] = load<Vec>(x + r * row + s + p * kLanes);
        DINN360_UNROLL
        for (int o = 0; o < O; ++o) {
          Vec const factor = broadcast(weight[o]);
          DINN360_UNROLL
          for (int p = 0; p < P; ++p) sums[o][p] = fma(factor, pixels[p], sums[o][p]);
        }
      }
    }
  }
  DINN360_UNROLL
  for (int o = 0; o < O; ++o) {
    DINN360_UNROLL
    for (int p = 0; p < P; ++p) store(to + o * apart + p * kLanes, sums[o][p]);
  }
}

using Multiply = void (*)(float const*, int64_t, int64_t, int64_t, float const*, float const*, float*, int64_t);

template <int K, int O>
Multiply multiply_columns(int64_t vectors) {
  static_assert(kColumns <= 3);
  switch (vectors) {
    case 1:
      return &multiply<K, O, 1>;
    case 2:
      return &multiply<K, O, 2>;
    default:
      return &multiply<K, O, kColumns>;
  }
}

template <int K>
Multiply multiply_block(int64_t outputs, int64_t vectors) {
  switch (outputs) {
    case 1:
      return multiply_columns<K, 1>(vectors);
    case 2:
      return multiply_columns<K, 2>(vectors);
    case 3:
      return multiply_columns<K, 3>(vectors);
    case 4:
      return multiply_columns<K, 4>(vectors);
#if !defined(DINN360_CPU_PORTABLE)
    case 5:
      return multiply_columns<K, 5>(vectors);
    case 6:
      return multiply_columns<K, 6>(vectors);
#endif
#if !defined(DINN360_CPU_PORTABLE) && (!defined(__AVX2__) || defined(__AVX512F__))
    case 7:
      return multiply_columns<K, 7>(vectors);
    case 8:
      return multiply_columns<K, 8>(vectors);
#endif
    default:
      return nullptr;
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused
