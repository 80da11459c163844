// A band of rows of an image, copied to where a worker samples it, and the gradient that gathers there.
//
// The copy has the rows that the band's samples can reach, and a rim of zeros where they can leave the image (with wrap:
// a column that repeats the first), so that every sample is four plain loads with no case to tell apart.
#pragma once

#include "../simd.h"
#include "params.h"

namespace dinn360::cpu::DINN360_CPU_SET::training {

using dinn360::training::DeformConvTraining;

constexpr int32_t kRim = 2;  // rows and columns beyond the image: a sample outside takes two of them

struct Plan {
  explicit Plan(DeformConvTraining const& p);

  int64_t taps, fields;          // of the kernel; offset groups times taps
  int64_t group, group_vectors;  // channels that share their offsets
  int64_t pixel;                 // floats of a pixel in the copy: each offset group filled up with zeros
  int64_t inputs;                // floats of all taps of a pixel, [tap][offset group][channel]
  int64_t out_vectors, outputs;  // of an output pixel, in floats
  int64_t reach;                 // rows that a sample can lie from its pixel, and one for the second row it takes
  int64_t band_rows, bands;      // bands that have one between them share no row of their copies
  int64_t left, columns, row;    // of the copy: rim columns on the left, columns, floats of a row

  int64_t copy_floats() const { return (band_rows + 2 * reach) * row; }
};

inline Plan::Plan(DeformConvTraining const& p) {
  constexpr int64_t kBandRows = 32;
  taps = int64_t{p.kernel} * p.kernel;
  fields = p.offset_groups * taps;
  group = p.channels / p.offset_groups;
  group_vectors = ceil_div(group, kLanes);
  pixel = p.offset_groups * group_vectors * kLanes;
  inputs = taps * pixel;
  out_vectors = ceil_div(p.out_channels, kLanes);
  outputs = out_vectors * kLanes;
  int64_t const furthest = int64_t{p.height} + kRim;  // from there on all is zero
  reach = p.kernel / 2 + 2 + (p.max_offset < furthest ? static_cast<int64_t>(p.max_offset) : furthest);
  band_rows = smaller(p.height, 2 * reach > kBandRows ? 2 * reach : kBandRows);
  bands = ceil_div(p.height, band_rows);
  left = p.wrap ? 0 : kRim;
  columns = int64_t{p.width} + (p.wrap ? 1 : kRim) + kRim;
  row = columns * pixel;
}

struct Band {
  int64_t image;
  int32_t first, end;   // its rows
  int32_t top, bottom;  // those of its copy
};

inline Band band_of(DeformConvTraining const& p, Plan const& plan, int64_t image, int64_t index) {
  int64_t const first = index * plan.band_rows, end = smaller(first + plan.band_rows, p.height);
  int64_t const top = first - plan.reach, bottom = end + plan.reach;
  return {image, static_cast<int32_t>(first), static_cast<int32_t>(end),
          static_cast<int32_t>(top < -kRim ? -kRim : top), static_cast<int32_t>(smaller(bottom, p.height + kRim))};
}

// Calls act(first channel of the image, place in the copy's pixel) for each offset group of a pixel.
template <class Action>
inline void for_groups(DeformConvTraining const& p, Plan const& plan, Action const& act) {
  for (int64_t group = 0; group < p.offset_groups; ++group) {
    act(group * plan.group, group * plan.group_vectors * kLanes);
  }
}

// The band's rows of x into `copy`, with the rim.
inline void copy_band(DeformConvTraining const& p, Plan const& plan, Band const& band, float* copy) {
  for (int32_t row = band.top; row < band.bottom; ++row, copy += plan.row) {
    __builtin_memset(copy, 0, plan.row * sizeof(float));
    if (row < 0 || row >= p.height) continue;
    float const* from = p.x + (band.image * p.height + row) * p.width * p.channels;
    float* const first = copy + plan.left * plan.pixel;
    if (plan.pixel == p.channels) {
      __builtin_memcpy(first, from, p.width * plan.pixel * sizeof(float));
    } else {
      for (int32_t column = 0; column < p.width; ++column, from += p.channels) {
        for_groups(p, plan, [&](int64_t channel, int64_t place) {
          __builtin_memcpy(first + column * plan.pixel + place, from + channel, plan.group * sizeof(float));
        });
      }
    }
    if (p.wrap) __builtin_memcpy(first + p.width * plan.pixel, first, plan.pixel * sizeof(float));
  }
}

// to[i] += from[i] for i < count.
inline void add_floats(float* to, float const* from, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    store_first(to + i, load_first<Vec>(to + i, count - i) + load_first<Vec>(from + i, count - i), count - i);
  }
}

// What has gathered in the place of the band's copy, onto grad_x.
inline void add_band(DeformConvTraining const& p, Plan const& plan, Band const& band, float* gathered) {
  for (int32_t row = band.top; row < band.bottom; ++row, gathered += plan.row) {
    if (row < 0 || row >= p.height) continue;
    float* const first = gathered + plan.left * plan.pixel;
    if (p.wrap) add_floats(first, first + p.width * plan.pixel, plan.pixel);
    float* to = p.grad_x + (band.image * p.height + row) * p.width * p.channels;
    if (plan.pixel == p.channels) {
      add_floats(to, first, p.width * plan.pixel);
      continue;
    }
    for (int32_t column = 0; column < p.width; ++column, to += p.channels) {
      for_groups(p, plan, [&](int64_t channel, int64_t place) {
        add_floats(to + channel, first + column * plan.pixel + place, plan.group);
      });
    }
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::training
