// Deformable convolution: for each tile of pixels the samples are gathered into the first-level cache and multiplied
// with the weights there, all sums in registers. Nothing of a sample is written anywhere else.
#pragma once

#include "../simd.h"
#include "deform_copy.h"
#include "deform_samples.h"
#include "kernels.h"

namespace dinn360::cpu::DINN360_CPU_SET::deform {

constexpr int64_t kUnitPixels = 384;         // whole blocks
constexpr int kStep = 4;                     // channels
constexpr bool kGatherAhead = kLanes == 16;  // where 32 registers hold a tile and a sample
constexpr int64_t kPlane = 64;               // floats between the outputs of a block: a tile may write past its end
static_assert(kUnitPixels % kBlockPixels == 0);

// Sums over one channel: sum[pixel][vector] += tile[pixel] * weight[vector].
template <int kVectors>
inline void multiply(Vec (&sum)[kTilePixels][kVectors], float const* tile, float const* weight) {
  Vec w[kVectors];
  DINN360_UNROLL
  for (int v = 0; v < kVectors; ++v) w[v] = load<Vec>(weight + v * kLanes);
  DINN360_UNROLL
  for (int i = 0; i < kTilePixels; ++i) {
    Vec const sample = broadcast(tile[i * kLanes]);
    DINN360_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(sample, w[v], sum[i][v]);
  }
}

// Sums of a tile into planes[output][pixel]; up to three pixels more, which are the next tile's.
template <int kVectors>
inline void store_planes(Vec const (&sum)[kTilePixels][kVectors], float* planes) {
  DINN360_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    DINN360_UNROLL
    for (int at = 0; at < kTilePixels; at += 4) {
      Vec block[4];
      DINN360_UNROLL
      for (int i = 0; i < 4; ++i) block[i] = sum[at + i < kTilePixels ? at + i : at][v];
      transpose_quarters(block);
      DINN360_UNROLL
      for (int i = 0; i < 4; ++i) store_quarters(planes + (v * kLanes + i) * kPlane + at, 4 * kPlane, block[i]);
    }
  }
}

// kVectors vectors of outputs for a tile of samples: planes[output][pixel] = bias + samples * weights. Meanwhile the
// next tile is gathered, `some` samples for each kStep channels: its loads run while the multipliers work.
template <int kVectors, class Next>
void convolve(Plan const& plan, float const* tile, float const* weight, float const* bias, float* planes,
              Next& shared_next, int64_t some) {
  Next next = shared_next;  // in registers
  Vec sum[kTilePixels][kVectors];
  DINN360_UNROLL
  for (int i = 0; i < kTilePixels; ++i) {
    DINN360_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[i][v] = load<Vec>(bias + v * kLanes);
  }
  int64_t const slices = plan.group_inputs / plan.slice * plan.taps, slice = plan.slice;
  for (int64_t at = 0; at < slices; ++at) {
    for (int64_t left = slice; left > 0; left -= kLanes, tile += kTilePixels * kLanes) {
      int64_t const channels = left < kLanes ? left : kLanes;
      int64_t channel = 0;
      for (; channel + kStep <= channels; channel += kStep) {
        DINN360_ROLL
        for (int i = 0; i < kStep; ++i, weight += kVectors * kLanes) {
          multiply<kVectors>(sum, tile + channel + i, weight);
        }
        if constexpr (kGatherAhead) next.gather_some(some);
      }
      for (; channel < channels; ++channel, weight += kVectors * kLanes) {
        multiply<kVectors>(sum, tile + channel, weight);
      }
    }
  }
  store_planes(sum, planes);
  shared_next = next;
}

template <int kVectors, class Next>
void convolve_some(Plan const& plan, int64_t vectors, float const* tile, float const* weight, float const* bias,
                   float* planes, Next& next, int64_t some) {
  if (vectors == kVectors) return convolve<kVectors>(plan, tile, weight, bias, planes, next, some);
  if constexpr (kVectors > 1) convolve_some<kVectors - 1>(plan, vectors, tile, weight, bias, planes, next, some);
}

