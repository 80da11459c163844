// The fp16 kernel: an implicit GEMM on tensor cores without a column buffer. A warp multiplies its 32 pixels with
// 8*kTiles output channels in two row tiles of m16n8k16.
//
// kVector (kHWC8): the samples of a pixel go straight into the registers that mma wants them in. The order of the inner
// dimension is free as long as both factors agree, so lane (group g, pair p) samples the eight consecutive channels of
// octet p, one 16-byte load for each corner, and calls them inner elements 2p, 2p+1, 2p+8, 2p+9 of one product and of the
// next; weights lie packed so that the lane's share of both products is one 16-byte load, too. Likewise output channels
// are numbered so that a lane's sums are consecutive channels and leave in 16-byte stores.
//
// Otherwise (kLinear, or groups of odd sizes): a lane samples a whole pixel's octets, since neighbouring columns are neighbours in
// memory, and hands them over through shared memory.
//
// Warps share nothing, so no barrier stops a block; its size only makes a tile whose samples meet in L1. Nothing is
// double-buffered: a warp has eight loads on their way at once, and a multiprocessor a dozen warps to switch to.
#pragma once

#include "deform_conv_sampling.cuh"

namespace dinn360::deform::half_kernel {

// Of a block: as many as let registers keep 16 (kTiles = 8: 12) warps on a multiprocessor.
__host__ __device__ constexpr int warps(int tiles) { return tiles == 8 ? 6 : 8; }
inline constexpr int kStageRow = 34;           // halves: 32 pixels and a shift of the banks
inline constexpr int kStage = 32 * kStageRow;  // of a warp, without kVector: 32 pixels x 32 channels

// The output channel, within its block, of column `column` of the tile-th n8 tile.
__host__ __device__ constexpr int output_channel(int tiles, int tile, int column) {
  int const pair = column / 2, odd = column % 2;
  return tiles == 2 ? 4 * pair + 2 * tile + odd : 32 * (tile / 4) + 8 * pair + 2 * (tile % 4) + odd;
}

// Element index of a pixel's octet among the warp's samples in shared memory, swizzled: neither stores (one octet of
// eight neighbouring pixels) nor loads (four octets of two) meet in a bank.
__device__ __forceinline__ int staged(int pixel, int octet) { return 32 * pixel + 8 * (octet ^ (pixel / 2 % 4)); }

// Sums of a warp, as mma leaves them: [row tile][n8 tile][(row g, row g+8) x (column 2p, 2p+1)].
template <int kTiles>
using Sums = float[2][kTiles][4];

template <int kTiles>
__device__ __forceinline__ void start_with_bias(Sums<kTiles>& sums, Task<__half> const& task, Tile const& tile) {
  int64_t const bias = tile.packed(task) * 8 * kTiles;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float const value = task.bias.load(bias + output_channel(kTiles, n, tile.lane % 4 * 2 + i % 2));
      sums[0][n][i] = sums[1][n][i] = value;
    }
  }
}

// sums += samples * weights of one step and row tile; samples, weights: the lane's octets of rows g and g+8, and of each
// n8 tile.
template <int kTiles>
__device__ __forceinline__ void multiply(float (&sums)[kTiles][4], uint4 const (&samples)[2],
                                         uint4 const (&weights)[kTiles]) {
  uint4 const upper = samples[0], lower = samples[1];
  uint32_t const a[2][4] = {{upper.x, lower.x, upper.y, lower.y}, {upper.z, lower.z, upper.w, lower.w}};
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    uint32_t const b[2][2] = {{weights[n].x, weights[n].y}, {weights[n].z, weights[n].w}};
    simt::mma_m16n8k16(sums[n], a[0], b[0]);
    simt::mma_m16n8k16(sums[n], a[1], b[1]);
  }
}

template <int kTiles>
__device__ __forceinline__ void store_vectors(Sums<kTiles> const& sums, Task<__half> const& task, Tile const& tile) {
  constexpr int kRun = kTiles == 2 ? 4 : 8;  // consecutive channels of a lane
  int const first = tile.first_output(task), end = tile.end_output(task);
#pragma unroll
  for (int run = 0; run < 2 * kTiles / kRun; ++run) {
    int const channel = first + 32 * run + kRun * (tile.lane % 4);
#pragma unroll
    for (int row = 0; row < 4; ++row) {  // (row tile, half)
      int const column = tile.column + 8 * row + tile.lane / 4;
      if (column >= task.out_width || channel >= end) continue;
      float const(&tiles)[kTiles][4] = sums[row / 2];
      int const i = row % 2 * 2, n = kRun / 2 * run;
      int64_t const at = task.y_at.at(tile.image, int64_t{tile.row} * task.out_width + column, channel);
      if constexpr (kTiles == 2) {
        Global<uint2> const y{reinterpret_cast<uint2*>(task.y.pointer)};
        y.store(at / 4, make_uint2(pack(tiles[0][i], tiles[0][i + 1]), pack(tiles[1][i], tiles[1][i + 1])));
      } else {
        task.y.store16(
            at, make_uint4(pack(tiles[n][i], tiles[n][i + 1]), pack(tiles[n + 1][i], tiles[n + 1][i + 1]),
                           pack(tiles[n + 2][i], tiles[n + 2][i + 1]), pack(tiles[n + 3][i], tiles[n + 3][i + 1])));
      }
    }
  }
}

