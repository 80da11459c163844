// How a deformable convolution is cut up for the kernels: blocks of pixels and output channels, and the order of the
// matrix product's inner dimension.
//
// A *segment* is a run of input channels that share a group and an offset group. A *spot* is one sampling position of an
// output pixel: spot = segment * taps + tap. An *octet* is up to eight channels of one spot: what a lane samples at once.
// Octets are numbered spot by spot; four of them (32 products of the inner dimension) make a *step*. Weights are packed
// into the workspace in that order, with zeros where an octet or the last step is not full.
#pragma once

#include "launch.h"
#include "pieces.cuh"

namespace dinn360::deform {

using namespace pieces;

inline constexpr int kSpots = 4;  // positions are computed four spots at a time: 8 offsets, one load of fp16 kHWC8

// Element (image, pixel, channel) of a tensor.
struct Strides {
  int64_t image;
  int32_t pixel, channel;
  __device__ __forceinline__ int64_t at(int i, int64_t p, int c) const {
    return i * image + p * pixel + int64_t{c} * channel;
  }
};

inline Strides strides(Layout layout, int64_t channels, int64_t pixels) {
  if (layout == Layout::kLinear) return {pixels * channels, 1, static_cast<int32_t>(pixels)};
  int64_t const stored = layout == Layout::kHWC8 ? ceil_div(channels, 8) * 8 : channels;
  return {pixels * stored, static_cast<int32_t>(stored), 1};
}

struct Plan {
  int taps, segments, segment_channels, segments_per_field;  // segments: of one group
  int spots, parts, steps;                                   // parts: octets of a spot
  int step_slots, step_rest;                                 // a step of four octets in whole spots and octets
  int group_channels, group_outputs;
  int out_blocks;  // blocks of `block_outputs` channels that cover a group's outputs
  int block_outputs;
  int column_tiles, row_tiles, tile_rows;  // a block's tile: 32 columns, one row for each warp
  bool vector;                             // channels last, and no octet straddles eight stored channels
  bool offsets_in_order;  // channels last, and spots follow each other as offsets do, four spots in 16 bytes

  int64_t weights(int groups) const { return int64_t{groups} * out_blocks * steps * 32 * block_outputs; }
  int64_t biases(int groups) const { return int64_t{groups} * out_blocks * block_outputs; }
};

Plan plan(DeformConvParams const& params);

// What the kernels get.
template <class T>
struct Task {
  Global<T const> x, offset, mask, weight;  // weight: packed
  Global<float const> bias;                 // packed
  Global<T> y;
  Strides x_at, offset_at, mask_at, y_at;
  Plan plan;
  int height, width, out_height, out_width, out_stored;  // out_stored: channels of y in memory
  int kernel_rows, kernel_columns, stride_row, stride_column, pad_row, pad_column, dilation_row, dilation_column;
  int groups;
  bool wrap, masked;
};

// A warp's part of the work: 32 columns of one output row, one for each lane, and one block of output channels.
struct Tile {
  int image, group, block;  // block: of the group's output channels
  int row, column;          // of lane 0
  int lane;

  // Where this block's packed weights begin, in blocks.
  template <class T>
  __device__ __forceinline__ int64_t packed(Task<T> const& task) const {
    return int64_t{group} * task.plan.out_blocks + block;
  }
  // Channels of y from this block's first on to the last that this group stores: the last group fills y up.
  template <class T>
  __device__ __forceinline__ int first_output(Task<T> const& task) const {
    return group * task.plan.group_outputs + block * task.plan.block_outputs;
  }
  template <class T>
  __device__ __forceinline__ int end_output(Task<T> const& task) const {
    return group + 1 == task.groups ? task.out_stored : (group + 1) * task.plan.group_outputs;
  }
};

template <class T>
__device__ __forceinline__ Tile tile(Task<T> const& task) {
  Plan const& plan = task.plan;
  Tile tile;
  tile.block = static_cast<int>(blockIdx.x) % plan.out_blocks;  // neighbours in time read the same image
  tile.column = static_cast<int>(blockIdx.x) / plan.out_blocks * kWarp;
  tile.row = static_cast<int>(blockIdx.y) * plan.tile_rows + static_cast<int>(threadIdx.x) / kWarp;
  tile.group = static_cast<int>(blockIdx.z) % task.groups;
  tile.image = static_cast<int>(blockIdx.z) / task.groups;
  tile.lane = static_cast<int>(threadIdx.x) % kWarp;
  return tile;
}

}  // namespace dinn360::deform