// All outputs of one tile of samples, and the samples of the next. What a group's last register tile has beyond its
// outputs goes into the planes of the next group, which come later.
template <class Next>
void convolve_tile(DeformConvParams const& p, Plan const& plan, float const* tile, float const* packed,
                   float const* bias, float* planes, Next& next) {
  int64_t const inputs = plan.group_inputs * plan.taps;
  int64_t const register_tiles = p.groups * ceil_div(plan.group_vectors, kTileVectors);
  int64_t const some = ceil_div(plan.slices * plan.taps * kTilePixels * kStep, register_tiles * inputs);
  for (int64_t group = 0; group < p.groups; ++group) {
    for (int64_t vector = 0; vector < plan.group_vectors; vector += kTileVectors) {
      int64_t const left = plan.group_vectors - vector, vectors = left < kTileVectors ? left : kTileVectors;
      convolve_some<kTileVectors>(plan, vectors, tile, packed, bias, planes + vector * kLanes * kPlane, next, some);
      packed += vectors * kLanes * inputs;
      bias += vectors * kLanes;
    }
    tile += plan.tile_floats() / p.groups;
    planes += plan.group_outputs * kPlane;
  }
  next.gather_rest();
}

// A finished block on its way into y, a few planes at a time between a tile's samples and its products. Planes are
// apart by powers of two and would push each other out of the caches: the whole lines of a large y go past them.
template <class T>
struct Output {
  T* y;  // its first pixel in the first plane
  float const* planes;
  int64_t count, next, outputs, pixels;

  void store_some(int64_t some) {
    int64_t const end = next + some < outputs ? next + some : outputs;
    bool const lines = count == kBlockPixels && line_offset(y) == 0 && pixels % kLineFloats == 0 &&
                       outputs * pixels * int64_t{sizeof(T)} > kCachedBytes;
    for (; next < end; ++next) {
      T* const to = y + next * pixels;
      float const* const from = planes + next * kPlane;
      if (lines) {
        for (int64_t at = 0; at < kBlockPixels; at += kLanes) stream(to + at, load<Vec>(from + at));
      } else {
        for (int64_t at = 0; at < count; at += kLanes) store_first(to + at, load<Vec>(from + at), count - at);
      }
    }
  }
};

// What a worker has.
struct Scratch {
  Scratch(DeformConvParams const& p, Plan const& plan, char* memory) {
    samples[0] = reinterpret_cast<Samples*>(memory);
    samples[1] = samples[0] + p.offset_groups * plan.taps;
    tiles[0] = reinterpret_cast<float*>(samples[1] + p.offset_groups * plan.taps);
    tiles[1] = tiles[0] + plan.tile_floats();
    planes[0] = tiles[1] + plan.tile_floats();
    planes[1] = planes[0] + plane_floats(p, plan);
  }
  static int64_t bytes(DeformConvParams const& p, Plan const& plan) {
    int64_t const floats = 2 * plan.tile_floats() + 2 * plane_floats(p, plan);
    return 2 * p.offset_groups * plan.taps * int64_t{sizeof(Samples)} + 4 * floats;
  }
  static int64_t plane_floats(DeformConvParams const& p, Plan const& plan) {
    return (p.out_channels + plan.group_vectors * kLanes - plan.group_outputs) * kPlane;
  }

  Samples* samples[2];  // of a block and of the next, [offset group][tap]
  float* tiles[2];      // [slice][tap][vector][pixel][lane]: the present one and the next
  float* planes[2];     // [output][pixel] of a block: of the present one and of the one before
};

