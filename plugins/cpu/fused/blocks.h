// The image in blocks of f x f pixels by their Walsh functions, and back: one pass over it each way, where an extension
// around the circle and a strided convolution, or a transposed one with crop and clip, take several.
//
// A transform of f values is log2(f) rounds of sums and differences. A unit is a row of blocks: its f rows of pixels
// are transformed down the columns into lines that the caches hold, which are then transformed along.
#pragma once

#include "math.h"
#include "params.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused {

using namespace dinn360::fused;

// In place. Of function u, the sign at place i is that of (-1)^(number of bits that u and i share).
template <int kFactor>
inline void walsh(Vec (&value)[kFactor]) {
  DINN360_UNROLL for (int half = 1; half < kFactor; half *= 2) {
    DINN360_UNROLL for (int i = 0; i < kFactor; ++i) {
      if ((i & half) != 0) continue;
      Vec const sum = value[i] + value[i + half];
      value[i + half] = value[i] - value[i + half];
      value[i] = sum;
    }
  }
}

// Vector i takes every kFactor-th of kFactor * kLanes floats from the i-th on; and the way back.
template <int kFactor>
inline void load_every(float const* from, Vec (&value)[kFactor]) {
  if constexpr (kFactor == 4) {
    DINN360_UNROLL for (int i = 0; i < 4; ++i) value[i] = load<Vec>(from + i * kLanes);
    deinterleave(value);
  } else {
    float apart[kFactor][kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      DINN360_UNROLL for (int i = 0; i < kFactor; ++i) apart[i][lane] = from[lane * kFactor + i];
    }
    DINN360_UNROLL for (int i = 0; i < kFactor; ++i) value[i] = load<Vec>(apart[i]);
  }
}

template <int kFactor>
inline void store_every(float* to, Vec (&value)[kFactor]) {
  if constexpr (kFactor == 4) {
    interleave(value);
    DINN360_UNROLL for (int i = 0; i < 4; ++i) store(to + i * kLanes, value[i]);
  } else {
    float apart[kFactor][kLanes];
    DINN360_UNROLL for (int i = 0; i < kFactor; ++i) store(apart[i], value[i]);
    for (int lane = 0; lane < kLanes; ++lane) {
      DINN360_UNROLL for (int i = 0; i < kFactor; ++i) to[lane * kFactor + i] = apart[i][lane];
    }
  }
}

// Floats from one line to the next: whole vectors of blocks may be read and written beyond its end; and not a multiple
// of a page, or all lines would meet in a few cache sets.
inline int64_t line_floats(int64_t columns) {
  int64_t const floats = round_up(columns, kLineFloats) + kLargestFactor * kLanes;
  return floats + (floats % 1024 < 64 ? 64 : 0);
}

inline int64_t squeeze_units(SqueezeParams const& p) { return int64_t{p.batch} * p.rows; }
inline int64_t squeeze_floats(SqueezeParams const& p) { return p.factor * line_floats(int64_t{p.columns} * p.factor); }

// The `index`-th of the channels that stand side by side in the outputs, of an image: its plane of `size` floats.
inline float* plane_of(SqueezeParams const& p, int64_t image, int64_t index, int64_t size) {
  int32_t part = 0;
  for (; index >= p.counts[part]; ++part) index -= p.counts[part];
  return p.y[part] + (image * p.counts[part] + index) * size;
}

inline float const* plane_of(UnsqueezeParams const& p, int64_t image, int64_t index, int64_t size) {
  int32_t part = 0;
  for (; index >= p.sources[part].count; ++part) index -= p.sources[part].count;
  Channels const& source = p.sources[part];
  return source.data + (image * source.channels + source.first + index) * size;
}

