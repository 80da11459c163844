// A strip of neighbouring windows of one head: where its tokens are, and how they move between it and the planes of an
// image, channel-major on both sides.
#pragma once

#include "../simd.h"
#include "kernels.h"

namespace dinn360::cpu::DINN360_CPU_SET::dst {

constexpr int64_t kStripWindows = 4;
constexpr int64_t kChunk = 8;  // pixels of a row that are moved at once

struct Plan {
  explicit Plan(DstAttentionParams const& p)
      : down(ceil_div(p.height, p.window)),
        across(ceil_div(p.width, p.window)),
        strips(ceil_div(across, kStripWindows)),
        depth(p.channels / p.heads),
        tokens(int64_t{p.window} * p.window),
        padded(round_up(tokens, kLanes)),
        plane(int64_t{p.height} * p.width),
        block(depth * padded) {}

  int64_t down, across;  // windows
  int64_t strips;        // of a row of windows
  int64_t depth;         // channels of a head
  int64_t tokens;        // pixels of a window
  int64_t padded;        // tokens in whole vectors
  int64_t plane;
  int64_t block;  // floats of one window and head, [channel][token]
};

// ---- where tokens are

// One place of an axis: its source pixel, whether it lies past the end of the displaced windows, and whether an output
// belongs to it.
struct Place {
  int32_t source;
  bool past, real;
};

inline void fill_places(Place* places, int64_t first, int64_t count, int64_t padded, int32_t size, bool cyclic) {
  for (int64_t i = 0; i < count; ++i) {
    int64_t const place = (first + i) % padded;
    int64_t const source = place < size ? place : cyclic ? place % size : size - 1;
    places[i] = {static_cast<int32_t>(source), first + i >= padded, place < size};
  }
}

// A coordinate between two pixels.
struct Between {
  int32_t low, high;
  float share;  // of `high`
};

inline Between between(int32_t source, float move, int32_t size, bool cyclic) {
  constexpr float kFar = 0x1p30f;  // its sum with a pixel fits an int32
  if (move != move) return {source, source, move};
  move = move < -kFar ? -kFar : move > kFar ? kFar : move;
  int32_t floor = static_cast<int32_t>(move);
  floor -= static_cast<float>(floor) > move;
  float const share = move - static_cast<float>(floor);
  int32_t low = source + floor;
  if (cyclic) {
    if (low < 0 || low >= size) low = low % size + (low % size < 0 ? size : 0);
    return {low, low + 1 == size ? 0 : low + 1, share};
  }
  if (low < 0) return {0, 0, 0.f};
  if (low >= size - 1) return {size - 1, size - 1, 0.f};
  return {low, low + 1, share};
}

// What a worker has: rows and columns of a strip, and its windows.
struct Strip {
  Strip(DstAttentionParams const& p, Plan const& plan, char* memory) {
    q = reinterpret_cast<float*>(memory);
    k = q + kStripWindows * plan.block;
    v = k + kStripWindows * plan.block;
    scores = v + kStripWindows * plan.block;
    parts = reinterpret_cast<int32_t*>(scores + plan.tokens * kTileQueries * kLanes);
    sampled_rows = reinterpret_cast<Between*>(parts + plan.padded);
    sampled_columns = sampled_rows + p.window;
    rows = reinterpret_cast<Place*>(sampled_columns + p.window);
    columns = rows + p.window;
  }
  static int64_t bytes(DstAttentionParams const& p, Plan const& plan) {
    int64_t const floats = 3 * kStripWindows * plan.block + plan.tokens * kTileQueries * kLanes + plan.padded;
    int64_t const places = (1 + kStripWindows) * p.window;
    return 4 * floats + 2 * p.window * int64_t{sizeof(Between)} + places * int64_t{sizeof(Place)};
  }

  float *q, *k, *v;  // [window][channel][token]; the result takes the place of q
  float* scores;     // [key][query] of one tile of queries
  int32_t* parts;    // of each token of a window: tokens of different parts do not see each other
  Between *sampled_rows, *sampled_columns;
  Place *rows, *columns;
  int64_t windows = 0;
  bool plain = false;  // columns follow each other in the image and have outputs
};

// ---- moving tokens

// The regular tokens of a strip out of the planes of a head, times `factor`.
template <class T>
void collect(DstAttentionParams const& p, Plan const& plan, Strip const& strip, T const* planes, float factor,
             float* to) {
  int64_t const window = p.window;
  for (int64_t channel = 0; channel < plan.depth; ++channel, planes += plan.plane) {
    for (int64_t i = 0; i < window; ++i) {
      T const* const row = planes + int64_t{strip.rows[i].source} * p.width;
      for (int64_t w = 0; w < strip.windows; ++w) {
        float* const line = to + w * plan.block + channel * plan.padded + i * window;
        Place const* const columns = strip.columns + w * window;
        if (strip.plain) {
          for (int64_t j = 0; j < window; j += kChunk) {
            store_first(line + j, load_first<Vec8>(row + columns->source + j, window - j) * factor, window - j);
          }
        } else {
          for (int64_t j = 0; j < window; ++j) line[j] = to_float(row[columns[j].source]) * factor;
        }
      }
    }
  }
}

// The result of a strip into the planes of y.
template <class T>
void distribute(DstAttentionParams const& p, Plan const& plan, Strip const& strip, T* planes) {
  int64_t const window = p.window;
  for (int64_t channel = 0; channel < plan.depth; ++channel, planes += plan.plane) {
    for (int64_t i = 0; i < window; ++i) {
      if (!strip.rows[i].real) continue;
      T* const row = planes + int64_t{strip.rows[i].source} * p.width;
      for (int64_t w = 0; w < strip.windows; ++w) {
        float const* const line = strip.q + w * plan.block + channel * plan.padded + i * window;
        Place const* const columns = strip.columns + w * window;
        if (strip.plain) {
          for (int64_t j = 0; j < window; j += kChunk) {
            store_first(row + columns->source + j, load_first<Vec8>(line + j, window - j), window - j);
          }
        } else {
          for (int64_t j = 0; j < window; ++j) {
            if (columns[j].real) convert(line[j], row + columns[j].source);
          }
        }
      }
    }
  }
}

// Up to kChunk sampled columns of a row: from a table of 16 pixels where they lie that close together.
struct Columns {
  Columns(Between const* places, int64_t count, int32_t width) : places(places), count(count) {
    int32_t first = places[0].low, last = first;
    for (int64_t j = 0; j < count; ++j) {
      first = first < places[j].low ? first : places[j].low;
      first = first < places[j].high ? first : places[j].high;
      last = last > places[j].low ? last : places[j].low;
      last = last > places[j].high ? last : places[j].high;
    }
    base = first < width - 16 ? first : width - 16;
    close = base >= 0 && last - base < 16;
    for (int64_t j = 0; j < count; ++j) {
      left[j] = close ? places[j].low - base : 0;
      right[j] = close ? places[j].high - base : 0;
      share[j] = places[j].share;
    }
  }

  template <class T>
  Vec8 sample(T const* row) const {
    Vec8 low{}, high{};
    if (close) {
      low = lookup(row + base, left);
      high = lookup(row + base, right);
    } else {
      for (int64_t j = 0; j < count; ++j) {
        low[j] = to_float(row[places[j].low]);
        high[j] = to_float(row[places[j].high]);
      }
    }
    return low * (1.f - share) + high * share;
  }

  Between const* places;
  int64_t count;
  int32_t base = 0;
  bool close = false;
  IntVec8 left{}, right{};
  Vec8 share{};
};

// The deformed queries of one window, times `factor`. The grid is separable: rows of samples, then their mixtures.
template <class T>
void sample(DstAttentionParams const& p, Plan const& plan, Strip const& strip, T const* planes, float factor,
            float* to) {
  for (int64_t j = 0; j < p.window; j += kChunk) {
    Columns const columns(strip.sampled_columns + j, smaller(kChunk, p.window - j), p.width);
    T const* image = planes;
    for (int64_t channel = 0; channel < plan.depth; ++channel, image += plan.plane) {
      int32_t known = -1;  // the row that `lower` holds: often the next one's upper
      Vec8 lower{};
      for (int64_t i = 0; i < p.window; ++i) {
        Between const row = strip.sampled_rows[i];
        Vec8 const upper = row.low == known ? lower : columns.sample(image + int64_t{row.low} * p.width);
        lower = row.high == row.low ? upper : columns.sample(image + int64_t{row.high} * p.width);
        known = row.high;
        Vec8 const mixed = (upper * (1.f - row.share) + lower * row.share) * factor;
        store_first(to + channel * plan.padded + i * p.window + j, mixed, p.window - j);
      }
    }
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::dst
