// A block of pixels: where its samples lie, and their values and gradients one tap at a time.
#pragma once

#include "../sampling.h"
#include "../simd.h"
#include "band.h"
#include "params.h"
#include "products.h"

namespace dinn360::cpu::DINN360_CPU_SET::training {

struct Block {
  int64_t first, count;  // pixels of the batch
  int32_t rows[kPixels], columns[kPixels];
};

// The block whose first pixel is the one at `row` and `column` of the band's image; moves both on.
inline Block next_block(DeformConvTraining const& p, Band const& band, int32_t& row, int32_t& column) {
  Block block{(band.image * p.height + row) * p.width + column, 0, {}, {}};
  for (; block.count < kPixels && row < band.end; ++block.count) {
    block.rows[block.count] = row;
    block.columns[block.count] = column;
    if (++column == p.width) column = 0, ++row;
  }
  return block;
}

// A matrix of `rows` rows, each from_row floats from the next, transposed.
inline void transpose_into(float const* from, int64_t from_row, int64_t rows, int64_t columns, float* to,
                           int64_t to_row) {
  for (int64_t row = 0; row < rows; row += 4) {
    for (int64_t column = 0; column < columns; column += 4) {
      float const* const first = from + row * from_row + column;
      float* const place = to + column * to_row + row;
      if (row + 4 <= rows && column + 4 <= columns) {
        Vec4 block[4];
        DINN360_UNROLL
        for (int i = 0; i < 4; ++i) block[i] = load<Vec4>(first + i * from_row);
        transpose(block);
        DINN360_UNROLL
        for (int i = 0; i < 4; ++i) store(place + i * to_row, block[i]);
      } else {
        for (int i = 0; i < 4 && i < rows - row; ++i) {
          for (int64_t j = 0; j < 4 && j < columns - column; ++j) place[j * to_row + i] = first[i * from_row + j];
        }
      }
    }
  }
}

// Of the samples of one tap of one offset group.
struct alignas(64) Samples {
  int32_t place[kPixels];                // the pixel above and left, in the band's copy
  float lower[kPixels], right[kPixels];  // how far below and right of it
  float factor[kPixels];                 // the mask
};

// value within [-bound, bound]; what is no number stays so.
inline Vec bounded(Vec value, float bound) {
  Vec const limit = broadcast(bound);
  value = value > limit ? limit : value;
  return value < -limit ? -limit : value;
}

// The gradient of offsets from that of bounded ones.
inline void stop_at_bound(float const* offset, float bound, int64_t count, float* grad) {
  Vec const limit = broadcast(bound);
  for (int64_t i = 0; i < count; i += kLanes) {
    Vec const value = load<Vec>(offset + i);
    store(grad + i, (value > limit) | (value < -limit) ? Vec{} : load<Vec>(grad + i));
  }
}

// offset: rows [kPixels], then columns [kPixels]. mask: [kPixels] or null.
inline void locate(DeformConvTraining const& p, Plan const& plan, Band const& band, Block const& block, int64_t tap,
                   float const* offset, float const* mask, Samples& out) {
  int32_t const down = static_cast<int32_t>(tap / p.kernel) - p.kernel / 2;
  int32_t const across = static_cast<int32_t>(tap % p.kernel) - p.kernel / 2;
  int32_t const columns = static_cast<int32_t>(plan.columns), left = static_cast<int32_t>(plan.left);
  for (int64_t at = 0; at < kPixels; at += kLanes) {
    Position const position = position_of(
        bounded(load<Vec>(offset + at), p.max_offset), bounded(load<Vec>(offset + kPixels + at), p.max_offset),
        load_bits<IntVec>(block.rows + at) + down, load_bits<IntVec>(block.columns + at) + across);
    IntVec const row = clamped(position.row, band.top, band.bottom - 2) - band.top;
    IntVec column = position.column;
    column = p.wrap ? wrapped(column, p.width) : clamped(column, -kRim, p.width) + left;
    column = position.finite ? column : IntVec{} + (columns - kRim);  // zeros
    store_bits(out.place + at, row * columns + column);
    store(out.lower + at, position.lower);
    store(out.right + at, position.right);
    store(out.factor + at, mask == nullptr ? broadcast(1.f) : load<Vec>(mask + at));
  }
}

// The four pixels of a sample, one vector of channels.
struct Corners {
  Corners(float const* upper, int64_t pixel, int64_t row)
      : upper_left(load<Vec>(upper)),
        upper_step(load<Vec>(upper + pixel) - upper_left),
        lower_left(load<Vec>(upper + row)),
        lower_step(load<Vec>(upper + row + pixel) - lower_left) {}

  Vec upper_left, upper_step, lower_left, lower_step;
};

// The samples of a tap: out[vector][pixel][lane]. kVectors: those of an offset group; 0: any number of them.
template <int kVectors>
void gather(Plan const& plan, Samples const& samples, int64_t count, float const* image, float* out) {
  int64_t const vectors = kVectors != 0 ? kVectors : plan.group_vectors;
  for (int64_t i = 0; i < count; ++i) {
    float const* const upper = image + samples.place[i] * plan.pixel;
    Vec const lower = broadcast(samples.lower[i]), right = broadcast(samples.right[i]);
    Vec const factor = broadcast(samples.factor[i]);
    for (int64_t v = 0; v < vectors; ++v) {
      Corners const c(upper + v * kLanes, plan.pixel, plan.row);
      Vec const above = fma(right, c.upper_step, c.upper_left), below = fma(right, c.lower_step, c.lower_left);
      store(out + (v * kPixels + i) * kLanes, factor * fma(lower, below - above, above));
    }
  }
}

// What a tap's samples and their gradients are: all [kPixels], the matrices [vector][pixel][lane].
struct TapGradients {
  float const* values;  // of the samples
  float* samples;       // the samples themselves
  float *row, *column;  // of the offset
  float* mask;          // or null
};

// Samples a tap and hands the gradients of its samples on to the image, the offsets and the mask. kVectors: as above.
template <int kVectors>
void scatter(Plan const& plan, Samples const& samples, int64_t count, float const* image, float* grad_image,
             TapGradients const& out) {
  int64_t const vectors = kVectors != 0 ? kVectors : plan.group_vectors;
  for (int64_t i = 0; i < count; ++i) {
    int64_t const place = samples.place[i] * plan.pixel;
    Vec const lower = broadcast(samples.lower[i]), right = broadcast(samples.right[i]);
    Vec const factor = broadcast(samples.factor[i]);
    Vec down{}, across{}, along{};
    for (int64_t v = 0; v < vectors; ++v) {
      Corners const c(image + place + v * kLanes, plan.pixel, plan.row);
      Vec const above = fma(right, c.upper_step, c.upper_left), below = fma(right, c.lower_step, c.lower_left);
      Vec const sample = fma(lower, below - above, above);
      Vec const grad = load<Vec>(out.values + (v * kPixels + i) * kLanes);
      store(out.samples + (v * kPixels + i) * kLanes, factor * sample);
      down = fma(grad, below - above, down);
      across = fma(grad, fma(lower, c.lower_step - c.upper_step, c.upper_step), across);
      along = fma(grad, sample, along);
      Vec const weighted = factor * grad;
      Vec const under = lower * weighted, over = weighted - under;
      Vec const under_right = right * under, over_right = right * over;
      float* const to = grad_image + place + v * kLanes;
      store(to, load<Vec>(to) + (over - over_right));
      store(to + plan.pixel, load<Vec>(to + plan.pixel) + over_right);
      store(to + plan.row, load<Vec>(to + plan.row) + (under - under_right));
      store(to + plan.row + plan.pixel, load<Vec>(to + plan.row + plan.pixel) + under_right);
    }
    out.row[i] = samples.factor[i] * sum_of(down);
    out.column[i] = samples.factor[i] * sum_of(across);
    if (out.mask != nullptr) out.mask[i] = sum_of(along);
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::training
