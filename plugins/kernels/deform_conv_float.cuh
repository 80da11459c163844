// The fp32 kernel, for CUDA cores: a warp multiplies its 32 pixels with 32 output channels; a lane keeps 4 pixels x 8
// channels in registers. Samples of a step (32 pixels x 32 inner elements) pass through shared memory, weights come in
// 16-byte loads that eight lanes share. Warps share nothing, so no barrier stops a block.
#pragma once

#include "deform_conv_sampling.cuh"

namespace dinn360::deform::float_kernel {

inline constexpr int kWarps = 4;
inline constexpr int kOutputs = 32;
inline constexpr int kStageRow = 36;  // floats: 32 inner elements and a shift of the banks
inline constexpr int kStage = kWarp * kStageRow;

__device__ __forceinline__ void store_staged(Shared<float> stage, int pixel, int octet, Eight const& eight) {
  float const* const v = eight.value;
  int const at = pixel * kStageRow + 8 * octet;
  stage.store16(at, as_bits(v[0], v[1], v[2], v[3]));
  stage.store16(at + 4, as_bits(v[4], v[5], v[6], v[7]));
}

template <bool kVector>
__device__ __forceinline__ void store_sums(float const (&sums)[4][8], Task<float> const& task, Tile const& tile) {
  int const base = tile.group * task.plan.group_outputs, end = tile.group + 1 == task.groups
                       ? task.out_stored : base + task.plan.group_outputs;
  int const channel = base + kOutputs * tile.block + 8 * (tile.lane / 8);
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    int const column = tile.column + 8 * m + tile.lane % 8;
    if (column >= task.out_width) continue;
    int64_t const at = task.y_at.at(tile.image, int64_t{tile.row} * task.out_width + column, channel);
    if constexpr (kVector) {
      Eight eight;
#pragma unroll
      for (int n = 0; n < 8; ++n) eight.value[n] = sums[m][n];
      if (channel < end) store_eight(task.y, at, eight);
    } else {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        if (channel + n < end) task.y.store(at + n * task.y_at.channel, sums[m][n]);
      }
    }
  }
}

template <bool kVector>
__global__ void __launch_bounds__(kWarps * kWarp, 3) deform_conv_float(Task<float> const task) {
  DINN360_SHARED(uint4, tables, kWarps * kSpots * kWarp);
  DINN360_SHARED(float, stages, kWarps * kStage);
  Tile const tile = deform::tile(task);
  if (tile.row >= task.out_height) return;  // the whole warp
  Plan const& plan = task.plan;
  int const warp = static_cast<int>(threadIdx.x) / kWarp, pixel = tile.lane % 8, eighth = tile.lane / 8 * 8;
  Shared<uint4> const table = tables + warp * kSpots * kWarp;
  Shared<float> const stage = stages + warp * kStage;
  Source<float, kVector> const source(task, tile);
  Global<float const> const weight = task.weight + (tile.packed(task) * plan.steps * 32 * kOutputs + eighth);

  float sums[4][8];
  Eight const bias = load_eight(task.bias, tile.packed(task) * kOutputs + eighth);
#pragma unroll
  for (int i = 0; i < 32; ++i) sums[i / 8][i % 8] = bias.value[i % 8];
  Spot spot(plan, tile.group);
  int const sampler = tile.lane % 4;
  for (int first = 0, step = 0; first < plan.spots; first += kSpots) {
    fill_table(task, tile, first, spot, table);
    __syncwarp();
    Octet octet(kVector ? sampler : 0, plan.parts);
    for (int const end = min(step + plan.parts, plan.steps); step < end; ++step) {
      // kVector: four lanes sample four octets of a pixel; else a lane samples all of its pixel, octet by octet.
#pragma unroll 1
      for (int i = 0; i < 4; ++i) {
        int const at = kVector ? 8 * i + tile.lane / 4 : tile.lane;
        int const count = plan.segment_channels - 8 * octet.part;
        uint4 const position = table.load(octet.slot * kWarp + at);
        store_staged(stage, at, kVector ? sampler : i,
                     source.sample(position, first_channel(plan, first, octet), count));
        if (!kVector) octet.advance(0, 1, plan.parts);
      }
      if (kVector) octet.advance(plan.step_slots, plan.step_rest, plan.parts);
      __syncwarp();
#pragma unroll 2
      for (int k = 0; k < 32; k += 4) {
        float a[4][4];
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          uint4 const bits = stage.load16((8 * m + pixel) * kStageRow + k);
          a[m][0] = __uint_as_float(bits.x), a[m][1] = __uint_as_float(bits.y);
          a[m][2] = __uint_as_float(bits.z), a[m][3] = __uint_as_float(bits.w);
        }
#pragma unroll
        for (int inner = 0; inner < 4; ++inner) {
          Eight const w = load_eight(weight, (int64_t{step} * 32 + k + inner) * kOutputs);
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
