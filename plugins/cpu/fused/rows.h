// What a convolution does with rows before its products (padding, wrap, leaky_relu) and after them (activation, residual,
// coupling).
#pragma once

#include "math.h"
#include "params.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused {

using namespace dinn360::fused;

// One row of `count` columns from `first` on, cyclic or zero outside.
inline void stage_row(ConvParams const& p, float const* from, float const* addend, int64_t first, int64_t count,
                      int64_t filled, float* to) {
  int64_t const width = p.width;
  auto const value = [&](int64_t column) {
    if (p.wrap) column = column < 0 ? column + width : column >= width ? column - width : column;
    if (column < 0 || column >= width) return 0.f;
    float const sum = from[column] + (addend != nullptr ? addend[column] : 0.f);
    return sum < 0.f ? sum * p.input_slope : sum;
  };
  int64_t const last = smaller(first + count, width);
  int64_t column = first;
  for (; column < 0; ++column) *to++ = value(column);
  Vec const slope = broadcast(p.input_slope), zero{};
  bool const plain = p.input_slope == 1.f;
  for (; column + kLanes <= last; column += kLanes, to += kLanes) {
    Vec sum = load<Vec>(from + column);
    if (addend != nullptr) sum += load<Vec>(addend + column);
    store(to, plain ? sum : select(sum < zero, sum * slope, sum));
  }
  for (; column < first + count; ++column) *to++ = value(column);
  for (column -= first; column < filled; ++column) *to++ = 0.f;
}

inline Vec activated(ConvParams const& p, Vec x) {
  switch (p.activation) {
    case Activation::kRelu:
      return larger(x, broadcast(0.f));
    case Activation::kLeakyRelu:
      return select(x < 0.f, x * p.slope, x);
    case Activation::kClip:
      return -larger(-larger(x, broadcast(-p.limit)), broadcast(-p.limit));
    case Activation::kGelu:
      return gelu(x);
    default:
      return x;
  }
}

inline Vec coupled(ConvParams const& p, Vec a, Vec b, Vec h) {
  if (p.coupling == Coupling::kProjectionInverse) return h * exponential(arctangent(b * 2.f) * -p.bound) - a;
  Vec const s = (sigmoid(a) * 2.f - 1.f) * p.bound;
  return p.coupling == Coupling::kAffine ? fma(h, exponential(s), b) : (h - b) * exponential(-s);
}

inline bool past_caches(ConvParams const& p) {
  int64_t const channels = p.coupling == Coupling::kNone ? p.out_channels : p.out_channels / 2;
  return no_cache_holds(p.y, p.output_count, p.width, p.batch * channels * p.height * p.width);
}

inline int64_t results(ConvParams const& p) {
  return p.coupling == Coupling::kNone ? p.out_channels : p.out_channels / 2;
}

// The sums of channel o of `results` become `count` columns of y at (row, column). others: with a coupling, the sums of
// channel `results` + o. Both can be read in whole vectors. streams: `past_caches`.
inline void finish(ConvParams const& p, float const* sums, float const* others, int64_t image, int64_t o, int64_t row,
                   int64_t column, int64_t count, bool streams) {
  int64_t const size = int64_t{p.height} * p.width, place = row * p.width + column;
  int64_t const part = results(p) / p.output_count;
  float const* const residual =
      p.residual.data == nullptr
          ? nullptr
          : p.residual.data + (image * p.residual.channels + p.residual.first + o) * size + place;
  float* const y = p.y[o / part] + (image * part + o % part) * size + place;
  for (int64_t i = 0; i < count; i += kLanes) {
    int64_t const here = count - i;
    Vec value = load<Vec>(sums + i);
    if (p.coupling != Coupling::kNone) {
      value = coupled(p, value, load<Vec>(others + i), load_first<Vec>(residual + i, here));
    } else {
      value = activated(p, value);
      if (residual != nullptr) value += load_first<Vec>(residual + i, here);
      if (p.activation == Activation::kLeakyReluOfSum) value = select(value < 0.f, value * p.slope, value);
    }
    if (streams) {
      stream(y + i, value);
    } else {
      store_first(y + i, value, here);
    }
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused
