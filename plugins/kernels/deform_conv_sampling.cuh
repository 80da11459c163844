// Where a deformable convolution reads: the table of positions that a warp shares, and the bilinear sample of an octet.
#pragma once

#include "deform_conv_task.cuh"

namespace dinn360::deform {

using simt::Shared;

// A position in 16 bytes, {pixel, right, upper, lower}: the index of the upper left corner (possibly of row -1), the
// right column's share, and the shares of the two rows, which carry the mask. The right neighbour is the next pixel, or
// with the sign bit of `right` the first one of the row. A corner that is outside or has no share is not read: all that
// is there is never infinity times zero. All zero: nothing is read, the sample is zero.
__device__ __forceinline__ uint4 position(Place row, Place column, float factor, int height, int width, bool wrap) {
  if (!row.finite || !column.finite || row.whole < -1 || row.whole >= height) return make_uint4(0, 0, 0, 0);
  float upper = row.whole >= 0 ? (1.0f - row.part) * factor : 0.0f;
  float lower = row.whole + 1 < height ? row.part * factor : 0.0f;
  float right = column.part;
  int left = column.whole;
  if (wrap) {
    left = wrapped(left, width);
    if (left == width - 1) right = -right;
  } else if (left < -1 || left >= width) {
    return make_uint4(0, 0, 0, 0);
  } else if (left == -1 || left == width - 1) {  // one column is left: its share moves to the rows
    float const share = left < 0 ? right : 1.0f - right;
    upper *= share;
    lower *= share;
    right = 0.0f;
    left = max(left, 0);
  }
  return make_uint4(static_cast<uint32_t>(row.whole * width + left), __float_as_uint(right), __float_as_uint(upper),
                    __float_as_uint(lower));
}

// The spot that is next in order, without divisions.
struct Spot {
  int segment = 0, row = 0, column = 0;

  __device__ __forceinline__ void advance(int rows, int columns) {
    if (++column < columns) return;
    column = 0;
    if (++row < rows) return;
    row = 0;
    ++segment;
  }
};

// Positions of `kSpots` spots from `first` on of the warp's 32 pixels, one pixel a lane, into table[spot][pixel]. fp32:
// whole pixels of the tap and of the offset are added as integers, so a column's size costs no precision.
template <class T>
__device__ __forceinline__ void fill_table(Task<T> const& task, Tile const& tile, int first, Spot& spot,
                                           Shared<uint4> table) {
  Plan const& plan = task.plan;
  int const column = tile.column + tile.lane;
  int64_t const pixel = int64_t{tile.row} * task.out_width + column;
  bool const inside = column < task.out_width;
  int const field = tile.group * plan.segments / plan.segments_per_field;
  float move[2 * kSpots] = {};
  if (inside && plan.offsets_in_order) {
    Eight const all = load_eight(task.offset, task.offset_at.at(tile.image, pixel, 2 * (field * plan.taps + first)));
#pragma unroll
    for (int i = 0; i < 2 * kSpots; ++i) move[i] = all.value[i];
  }
#pragma unroll
  for (int i = 0; i < kSpots; ++i) {
    uint4 entry = make_uint4(0, 0, 0, 0);
    if (inside && first + i < plan.spots) {
      int const here = plan.segments_per_field == 1
                           ? field + spot.segment
                           : (tile.group * plan.segments + spot.segment) / plan.segments_per_field;
      int const channel = here * plan.taps + spot.row * task.kernel_columns + spot.column;
      if (!plan.offsets_in_order) {
        int64_t const at = task.offset_at.at(tile.image, pixel, 2 * channel);
        move[2 * i] = to_float(task.offset.load(at));
        move[2 * i + 1] = to_float(task.offset.load(at + task.offset_at.channel));
      }
      float const factor =
          task.mask.is_null() ? 1.0f : to_float(task.mask.load(task.mask_at.at(tile.image, pixel, channel)));
      Place down = place(move[2 * i]), across = place(move[2 * i + 1]);
      down.whole += tile.row * task.stride_row - task.pad_row + spot.row * task.dilation_row;
      across.whole += column * task.stride_column - task.pad_column + spot.column * task.dilation_column;
      entry = position(down, across, factor, task.height, task.width, task.wrap);
    }
    table.store(i * kWarp + tile.lane, entry);
    spot.advance(task.kernel_rows, task.kernel_columns);
  }
}

// Which octet of the four spots in the table: the part-th of the slot-th.
struct Octet {
  int slot, part;

