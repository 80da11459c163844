// What a deformable convolution prepares: a channels-last copy of an image, and the weights in the order of their use.
//
// The copy has a rim of zeros as wide as a sample can reach past the image (with wrap: a column that repeats the
// first), so that every sample is four plain loads with no case to tell apart.
#pragma once

#include "../simd.h"
#include "kernels.h"

namespace dinn360::cpu::DINN360_CPU_SET::deform {

constexpr int32_t kRim = 2;                // rows and columns beyond the image: a sample outside takes two of them
constexpr int64_t kCachedBytes = 2 << 20;  // what a core's own cache holds; more than that is written past it

struct Plan {
  explicit Plan(DeformConvParams const& p);

  int64_t taps, pixels;   // of the kernel; of an output plane
  int64_t line_start;     // pixels that y's first cache line could hold before y
  int64_t slice, slices;  // channels that share group and offset group; how many such slices
  int64_t slice_vectors;
  int64_t group_inputs, group_outputs, group_vectors;
  int64_t pixel, row, rows;  // the copy: floats of a pixel, floats of a row, rows
  int32_t left;              // rim columns on the left
  bool copy_streams;         // past the caches: its pixels are whole cache lines, and no cache holds it
  int64_t packed, bias;      // floats of the packed weights, behind the copy; then those of the packed bias

  int64_t copy_floats() const { return round_up(rows * row + kLanes, 16); }
  int64_t tile_floats() const { return slices * taps * slice_vectors * kTilePixels * kLanes; }
};

inline int64_t common_divisor(int64_t a, int64_t b) { return b == 0 ? a : common_divisor(b, a % b); }

inline Plan::Plan(DeformConvParams const& p) {
  taps = int64_t{p.kernel_rows} * p.kernel_columns;
  pixels = int64_t{p.out_height} * p.out_width;
  line_start = line_offset(p.y) / (p.type == DataType::kHalf ? int64_t{sizeof(Half)} : int64_t{sizeof(float)});
  group_inputs = p.channels / p.groups;
  group_outputs = p.out_channels / p.groups;
  group_vectors = ceil_div(group_outputs, kLanes);
  slice = common_divisor(group_inputs, p.channels / p.offset_groups);
  slices = p.channels / slice;
  slice_vectors = ceil_div(slice, kLanes);
  pixel = round_up(p.channels, 8);
  left = p.wrap ? 0 : kRim;
  row = (int64_t{p.width} + (p.wrap ? 1 : 2 * kRim)) * pixel;
  rows = int64_t{p.height} + 2 * kRim;
  copy_streams = pixel % kLineFloats == 0 && copy_floats() * int64_t{sizeof(float)} > kCachedBytes;
  packed = p.groups * group_vectors * kLanes * group_inputs * taps;
  bias = p.groups * group_vectors * kLanes;
}

// Up to kStrip pixels of a row of planes into the copy, channels last; zeros in the channels that fill a pixel up.
// A cache line of each plane is read at once: planes often share their cache sets.
constexpr int64_t kStrip = 16;

template <class T>
inline void copy_strip(T const* from, int64_t plane, int64_t channels, int64_t pixel, int64_t count, float* to) {
  for (int64_t channel = 0; channel < pixel; channel += 4, from += 4 * plane) {
    int64_t const planes = channels - channel;
    for (int64_t at = 0; at < count; at += 4) {
      Vec4 block[4] = {};
      if (planes >= 4 && count == kStrip) {
        for (int i = 0; i < 4; ++i) block[i] = load<Vec4>(from + i * plane + at);
      } else {
        for (int i = 0; i < 4 && i < planes; ++i) block[i] = load_first<Vec4>(from + i * plane + at, count - at);
      }
      transpose(block);
      for (int i = 0; i < 4 && i < count - at; ++i) store(to + (at + i) * pixel + channel, block[i]);
    }
  }
}

// A whole strip past the caches: put together in the first-level cache, then written in whole lines.
constexpr int64_t kStripChannels = 64;

template <class T>
inline void stream_strip(T const* from, int64_t plane, int64_t channels, int64_t pixel, float* to) {
  alignas(64) float strip[kStrip * kStripChannels];
  for (int64_t channel = 0; channel < pixel; channel += kStripChannels) {
    int64_t const some = smaller(pixel - channel, kStripChannels);
    copy_strip(from + channel * plane, plane, channels - channel, some, kStrip, strip);
    for (int64_t i = 0; i < kStrip; ++i) {
      for (int64_t at = 0; at < some; at += kLanes) {
        stream(to + i * pixel + channel + at, load<Vec>(strip + i * some + at));
      }
    }
  }
}

// One row of the copy, with its rim.
template <class T>
void copy_row(DeformConvParams const& p, Plan const& plan, float* copy, int64_t batch, int64_t row) {
  float* const to = copy + row * plan.row;
  int64_t const source = row - kRim;
  if (source < 0 || source >= p.height) {
    __builtin_memset(to, 0, plan.row * sizeof(float));
    return;
  }
  int64_t const plane = int64_t{p.height} * p.width;
  T const* const from = static_cast<T const*>(p.x) + batch * p.channels * plane + source * p.width;
  float* const first = to + plan.left * plan.pixel;
  for (int64_t column = 0; column < p.width; column += kStrip) {
    int64_t const left = p.width - column;
    if (plan.copy_streams && left >= kStrip) {
      stream_strip(from + column, plane, p.channels, plan.pixel, first + column * plan.pixel);
    } else {
      copy_strip(from + column, plane, p.channels, plan.pixel, smaller(left, kStrip), first + column * plan.pixel);
    }
  }
  if (p.wrap) {
    __builtin_memcpy(first + p.width * plan.pixel, first, plan.pixel * sizeof(float));
  } else {
    __builtin_memset(to, 0, kRim * plan.pixel * sizeof(float));
    __builtin_memset(first + p.width * plan.pixel, 0, kRim * plan.pixel * sizeof(float));
  }
  finish_streams();
}

// Weights in the order of their use: [group][register tile of outputs][slice][tap][channel][output], zeros beyond O.
template <class T>
void pack_weights(DeformConvParams const& p, Plan const& plan, float* packed, float* bias) {
  T const* const weight = static_cast<T const*>(p.weight);
  for (int64_t group = 0; group < p.groups; ++group) {
    for (int64_t vector = 0; vector < plan.group_vectors; vector += kTileVectors) {
      int64_t const left = plan.group_vectors - vector, vectors = left < kTileVectors ? left : kTileVectors;
      for (int64_t slice = 0; slice < plan.group_inputs / plan.slice; ++slice) {
        for (int64_t tap = 0; tap < plan.taps; ++tap) {
          for (int64_t channel = slice * plan.slice; channel < (slice + 1) * plan.slice; ++channel) {
            for (int64_t i = vector * kLanes; i < (vector + vectors) * kLanes; ++i) {
              int64_t const output = group * plan.group_outputs + i;
              bool const real = i < plan.group_outputs;
              *packed++ = real ? to_float(weight[(output * plan.group_inputs + channel) * plan.taps + tap]) : 0.f;
            }
          }
        }
      }
    }
    for (int64_t i = 0; i < plan.group_vectors * kLanes; ++i) {
      bool const real = i < plan.group_outputs;
      *bias++ = real ? to_float(static_cast<T const*>(p.bias)[group * plan.group_outputs + i]) : 0.f;
    }
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::deform
