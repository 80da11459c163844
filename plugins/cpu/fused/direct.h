// Convolution on the sphere tap by tap, channel-major as the tensors are: no change of layout, and no channel is filled
// up to a vector.
//
// A unit is a band of rows and columns. Its input, with what the kernel sees beyond it, is staged in the second-level
// cache: there the columns wrap, sources lie side by side, and a leaky_relu costs nothing. Then each tile of columns is
// multiplied with up to kBlock output channels at once, all sums in registers, and finished (activation, residual,
// coupling) while it is in the first-level cache.
#pragma once

#include "products.h"
#include "rows.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused::direct {

constexpr int64_t kBandColumns = 512;
constexpr int64_t kBandFloats = 160 * 1024;  // staged, at most: it leaves room in a second-level cache of 1 MiB
constexpr int64_t kMaxRows = 16;

struct Plan {
  explicit Plan(ConvParams const& p) : radius(p.kernel / 2) {
    columns = smaller(p.width, kBandColumns);
    across = ceil_div(p.width, columns);
    // Whole tiles and the kernel's reach; not a multiple of a page, or all rows would meet in a few cache sets.
    row = ceil_div(columns, kTile) * kTile + 2 * radius + kLanes;
    row += row % 1024 < 64 ? 64 : 0;
    rows = kBandFloats / (p.channels * row) - 2 * radius;
    rows = rows < 1 ? 1 : smaller(smaller(rows, kMaxRows), p.height);
    down = ceil_div(p.height, rows);
    plane = row * (rows + 2 * radius) + 16;
  }

  int64_t units(ConvParams const& p) const { return p.batch * down * across; }
  int64_t own_floats(ConvParams const& p) const { return p.channels * plane + p.out_channels * kTile + kLanes; }

  int64_t radius;
  int64_t columns, across;  // of a band; bands side by side
  int64_t rows, down;
  int64_t row, plane;  // floats staged
};

inline int64_t packed_floats(ConvParams const& p) { return int64_t{p.out_channels} * p.channels * p.kernel * p.kernel; }

inline void pack(ConvParams const& p, float* to) {
  pack_blocks(p.weight, p.out_channels, int64_t{p.channels} * p.kernel * p.kernel, to);
}

inline int64_t own_floats(ConvParams const& p) { return Plan(p).own_floats(p); }
inline int64_t units(ConvParams const& p) { return Plan(p).units(p); }

inline void stage(ConvParams const& p, Plan const& plan, int64_t image, int64_t top, int64_t left, float* to) {
  int64_t const size = int64_t{p.height} * p.width, count = smaller(plan.columns, p.width - left) + 2 * plan.radius;
  int64_t const staged_rows = smaller(plan.rows, p.height - top) + 2 * plan.radius;
  for (int32_t i = 0; i < p.source_count; ++i) {
    Channels const& source = p.sources[i];
    for (int64_t c = 0; c < source.count; ++c, to += plan.plane) {
      int64_t const place = (image * source.channels + source.first + c) * size;
      for (int64_t r = 0; r < staged_rows; ++r) {
        int64_t const row = top - plan.radius + r;
        float* const line = to + r * plan.row;
        if (row < 0 || row >= p.height) {
          __builtin_memset(line, 0, plan.row * sizeof(float));
          continue;
        }
        float const* const addend = p.addend == nullptr ? nullptr : p.addend + place + row * p.width;
        stage_row(p, source.data + place + row * p.width, addend, left - plan.radius, count, plan.row, line);
      }
    }
  }
}

// One band. own: own_floats of memory.
inline void convolve(ConvParams const& p, float const* packed, float* own, int64_t unit) {
  Plan const plan(p);
  int64_t const image = unit / (plan.down * plan.across), band = unit / plan.across % plan.down;
  int64_t const top = band * plan.rows, left = unit % plan.across * plan.columns;
  float* const sums = own + p.channels * plan.plane;
  stage(p, plan, image, top, left, own);
  Blocks const blocks(p.out_channels);
  int64_t const inputs = int64_t{p.channels} * p.kernel * p.kernel;
  int64_t const right = smaller(plan.columns, p.width - left);
  for (int64_t row = 0; row < smaller(plan.rows, p.height - top); ++row) {
    for (int64_t column = 0; column < right; column += kTile) {
      int64_t const vectors = smaller(kColumns, ceil_div(right - column, kLanes));
      for (int64_t block = 0; block < blocks.count; ++block) {
        int64_t const first = blocks.first(block), outputs = blocks.size(block);
        Multiply const run = p.kernel == 1 ? multiply_block<1>(outputs, vectors) : multiply_block<3>(outputs, vectors);
        run(own + row * plan.row + column, plan.plane, plan.row, p.channels, packed + first * inputs, p.bias + first,
            sums + first * kTile, kTile);
      }
      float const* const others = sums + results(p) * kTile;
      for (int64_t o = 0; o < results(p); ++o) {
        finish(p, sums + o * kTile, others + o * kTile, image, o, top + row, left + column,
               smaller(kTile, right - column), false);
      }
    }
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused::direct
