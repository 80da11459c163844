// The fused operators that look at one pixel or one 2x2 block: bound by memory, so they pass over it once.
#pragma once

#include "math.h"
#include "params.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused {

constexpr int64_t kNormPixels = 1024;  // a unit: its channels stay in the second-level cache between the two passes

inline int64_t norm_units(ChannelNormParams const& p) {
  return p.batch * ((int64_t{p.height} * p.width + kNormPixels - 1) / kNormPixels);
}

inline void normalise(ChannelNormParams const& p, int64_t unit) {
  int64_t const size = int64_t{p.height} * p.width, per_image = (size + kNormPixels - 1) / kNormPixels;
  int64_t const image = unit / per_image, start = unit % per_image * kNormPixels;
  int64_t const end = start + kNormPixels < size ? start + kNormPixels : size;
  float const* const x = p.x + image * p.channels * size;
  float* const y = p.y + image * p.channels * size;
  float const share = 1.f / static_cast<float>(p.channels);
  for (int64_t i = start; i < end; i += kLanes) {
    int64_t const here = end - i;
    Vec sum{}, squares{};
    for (int64_t c = 0; c < p.channels; ++c) sum += load_first<Vec>(x + c * size + i, here);
    Vec const mean = sum * share;
    for (int64_t c = 0; c < p.channels; ++c) {
      Vec const apart = load_first<Vec>(x + c * size + i, here) - mean;
      squares = fma(apart, apart, squares);
    }
    Vec factor = squares * share + p.epsilon;
    for (int lane = 0; lane < kLanes; ++lane) factor[lane] = 1.f / __builtin_sqrtf(factor[lane]);
    for (int64_t c = 0; c < p.channels; ++c) {
      Vec const value = (load_first<Vec>(x + c * size + i, here) - mean) * factor;
      store_first(y + c * size + i, fma(value, broadcast(p.weight[c]), broadcast(p.bias[c])), here);
    }
  }
}

// A unit is a row of blocks of one channel.
inline int64_t haar_units(HaarParams const& p) { return int64_t{p.batch} * p.channels * (p.height / 2); }

// The plane of band channel `index` of an image.
inline float const* haar_source(HaarParams const& p, int64_t image, int64_t index, int64_t size) {
  for (int32_t i = 0; i < p.source_count; ++i) {
    Channels const& source = p.sources[i];
    if (index < source.count) return source.data + (image * source.channels + source.first + index) * size;
    index -= source.count;
  }
  return nullptr;
}

inline void haar(HaarParams const& p, int64_t unit) {
  int64_t const rows = p.height / 2, columns = p.width / 2, band = rows * columns;
  int64_t const image = unit / (p.channels * rows), channel = unit / rows % p.channels, row = unit % rows;
  if (p.inverse) {
    float const* bands[4];
    for (int64_t i = 0; i < 4; ++i) {
      bands[i] = haar_source(p, image, i * p.channels + channel, band) + row * columns;
    }
    float* const upper = p.y + ((image * p.channels + channel) * p.height + 2 * row) * p.width;
    float* const lower = upper + p.width;
    for (int64_t j = 0; j < columns; ++j) {
      float const ll = bands[0][j], lh = bands[1][j], hl = bands[2][j], hh = bands[3][j];
      upper[2 * j] = ll + lh + hl + hh;
      upper[2 * j + 1] = ll - lh + hl - hh;
      lower[2 * j] = ll + lh - hl - hh;
      lower[2 * j + 1] = ll - lh - hl + hh;
    }
    return;
  }
  float const* const upper = haar_source(p, image, channel, 4 * band) + 2 * row * p.width;
  float const* const lower = upper + p.width;
  float* const y = p.y + (image * 4 * p.channels + channel) * band + row * columns;
  int64_t const apart = p.channels * band;
  for (int64_t j = 0; j < columns; ++j) {
    float const a = upper[2 * j], b = upper[2 * j + 1], c = lower[2 * j], d = lower[2 * j + 1];
    y[j] = (a + b + c + d) * 0.25f;
    y[apart + j] = (a - b + c - d) * 0.25f;
    y[2 * apart + j] = (a + b - c - d) * 0.25f;
    y[3 * apart + j] = (a - b - c + d) * 0.25f;
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused
