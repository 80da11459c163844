// Matrix products between the blocks of a training step, all sums in registers.
//
// A matrix of a block's pixels lies as [vector of channels][pixel][lane]: one element of each pixel of a tile has a fixed
// distance from the next, and so has the same pixel's next channel.
#pragma once

#include "../simd.h"

namespace dinn360::cpu::DINN360_CPU_SET::training {

constexpr int64_t kPixels = 32;  // of a block

// The sums of a tile fit the registers beside one vector of each of its columns.
constexpr int kRows = kLanes == 16 ? 8 : 4;
constexpr int kColumns = kLanes == 4 ? 2 : 3;
static_assert(kPixels % kRows == 0 && kPixels % kLanes == 0 && kLanes % kRows == 0);

template <int kVectors>
struct Tile {
  Vec sum[kRows][kVectors];

  // sum[i][v] += a[i * kARow + s * kAStep] * b[s * b_step + v * kBVector] for all s < steps.
  template <int kARow, int kAStep, int kBVector>
  void add(int64_t steps, float const* a, float const* b, int64_t b_step) {
    DINN360_ROLL
    for (int64_t s = 0; s < steps; ++s, a += kAStep, b += b_step) {
      Vec column[kVectors];
      DINN360_UNROLL
      for (int v = 0; v < kVectors; ++v) column[v] = load<Vec>(b + v * kBVector);
      DINN360_UNROLL
      for (int i = 0; i < kRows; ++i) {
        Vec const element = broadcast(a[i * kARow]);
        DINN360_UNROLL
        for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(element, column[v], sum[i][v]);
      }
    }
  }

  void load_rows(float const* from, int64_t row, int64_t vector) {
    DINN360_UNROLL
    for (int i = 0; i < kRows; ++i) {
      DINN360_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[i][v] = load<Vec>(from + i * row + v * vector);
    }
  }

  void store_rows(float* to, int64_t row, int64_t vector) const {
    DINN360_UNROLL
    for (int i = 0; i < kRows; ++i) {
      DINN360_UNROLL
      for (int v = 0; v < kVectors; ++v) store(to + i * row + v * vector, sum[i][v]);
    }
  }
};

// Calls act.template operator()<n>(first) for vectors [first, first + n) until there are none left.
template <int kVectors = kColumns, class Action>
inline void for_columns(int64_t first, int64_t vectors, Action const& act) {
  for (; vectors - first >= kVectors; first += kVectors) act(first, Tile<kVectors>{});
  if constexpr (kVectors > 1) {
    if (first < vectors) for_columns<kVectors - 1>(first, vectors, act);
  }
}

// out[pixel][column] = start[column] + a[pixel] * b[.][column]; `a` has a_vectors vectors of channels, `out` has
// out_vectors; rows of b are b_row floats apart. start: null for zeros.
inline void multiply_pixels(float const* a, int64_t a_vectors, float const* b, int64_t b_row, float const* start,
                            float* out, int64_t out_vectors) {
  for_columns(0, out_vectors, [&](int64_t vector, auto tile) {
    for (int64_t pixel = 0; pixel < kPixels; pixel += kRows) {
      if (start != nullptr) {
        tile.load_rows(start + vector * kLanes, 0, kLanes);
      } else {
        tile = {};
      }
      for (int64_t v = 0; v < a_vectors; ++v) {
        tile.template add<kLanes, 1, kLanes>(kLanes, a + (v * kPixels + pixel) * kLanes,
                                             b + v * kLanes * b_row + vector * kLanes, b_row);
      }
      tile.store_rows(out + (vector * kPixels + pixel) * kLanes, kLanes, kPixels * kLanes);
    }
  });
}

// out[row][column] += sum over the pixels of a[pixel][row] * b[pixel][column]; rows of `out` are out_row floats apart.
inline void add_products(float const* a, int64_t a_vectors, float const* b, int64_t b_vectors, float* out,
                         int64_t out_row) {
  for_columns(0, b_vectors, [&](int64_t vector, auto tile) {
    for (int64_t row = 0; row < a_vectors * kLanes; row += kRows) {
      float* const to = out + row * out_row + vector * kLanes;
      tile.load_rows(to, out_row, kLanes);
      tile.template add<1, kLanes, kPixels * kLanes>(kPixels, a + row / kLanes * kPixels * kLanes + row % kLanes,
                                                     b + vector * kPixels * kLanes, kLanes);
      tile.store_rows(to, out_row, kLanes);
    }
  });
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::training