  __device__ __forceinline__ Octet(int number, int parts) : slot(number / parts), part(number % parts) {}
  // count = slots * parts + rest, with rest < parts.
  __device__ __forceinline__ void advance(int slots, int rest, int parts) {
    slot += slots;
    part += rest;
    if (part >= parts) {
      part -= parts;
      ++slot;
    }
  }
};

// First input channel of an octet.
template <class T>
__device__ __forceinline__ int first_channel(Task<T> const& task, Tile const& tile, int first, Octet octet) {
  Plan const& plan = task.plan;
  int const segment = plan.segments == 1 ? 0 : min((first + octet.slot) / plan.taps, plan.segments - 1);
  return tile.group * plan.group_channels + segment * plan.segment_channels + 8 * octet.part;
}

// Eight channels of one pixel as they come from memory, so that all four corners are on their way before the first is
// needed: kVector in 16-byte loads, else one by one, those from `count` on zero.
template <class T, bool kVector>
struct Corner;

template <class T>
struct Corner<T, true> {
  uint4 part[sizeof(T) / 2];
  __device__ __forceinline__ Corner(Global<T const> x, int64_t at, int64_t, int, bool read) {
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(T)) / 2; ++i) {
      part[i] = make_uint4(0, 0, 0, 0);
      if (read) part[i] = x.load16(at + i * (16 / static_cast<int>(sizeof(T))));
    }
  }
  __device__ __forceinline__ Eight values() const {
    if constexpr (sizeof(T) == 2) {
      return unpack(part[0]);
    } else {
      return as_floats(part[0], part[1]);
    }
  }
};

template <class T>
struct Corner<T, false> {
  T value[8];
  __device__ __forceinline__ Corner(Global<T const> x, int64_t at, int64_t step, int count, bool read) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      value[i] = from_float<T>(0.0f);
      if (read && i < count) value[i] = x.load(at + i * step);
    }
  }
  __device__ __forceinline__ Eight values() const {
    Eight eight;
#pragma unroll
    for (int i = 0; i < 8; ++i) eight.value[i] = to_float(value[i]);
    return eight;
  }
};

// The image that a warp samples.
template <class T>
struct Source {
  Global<T const> x;
  int64_t pixel, channel, below, around;  // steps: to the next pixel, channel and row; from a row's last pixel to its first

  __device__ __forceinline__ Source(Task<T> const& task, Tile const& tile)
      : x(task.x + tile.image * task.x_at.image), pixel(task.x_at.pixel), channel(task.x_at.channel),
        below(task.width * task.x_at.pixel), around((1 - task.width) * task.x_at.pixel) {}

  // The bilinear sample of the `count` channels from `first` on at a position of the table.
  template <bool kVector>
  __device__ __forceinline__ Eight sample(uint4 position, int first, int count) const {
    float const right = fabsf(__uint_as_float(position.y)), left = 1.0f - right;
    float const upper = __uint_as_float(position.z), lower = __uint_as_float(position.w);
    int64_t const a = static_cast<int32_t>(position.x) * pixel + first * channel;
    int64_t const b = a + (static_cast<int32_t>(position.y) < 0 ? around : pixel);
    using Pixel = Corner<T, kVector>;
    Pixel const corners[4] = {
        Pixel(x, a, channel, count, upper != 0.0f && left != 0.0f),
        Pixel(x, b, channel, count, upper != 0.0f && right != 0.0f),
        Pixel(x, a + below, channel, count, lower != 0.0f && left != 0.0f),
        Pixel(x, b + below, channel, count, lower != 0.0f && right != 0.0f),
    };
    float const shares[4] = {upper * left, upper * right, lower * left, lower * right};
    Eight sum = {};
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      Eight const value = corners[corner].values();
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.value[i] = fmaf(shares[corner], value.value[i], sum.value[i]);
    }
    return sum;
  }
};

}  // namespace dinn360::deform
