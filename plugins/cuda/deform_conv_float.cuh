// The fp32 kernel, for CUDA cores: a warp multiplies its 32 pixels with 32 output channels; a lane keeps 4 pixels x 8
// channels in registers. Samples of a step (32 pixels x 32 inner elements) pass through shared memory, weights come in
// 16-byte loads that eight lanes share. Warps share nothing, so no barrier stops a block.
#pragma once

#include "deform_conv_sampling.cuh"

namespace dinn360::deform::float_kernel {

inline constexpr int kWarps = 6;
inline constexpr int kOutputs = 32;
inline constexpr int kStageRow = 36;  // floats: 32 inner elements and a shift of the banks
inline constexpr int kStage = kWarp * kStageRow;

// Output channels of a lane, within its block: four and four, so that lanes side by side touch whole sectors.
__device__ __forceinline__ int output_channel(int lane, int i) { return 16 * (i / 4) + 4 * (lane / 8) + i % 4; }

template <bool kVector>
__device__ __forceinline__ void store_sums(float const (&sums)[4][8], Task<float> const& task, Tile const& tile) {
  int const first = tile.first_output(task), end = tile.end_output(task);
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    int const column = tile.column + 8 * m + tile.lane % 8;
    if (column >= task.out_width) continue;
    int64_t const pixel = int64_t{tile.row} * task.out_width + column;
#pragma unroll
    for (int n = 0; n < 8; n += kVector ? 4 : 1) {
      int const channel = first + output_channel(tile.lane, n);
      if (channel >= end) continue;
      int64_t const at = task.y_at.at(tile.image, pixel, channel);
      if constexpr (kVector) {
        task.y.store16(at, as_bits(sums[m][n], sums[m][n + 1], sums[m][n + 2], sums[m][n + 3]));
      } else {
        task.y.store(at, sums[m][n]);
      }
    }
  }
}

template <bool kVector>
__global__ void
__launch_bounds__(kWarps * kWarp, 2) deform_conv_float(Task<float> const task) {
  DINN360_SHARED(uint4, tables, kWarps * kTable);
  DINN360_SHARED(float, stages, kWarps * kStage);
  Tile const tile = deform::tile(task);
  if (tile.row >= task.out_height) return;  // the whole warp
  Plan const& plan = task.plan;
  int const warp = static_cast<int>(threadIdx.x) / kWarp, pixel = tile.lane % 8;
  Shared<uint4> const table = tables + warp * kTable;
  Shared<float> const stage = stages + warp * kStage;
  Source<float, kVector> const source(task, tile);
  int64_t const packed = tile.packed(task);
  Global<float const> const weight =
      task.weight + (packed * plan.steps * 32 * kOutputs + output_channel(tile.lane, 0));

  float sums[4][8];
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    sums[i / 8][i % 8] = task.bias.load(packed * kOutputs + output_channel(tile.lane, i % 8));
  }
  Spot spot(plan, tile.group);
  for (int first = 0, step = 0; first < plan.spots; first += kSpots) {
    fill_table(task, tile, first, spot, table);
    __syncwarp();
    Octet octet(kVector ? tile.lane % 8 / 2 : 0, plan.parts);
    for (int const end = min(step + plan.parts, plan.steps); step < end; ++step) {
      if constexpr (kVector) {  // eight lanes sample half an octet of a pixel each
        int const part = tile.lane % 8, channel = first_channel(plan, first, octet) + 4 * (part % 2);
#pragma unroll 2
        for (int at = tile.lane / 8; at < kWarp; at += 4) {
          float four[4];
          source.sample(table.load(octet.slot * kTableRow + at), channel, 4, four);
          stage.store16(at * kStageRow + 4 * part, as_bits(four[0], four[1], four[2], four[3]));
        }
        octet.advance(plan.step_slots, plan.step_rest, plan.parts);
      } else {  // a lane samples all of its pixel, octet by octet
#pragma unroll 1
        for (int i = 0; i < 4; ++i) {
          int const count = plan.segment_channels - 8 * octet.part, at = tile.lane * kStageRow + 8 * i;
          float v[8];
          source.sample(table.load(octet.slot * kTableRow + tile.lane), first_channel(plan, first, octet), count, v);
          stage.store16(at, as_bits(v[0], v[1], v[2], v[3]));
          stage.store16(at + 4, as_bits(v[4], v[5], v[6], v[7]));
          octet.advance(0, 1, plan.parts);
        }
      }
      __syncwarp();
#pragma unroll 2
      for (int k = 0; k < 32; k += 4) {
        float a[4][4];
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          Four const four = four_floats(stage.load16((8 * m + pixel) * kStageRow + k));
#pragma unroll
          for (int inner = 0; inner < 4; ++inner) a[m][inner] = four.value[inner];
        }
#pragma unroll
        for (int inner = 0; inner < 4; ++inner) {
          Global<float const> const row = weight + (int64_t{step} * 32 + k + inner) * kOutputs;
          Eight const w = as_floats(row.load16(0), row.load16(output_channel(0, 4)));
#pragma unroll
          for (int i = 0; i < 32; ++i) sums[i / 8][i % 8] = fmaf(a[i / 8][inner], w.value[i % 8], sums[i / 8][i % 8]);
        }
      }
      __syncwarp();
    }
  }
  store_sums<kVector>(sums, task, tile);
}

}  // namespace dinn360::deform::float_kernel