// The output pixels [first, end) of an image. kVectors: as in Gathering.
//
// While a tile is multiplied, the next one is gathered; hence the samples of a block are located one block ahead.
template <class T, int kVectors>
void convolve_pixels(DeformConvParams const& p, Plan const& plan, float const* copy, Scratch const& scratch,
                     int64_t batch, int64_t first, int64_t end) {
  float const* const packed = copy + plan.copy_floats();
  int64_t const tiles = ceil_div(end - first, kTilePixels);
  auto const block_pixels = [&](int64_t block) {
    int64_t const left = end - first - block * kBlockPixels;
    return left < kBlockPixels ? left : kBlockPixels;
  };
  Locating<T> locating(p, plan, scratch.samples, batch, first, end);
  auto const samples_of = [&](int64_t tile) { return scratch.samples[tile / kTiles % 2]; };
  auto const gathering = [&](int64_t tile) {
    return Gathering<kVectors>(plan, copy, samples_of(tile), plan.slices / p.offset_groups, tile % kTiles * kTilePixels,
                               scratch.tiles[tile % 2], tile < tiles);
  };
  Output<T> finished{};
  for (int64_t part = 0; part < kTiles; ++part) locating.locate_part(0, part);
  gathering(0).gather_rest();
  for (int64_t tile = 0; tile < tiles; ++tile) {
    int64_t const block = tile / kTiles, in_block = tile % kTiles;
    locating.locate_part(block + 1, in_block);
    finished.store_some(ceil_div(p.out_channels, kTiles));
    locating.fetch_part((tile + 1) / kTiles + 1, (tile + 1) % kTiles);
    auto next = gathering(tile + 1);
    convolve_tile(p, plan, scratch.tiles[tile % 2], packed, packed + plan.packed,
                  scratch.planes[block % 2] + in_block * kTilePixels, next);
    if (in_block + 1 == kTiles || tile + 1 == tiles) {
      finished.store_some(p.out_channels);
      T* const y = static_cast<T*>(p.y) + batch * p.out_channels * plan.pixels + first + block * kBlockPixels;
      finished = {y, scratch.planes[block % 2], block_pixels(block), 0, p.out_channels, plan.pixels};
    }
  }
  finished.store_some(p.out_channels);
  finish_streams();
}

template <class T>
void run_typed(DeformConvParams const& p, Memory memory, int32_t phase, int64_t unit) {
  Plan const plan(p);
  float* const copy = reinterpret_cast<float*>(memory.shared);
  int64_t const batch = phase / 2;
  if (phase % 2 == 1) {
    // Units begin where cache lines of y do, but for the first.
    int64_t const start = unit * kUnitPixels - plan.line_start, end = smaller(start + kUnitPixels, plan.pixels);
    Scratch const scratch(p, plan, memory.own);
    auto const convolve = plan.slice_vectors == 1   ? convolve_pixels<T, 1>
                          : plan.slice_vectors == 2 ? convolve_pixels<T, 2>
                          : plan.slice_vectors == 4 ? convolve_pixels<T, 4>
                                                    : convolve_pixels<T, 0>;
    convolve(p, plan, copy, scratch, batch, start < 0 ? 0 : start, end);
  } else if (unit > 0) {
    copy_row<T>(p, plan, copy, batch, unit - 1);
  } else if (phase == 0) {
    float* const packed = copy + plan.copy_floats();
    pack_weights<T>(p, plan, packed, packed + plan.packed);
  }
}

inline size_t shared_bytes(DeformConvParams const& p) {
  Plan const plan(p);
  return sizeof(float) * static_cast<size_t>(plan.copy_floats() + plan.packed + plan.bias);
}

inline size_t own_bytes(DeformConvParams const& p) { return static_cast<size_t>(Scratch::bytes(p, Plan(p))); }

// For each image of the batch: its copy (the first one with the weights), then its convolution.
inline int32_t phases(DeformConvParams const& p) { return 2 * p.batch; }

inline int64_t units(DeformConvParams const& p, int32_t phase) {
  Plan const plan(p);
  return phase % 2 == 0 ? 1 + plan.rows : ceil_div(plan.line_start + plan.pixels, kUnitPixels);
}

inline void run(DeformConvParams const& p, Memory memory, int32_t phase, int64_t unit) {
  p.type == DataType::kHalf ? run_typed<Half>(p, memory, phase, unit) : run_typed<float>(p, memory, phase, unit);
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::deform