template <int kFactor>
inline void squeeze_row(SqueezeParams const& p, float* own, int64_t unit) {
  int64_t const image = unit / p.rows, row = unit % p.rows, width = p.width;
  int64_t const columns = p.columns, all = columns * kFactor, line = line_floats(all);
  Vec const share = broadcast(1.f / (kFactor * kFactor));
  for (int64_t channel = 0; channel < p.channels; ++channel) {
    float const* from[kFactor];
    for (int i = 0; i < kFactor; ++i) {
      int64_t const at = smaller(row * kFactor + i, p.height - 1);
      from[i] = p.x + ((image * p.channels + channel) * p.height + at) * width;
    }
    for (int64_t column = 0; column < width; column += kLanes) {
      Vec value[kFactor];
      DINN360_UNROLL for (int i = 0; i < kFactor; ++i) value[i] = load_first<Vec>(from[i] + column, width - column);
      walsh(value);
      DINN360_UNROLL for (int i = 0; i < kFactor; ++i) store(own + i * line + p.margin + column, value[i] * share);
    }
    for (int64_t u = 0; u < kFactor; ++u) {
      float* const middle = own + u * line + p.margin;  // around the circle, as often as it takes
      for (int64_t column = -1; column >= -p.margin; --column) middle[column] = middle[column + width];
      for (int64_t column = width; column < all - p.margin; ++column) middle[column] = middle[column - width];
      float* to[kFactor];
      for (int v = 0; v < kFactor; ++v) {
        int64_t const place = p.places[(channel * kFactor + u) * kFactor + v];
        to[v] = plane_of(p, image, place, p.rows * columns) + row * columns;
      }
      for (int64_t column = 0; column < columns; column += kLanes) {
        Vec value[kFactor];
        load_every(own + u * line + column * kFactor, value);
        walsh(value);
        DINN360_UNROLL for (int v = 0; v < kFactor; ++v) store_first(to[v] + column, value[v], columns - column);
      }
    }
  }
}

inline int64_t unsqueeze_units(UnsqueezeParams const& p) { return p.batch * ceil_div(p.height, p.factor); }
inline int64_t unsqueeze_floats(UnsqueezeParams const& p) { return p.factor * line_floats(p.width + p.factor); }

template <int kFactor>
inline void unsqueeze_row(UnsqueezeParams const& p, float* own, int64_t unit) {
  int64_t const down = ceil_div(p.height, kFactor), image = unit / down, row = unit % down, width = p.width;
  int64_t const columns = ceil_div(width, kFactor), line = line_floats(p.width + kFactor);
  int64_t const rows = smaller(kFactor, p.height - row * kFactor);
  Vec const one = broadcast(1.f), zero{};
  bool const streams = no_cache_holds(&p.y, 1, width, int64_t{p.batch} * p.channels * p.height * width);
  for (int64_t channel = 0; channel < p.channels; ++channel) {
    for (int64_t u = 0; u < kFactor; ++u) {
      float const* from[kFactor];
      for (int v = 0; v < kFactor; ++v) {
        int64_t const place = p.places[(channel * kFactor + u) * kFactor + v];
        from[v] = plane_of(p, image, place, int64_t{p.rows} * p.columns) + row * p.columns + p.margin;
      }
      for (int64_t column = 0; column < columns; column += kLanes) {
        Vec value[kFactor];
        DINN360_UNROLL for (int v = 0; v < kFactor; ++v) {
          value[v] = load_first<Vec>(from[v] + column, columns - column);
        }
        walsh(value);
        store_every(own + u * line + column * kFactor, value);
      }
    }
    float* const to = p.y + ((image * p.channels + channel) * p.height + row * kFactor) * width;
    for (int64_t column = 0; column < width; column += kLanes) {
      Vec value[kFactor];
      DINN360_UNROLL for (int u = 0; u < kFactor; ++u) value[u] = load<Vec>(own + u * line + column);
      walsh(value);
      for (int64_t i = 0; i < rows; ++i) {
        Vec const y = p.clamp ? -larger(-one, -larger(zero, value[i])) : value[i];  // what is no number stays so
        if (streams) {
          stream(to + i * width + column, y);
        } else {
          store_first(to + i * width + column, y, width - column);
        }
      }
    }
  }
  finish_streams();
}

inline void squeeze(SqueezeParams const& p, float* own, int64_t unit) {
  switch (p.factor) {
    case 1:
      return squeeze_row<1>(p, own, unit);
    case 2:
      return squeeze_row<2>(p, own, unit);
    case 4:
      return squeeze_row<4>(p, own, unit);
    default:
      return squeeze_row<kLargestFactor>(p, own, unit);
  }
}

inline void unsqueeze(UnsqueezeParams const& p, float* own, int64_t unit) {
  switch (p.factor) {
    case 1:
      return unsqueeze_row<1>(p, own, unit);
    case 2:
      return unsqueeze_row<2>(p, own, unit);
    case 4:
      return unsqueeze_row<4>(p, own, unit);
    default:
      return unsqueeze_row<kLargestFactor>(p, own, unit);
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused
