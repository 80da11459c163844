// Where a deformable convolution reads: the table of positions that a warp shares, and the bilinear sample of an octet.
#pragma once

#include <type_traits>

#include "deform_conv_task.cuh"

namespace dinn360::deform {

using simt::Shared;

// The table: kSpots rows of 32 pixels and a shift of the banks, for lanes that read neighbouring pixels of all rows.
inline constexpr int kTableRow = kWarp + 2, kTable = kSpots * kTableRow;

// A position in 16 bytes, {pixel, right, upper, lower}: the index of the upper left corner (possibly of row -1), the
// right column's share, and the shares of the two rows, which carry the mask. The right neighbour is the next pixel, or
// with the sign bit of `right` the first one of the row. A corner that is outside or has no share is not read, so
// that NaN and infinity never meet a share of zero. All zero: nothing is read, the sample is zero.
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

// The spots of a group in order: which offset channels a spot has, and its tap.
struct Spot {
  int row = 0, column = 0;  // of the kernel
  int channel, segment;     // field * taps + tap; segment of the field

  __device__ __forceinline__ Spot(Plan const& plan, int group)
      : channel(group * plan.segments / plan.segments_per_field * plan.taps),
        segment(group * plan.segments % plan.segments_per_field) {}

  template <class T>
  __device__ __forceinline__ void advance(Task<T> const& task) {
    ++channel;
    if (++column < task.kernel_columns) return;
    column = 0;
    if (++row < task.kernel_rows) return;
    row = 0;
    if (++segment == task.plan.segments_per_field)
      segment = 0;
    else
      channel -= task.plan.taps;  // the same field once more
  }
};

// Four values of a tensor whose index lies on a boundary of four.
struct Four {
  float value[4];
};
__device__ __forceinline__ Four four_floats(uint4 bits) {
  return {{__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w)}};
}
__device__ __forceinline__ Four load_four(Global<__half const> from, int64_t index) {
  uint2 const bits = Global<uint2 const>{reinterpret_cast<uint2 const*>(from.pointer)}.load(index / 4);
  float2 const a = unpack(bits.x), b = unpack(bits.y);
  return {{a.x, a.y, b.x, b.y}};
}
__device__ __forceinline__ Four load_four(Global<float const> from, int64_t index) {
  return four_floats(from.load16(index));
}

// Positions of `kSpots` spots from the first-th on of the warp's 32 pixels, one pixel a lane, into table[spot][pixel].
// Coordinates are fp32, and whole pixels of tap and offset are added as integers: a large column costs no precision.
template <class T>
__device__ __forceinline__ void fill_table(Task<T> const& task, Tile const& tile, int first, Spot& spot,
                                           Shared<uint4> table) {
  int const column = tile.column + tile.lane;
  int64_t const pixel = int64_t{tile.row} * task.out_width + column;
  Global<T const> const offset = task.offset + task.offset_at.at(tile.image, pixel, 0);
  Global<T const> const mask = task.mask + (task.masked ? task.mask_at.at(tile.image, pixel, 0) : 0);
  bool const inside = column < task.out_width, in_order = task.plan.offsets_in_order;
  Eight moves = {};
  Four factors = {{1.0f, 1.0f, 1.0f, 1.0f}};
  if (inside && in_order) moves = load_eight(offset, 2 * spot.channel);
  if (inside && in_order && task.masked) factors = load_four(mask, spot.channel);
#pragma unroll
  for (int i = 0; i < kSpots; ++i) {
    uint4 entry = make_uint4(0, 0, 0, 0);
    if (inside && first + i < task.plan.spots) {
      float down = moves.value[2 * i], across = moves.value[2 * i + 1], factor = factors.value[i];
      if (!in_order) {
        down = to_float(offset.load(int64_t{2 * spot.channel} * task.offset_at.channel));
        across = to_float(offset.load(int64_t{2 * spot.channel + 1} * task.offset_at.channel));
        if (task.masked) factor = to_float(mask.load(int64_t{spot.channel} * task.mask_at.channel));
      }
      Place top = place(down), left = place(across);
      top.whole += tile.row * task.stride_row - task.pad_row + spot.row * task.dilation_row;
      left.whole += column * task.stride_column - task.pad_column + spot.column * task.dilation_column;
      entry = position(top, left, factor, task.height, task.width, task.wrap);
    }
    table.store(i * kTableRow + tile.lane, entry);
    spot.advance(task);
  }
}

// Which octet of the four spots in the table: the part-th of the slot-th.
struct Octet {
  int slot, part;

  // The number-th, number < 4, without a division.
  __device__ __forceinline__ Octet(int number, int parts)
      : slot((number >= parts) + (number >= 2 * parts) + (number >= 3 * parts)), part(number - slot * parts) {}

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

// The image that a warp samples, from the first channel of its group on. kVector: in units of 16 bytes, several channels
// of a pixel at once; else in elements, one channel at a time.
template <class T, bool kVector>
struct Source {
  static constexpr int kChannels = kVector ? 16 / static_cast<int>(sizeof(T)) : 8;  // of a sample
  using Unit = std::conditional_t<kVector, uint4, T>;
  using Index = std::conditional_t<kVector, int32_t, int64_t>;  // check() sees to 16 * 2^31 bytes
  static constexpr int kPerUnit = static_cast<int>(sizeof(Unit) / sizeof(T)), kUnits = kChannels / kPerUnit;

  Global<Unit const> x;
  Index pixel, channel, below,
      around;  // steps: to the next pixel, channel and row; from a row's last pixel to its first

  __device__ __forceinline__ Source(Task<T> const& task, Tile const& tile)
      : pixel(static_cast<Index>(task.x_at.pixel / kPerUnit)),
        channel(static_cast<Index>(task.x_at.channel)),
        below(task.width * pixel),
        around((1 - task.width) * pixel) {
    int64_t const start = task.x_at.at(tile.image, 0, tile.group * task.plan.group_channels);
    x = {reinterpret_cast<Unit const*>(task.x.pointer + start)};
  }

  // The bilinear sample at a position of the table, of the channels from `first` on. Where fewer than kChannels follow,
  // only `count`, the last is repeated: weights are zero there.
  __device__ __forceinline__ void sample(uint4 position, int first, int count, float (&sums)[kChannels]) const {
    float const right = fabsf(__uint_as_float(position.y)), left = 1.0f - right;
    float const upper = __uint_as_float(position.z), lower = __uint_as_float(position.w);
    Index const here = static_cast<int32_t>(position.x) * pixel + static_cast<Index>(first / kPerUnit) * channel;
    Index const beside = here + (static_cast<int32_t>(position.y) < 0 ? around : pixel);
    bool const read[4] = {upper != 0.0f && left != 0.0f, upper != 0.0f && right != 0.0f, lower != 0.0f && left != 0.0f,
                          lower != 0.0f && right != 0.0f};
    float const shares[4] = {upper * left, upper * right, lower * left, lower * right};
    Unit units[4][kUnits];  // all on their way before the first is needed
    Global<Unit const> from[4] = {x + here, x + beside, x + (here + below), x + (beside + below)};
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      Index const next = i + 1 < count ? channel : 0;
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        units[corner][i] = Unit{};
        if (read[corner]) units[corner][i] = from[corner].load(0);
        if (!kVector) from[corner] = from[corner] + next;
      }
    }
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      float values[kChannels];
      unpack_units(units[corner], values);
#pragma unroll
      for (int i = 0; i < kChannels; ++i) {
        sums[i] = corner == 0 ? shares[0] * values[i] : fmaf(shares[corner], values[i], sums[i]);
      }
    }
  }

 private:
  static __device__ __forceinline__ void unpack_units(Unit const (&units)[kUnits], float (&values)[kChannels]) {
    if constexpr (!kVector) {
#pragma unroll
      for (int i = 0; i < kChannels; ++i) values[i] = to_float(units[i]);
    } else if constexpr (kChannels == 8) {
      Eight const eight = unpack(units[0]);
#pragma unroll
      for (int i = 0; i < 8; ++i) values[i] = eight.value[i];
    } else {
      Four const four = four_floats(units[0]);
#pragma unroll
      for (int i = 0; i < 4; ++i) values[i] = four.value[i];
    }
  }
};

// First channel of an octet, counted from the group's first.
__device__ __forceinline__ int first_channel(Plan const& plan, int first_spot, Octet octet) {
  int const segment = plan.segments == 1 ? 0 : min((first_spot + octet.slot) / plan.taps, plan.segments - 1);
  return segment * plan.segment_channels + 8 * octet.part;
}

}  // namespace dinn360::deform