// Through shared memory, so that a warp's store is 32 neighbouring columns of one channel.
template <int kTiles>
__device__ __forceinline__ void store_columns(Sums<kTiles> const& sums, Task<__half> const& task, Tile const& tile,
                                              Shared<__half> stage) {
  constexpr int kPart = kTiles == 2 ? 2 : 4;  // n8 tiles at a time
  int const end = tile.end_output(task);
  int const column = tile.column + tile.lane;
  int64_t const pixel = int64_t{tile.row} * task.out_width + column;
#pragma unroll
  for (int part = 0; part < kTiles; part += kPart) {
    int const first = tile.first_output(task) + 8 * part;
    __syncwarp();
#pragma unroll
    for (int n = 0; n < kPart; ++n) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {  // (row tile, half, odd)
        int const channel = output_channel(kTiles, n, tile.lane % 4 * 2 + i % 2), row = i / 2 * 8 + tile.lane / 4;
        stage.store(channel * kStageRow + row, from_float<__half>(sums[i / 4][part + n][i % 4]));
      }
    }
    __syncwarp();
    if (column >= task.out_width) continue;
    for (int channel = 0; channel < 8 * kPart && first + channel < end; ++channel) {
      task.y.store(task.y_at.at(tile.image, pixel, first + channel), stage.load(channel * kStageRow + tile.lane));
    }
  }
}

template <int kTiles, bool kVector>
__global__ void
__launch_bounds__(warps(kTiles) * kWarp, 2) deform_conv_half(Task<__half> const task) {
  constexpr int kWarps = warps(kTiles);
  DINN360_SHARED(uint4, tables, kWarps * kTable);
  DINN360_SHARED(__half, stages, kVector ? 8 : kWarps * kStage);
  Tile const tile = deform::tile(task);
  if (tile.row >= task.out_height) return;  // the whole warp
  Plan const& plan = task.plan;
  int const warp = static_cast<int>(threadIdx.x) / kWarp, group = tile.lane / 4, pair = tile.lane % 4;
  Shared<uint4> const table = tables + warp * kTable;
  Shared<__half> const stage = stages + (kVector ? 0 : warp * kStage);
  Source<__half, kVector> const source(task, tile);
  Global<__half const> weight = task.weight + (tile.packed(task) * plan.steps * (256 * kTiles) + 8 * tile.lane);

  Sums<kTiles> sums;
  start_with_bias<kTiles>(sums, task, tile);
  Spot spot(plan, tile.group);
  for (int first = 0, step = 0; first < plan.spots; first += kSpots) {
    fill_table(task, tile, first, spot, table);
    __syncwarp();
    Octet octet(kVector ? pair : 0, plan.parts);
    for (int const end = min(step + plan.parts, plan.steps); step < end; ++step) {
      if constexpr (!kVector) {
#pragma unroll 1
        for (int i = 0; i < 4; ++i) {
          uint4 const position = table.load(octet.slot * kTableRow + tile.lane);
          int const count = plan.segment_channels - 8 * octet.part;
          Eight eight;
          source.sample(position, first_channel(plan, first, octet), count, eight.value);
          stage.store16(staged(tile.lane, i), pack(eight));
          octet.advance(0, 1, plan.parts);
        }
        __syncwarp();
      }
      uint4 weights[kTiles];
#pragma unroll
      for (int n = 0; n < kTiles; ++n) weights[n] = weight.load16(256 * n);
      weight = weight + 256 * kTiles;
      int const channel = first_channel(plan, first, octet);
#pragma unroll(kVector ? 1 : 2)  // eight loads are on their way at once; sixteen would take too many registers
      for (int m = 0; m < 2; ++m) {
        uint4 samples[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          int const row = 16 * m + 8 * half + group;
          if constexpr (kVector) {
            uint4 const position = table.load(octet.slot * kTableRow + row);
            Eight eight;
            source.sample(position, channel, 8, eight.value);
            samples[half] = pack(eight);
          } else {
            samples[half] = stage.load16(staged(row, pair));
          }
        }
        // Not sums[m]: a variable index would put them into local memory.
        if (m == 0) multiply<kTiles>(sums[0], samples, weights);
        else multiply<kTiles>(sums[1], samples, weights);
      }
      if constexpr (kVector) {
        octet.advance(plan.step_slots, plan.step_rest, plan.parts);
      } else {
        __syncwarp();
      }
    }
    __syncwarp();
  }
  if constexpr (kVector) {
    store_vectors<kTiles>(sums, task, tile);
  } else {
    store_columns<kTiles>(sums, task, tile, stage);
  }
}

}  // namespace dinn360::deform::half_kernel
