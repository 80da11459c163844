// 3x3 convolution on the sphere with a quarter of the products: Winograd's minimal filtering F(4x4, 3x3), as A. Lavin and
// S. Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), have it:
//
//   y = A^T [ sum over c of (G g_c G^T) * (B^T d_c B) ] A      d: 6x6 pixels, g: 3x3 weights, y: 4x4 pixels, *: by entry
//
// with the points 0, +-1/sqrt(2), +-sqrt(2) and infinity, at which fp32 loses half of what it loses at the usual
// 0, +-1, +-2. Lanes are tiles side by side.
//
// A unit is a strip of tiles; those of a row of tiles come one after the other, so that memory is read and written in
// whole rows and few pages are in use. Every input channel's rows are staged in the
// first-level cache as direct.h stages them and transformed: 36 matrices (C, tiles), one for each entry. Each is
// multiplied with its matrix (O,C) of weights; the result takes the place of the entry before it, which is done with.
// The inverse transform of a channel is finished (bias, activation, residual, coupling) while it is in the first-level
// cache. All of it stays in the second-level cache: at 48 channels 330 KiB beside as much of weights.
#pragma once

#include "products.h"
#include "rows.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused::winograd {

constexpr int64_t kSide = 4, kWindow = 6, kEntries = kWindow * kWindow;
constexpr int64_t kStrip = 48;             // tiles, at most
constexpr int64_t kRow = kStrip + kLanes;  // floats of every fourth column of a row, with what the last tile sees
constexpr double kNear = 0.70710678118654752440, kFar = 1.41421356237309504880;
static_assert(kStrip % kTile == 0);

// Whether the products saved are worth the transforms: from 3 channels to 48, or 48 to 3, they just are.
inline bool pays(ConvParams const& p) { return p.kernel == 3 && int64_t{p.channels} * p.out_channels >= 144; }

struct Plan {
  explicit Plan(ConvParams const& p) {
    int64_t const vectors = ceil_div(ceil_div(p.width, kSide), kLanes);
    across = ceil_div(vectors, kStrip / kLanes);
    strip = ceil_div(vectors, across) * kLanes;
    across = ceil_div(vectors * kLanes, strip);
    down = ceil_div(p.height, kSide);
    // Entries an odd number of cache lines apart, or they would meet in a few cache sets.
    matrix = (p.channels > p.out_channels ? p.channels : p.out_channels) * strip;
    matrix = round_up(matrix, 2 * kLineFloats) + kLineFloats;
  }

  int64_t across, down;  // strips side by side, and below each other
  int64_t strip;         // tiles, whole vectors
  int64_t matrix;        // floats from one entry's to the next
};

// Six rows of a channel going in, or twice four rows coming out.
constexpr int64_t kStaged = kSide * (kWindow * kRow > 2 * kSide * kStrip ? kWindow * kRow : 2 * kSide * kStrip);
constexpr int64_t kLine = kSide * kRow + 2 * kLanes;

inline int64_t packed_floats(ConvParams const& p) { return kEntries * p.out_channels * p.channels; }
inline int64_t own_floats(ConvParams const& p) { return (kEntries + 1) * Plan(p).matrix + kStaged + kLine; }
inline int64_t units(ConvParams const& p) {
  Plan const plan(p);
  return p.batch * plan.across * plan.down;
}

// G g G^T in double, entry by entry as the products read them.
inline void pack(ConvParams const& p, float* to) {
  constexpr double kPoints[] = {0, kNear, -kNear, kFar, -kFar};
  double g[kWindow][3] = {{}, {}, {}, {}, {}, {0, 0, 1}};
  for (int i = 0; i < 5; ++i) {
    double product = 1;
    for (int j = 0; j < 5; ++j) product *= i == j ? 1 : kPoints[i] - kPoints[j];
    for (int k = 0; k < 3; ++k) g[i][k] = (k == 0 ? 1 : k == 1 ? kPoints[i] : kPoints[i] * kPoints[i]) / product;
  }
  Blocks const blocks(p.out_channels);
  for (int64_t entry = 0; entry < kEntries; ++entry) {
    double factors[9];
    for (int r = 0; r < 3; ++r) {
      for (int s = 0; s < 3; ++s) factors[3 * r + s] = g[entry / kWindow][r] * g[entry % kWindow][s];
    }
    for (int64_t block = 0; block < blocks.count; ++block) {
      for (int64_t c = 0; c < p.channels; ++c) {
        for (int64_t o = 0; o < blocks.size(block); ++o) {
          float const* const weight = p.weight + ((blocks.first(block) + o) * p.channels + c) * 9;
          double sum = 0;
          for (int i = 0; i < 9; ++i) sum += factors[i] * weight[i];
          *to++ = static_cast<float>(sum);
        }
      }
    }
  }
}

// B^T d.
inline void transform(Vec const (&d)[kWindow], Vec (&t)[kWindow]) {
  Vec const middle = broadcast(-2.5f), two = broadcast(-2.f), half = broadcast(-0.5f);
  Vec const near = broadcast(static_cast<float>(kNear)), far = broadcast(static_cast<float>(kFar));
  Vec const even_near = fma(two, d[2], d[4]), odd_near = near * fma(two, d[1], d[3]);
  Vec const even_far = fma(half, d[2], d[4]), odd_far = far * fma(half, d[1], d[3]);
  t[0] = fma(middle, d[2], d[0] + d[4]);
  t[1] = even_near + odd_near;
  t[2] = even_near - odd_near;
  t[3] = even_far + odd_far;
  t[4] = even_far - odd_far;
  t[5] = fma(middle, d[3], d[1] + d[5]);
}

// A^T m.
inline void invert(Vec const (&m)[kWindow], Vec (&y)[kSide]) {
  Vec const near = broadcast(static_cast<float>(kNear)), far = broadcast(static_cast<float>(kFar));
  Vec const half = broadcast(0.5f), two = broadcast(2.f);
  Vec const even_near = m[1] + m[2], even_far = m[3] + m[4];
  Vec const odd_near = near * (m[1] - m[2]), odd_far = far * (m[3] - m[4]);
  y[0] = m[0] + (even_near + even_far);
  y[1] = odd_near + odd_far;
  y[2] = fma(two, even_far, half * even_near);
  y[3] = fma(two, odd_far, fma(half, odd_near, m[5]));
}

// `rows` rows of `columns` into the caches: pieces so short that no prefetcher of the CPU's own has learnt them in time.
template <int kWrite>
void expect(float const* from, int64_t row, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r, from += row) {
    for (int64_t i = 0; i < columns; i += kLineFloats) __builtin_prefetch(from + i, kWrite);
  }
}

// A row from column `left` - 1 on, as far as `vectors` of tiles see, to[k][i] column 4i + k. Meanwhile the row `next` is
// fetched, or none: little by little, for a burst of it would hold up what is stored.
inline void stage_columns(ConvParams const& p, float const* from, float const* next, float const* addend, int64_t left,
                          int64_t vectors, float* staged, float* to) {
  int64_t const tiles = vectors * kLanes, seen = kSide * tiles + 2;
  float const* line = from + left - 1;
  if (left == 0 || left - 1 + seen > p.width || addend != nullptr || p.input_slope != 1.f) {
    stage_row(p, from, addend, left - 1, smaller(seen, p.width - left + 2), seen, staged);
    line = staged;
  }
  for (int64_t i = 0; i < tiles; i += kLanes, line += kSide * kLanes) {
    if (next != nullptr) expect<0>(next + left + i * kSide, 0, 1, kSide * kLanes);
    Vec columns[kSide];
    DINN360_UNROLL
    for (int k = 0; k < kSide; ++k) columns[k] = load<Vec>(line + k * kLanes);
    deinterleave(columns);
    DINN360_UNROLL
    for (int k = 0; k < kSide; ++k) store(to + k * kRow + i, columns[k]);
  }
  Vec const zero{};
  for (int k = 0; k < 2; ++k) {
    store(to + k * kRow + tiles, zero);
    to[k * kRow + tiles] = line[k];
  }
}

// One channel's rows from top - 1 on to row c of the 36 matrices. next: the channel after it, or null. staged: kStaged
// floats, line: kLine.
inline void transform_channel(ConvParams const& p, Plan const& plan, float const* plane, float const* next,
                              float const* addend, int64_t top, int64_t left, int64_t vectors, float* staged,
                              float* line, float* to) {
  int64_t const tiles = vectors * kLanes;
  for (int64_t r = 0; r < kWindow; ++r) {
    int64_t const row = top - 1 + r;
    float* const here = staged + r * kSide * kRow;
    if (row < 0 || row >= p.height) {
      __builtin_memset(here, 0, kSide * kRow * sizeof(float));
    } else {
      float const* const added = addend == nullptr ? nullptr : addend + row * p.width;
      float const* const later = next == nullptr ? nullptr : next + row * p.width;
      stage_columns(p, plane + row * p.width, later, added, left, vectors, line, here);
    }
  }
  Vec d[kWindow], t[kWindow];
  for (int64_t k = 0; k < kSide; ++k) {
    for (int64_t i = 0; i < (k < 2 ? tiles + kLanes : tiles); i += kLanes) {
      float* const here = staged + k * kRow + i;
      DINN360_UNROLL
      for (int r = 0; r < kWindow; ++r) d[r] = load<Vec>(here + r * kSide * kRow);
      transform(d, t);
      DINN360_UNROLL
      for (int r = 0; r < kWindow; ++r) store(here + r * kSide * kRow, t[r]);
    }
  }
  for (int64_t r = 0; r < kWindow; ++r, staged += kSide * kRow, to += kWindow * plan.matrix) {
    for (int64_t i = 0; i < tiles; i += kLanes) {
      DINN360_UNROLL
      for (int k = 0; k < kWindow; ++k) d[k] = load<Vec>(staged + k % kSide * kRow + k / kSide + i);
      transform(d, t);
      DINN360_UNROLL
      for (int k = 0; k < kWindow; ++k) store(to + k * plan.matrix + i, t[k]);
    }
  }
}

// Row o of the 36 matrices to four rows of columns, `apart` floats from one to the next.
inline void invert_channel(Plan const& plan, float const* from, float bias, int64_t vectors, float* to, int64_t apart) {
  for (int64_t v = 0; v < vectors; ++v, from += kLanes, to += kSide * kLanes) {
    Vec halfway[kSide][kWindow];
    DINN360_UNROLL
    for (int r = 0; r < kWindow; ++r) {
      Vec m[kWindow], y[kSide];
      DINN360_UNROLL
      for (int k = 0; k < kWindow; ++k) m[k] = load<Vec>(from + (r * kWindow + k) * plan.matrix);
      invert(m, y);
      DINN360_UNROLL
      for (int k = 0; k < kSide; ++k) halfway[k][r] = y[k];
    }
    Vec y[kSide][kSide];
    DINN360_UNROLL
    for (int k = 0; k < kSide; ++k) invert(halfway[k], y[k]);
    DINN360_UNROLL
    for (int r = 0; r < kSide; ++r) {
      Vec columns[kSide];
      DINN360_UNROLL
      for (int k = 0; k < kSide; ++k) columns[k] = y[k][r] + bias;
      interleave(columns);
      DINN360_UNROLL
      for (int k = 0; k < kSide; ++k) store(to + r * apart + k * kLanes, columns[k]);
    }
  }
}

// One entry: from (C,tiles), weights (O,C), to (O,tiles).
inline void multiply_entry(ConvParams const& p, Plan const& plan, float const* from, float const* packed,
                           int64_t vectors, float* to) {
  static constexpr float kNoBias[kBlock] = {};
  Blocks const blocks(p.out_channels);
  for (int64_t vector = 0; vector < vectors; vector += kColumns) {
    int64_t const here = smaller(kColumns, vectors - vector), column = vector * kLanes;
    for (int64_t block = 0; block < blocks.count; ++block) {
      int64_t const first = blocks.first(block);
      multiply_block<1>(blocks.size(block), here)(from + column, plan.strip, 0, p.channels, packed + first * p.channels,
                                                  kNoBias, to + first * plan.strip + column, plan.strip);
    }
  }
}

// One unit. own: own_floats of memory.
inline void convolve(ConvParams const& p, float const* packed, float* own, int64_t unit) {
  Plan const plan(p);
  int64_t const size = int64_t{p.height} * p.width;
  int64_t const image = unit / (plan.down * plan.across), top = unit / plan.across % plan.down * kSide;
  int64_t const left = unit % plan.across * plan.strip * kSide, place = top * p.width + left;
  int64_t const rows = smaller(kSide, p.height - top), columns = smaller(plan.strip * kSide, p.width - left);
  int64_t const vectors = ceil_div(columns, kSide * kLanes);
  float *const inputs = own + plan.matrix, *const staged = own + (kEntries + 1) * plan.matrix;
  float* const line = staged + kStaged;
  bool const streams = past_caches(p);
  int64_t channel = 0;
  for (int32_t i = 0; i < p.source_count; ++i) {
    Channels const& source = p.sources[i];
    for (int64_t c = 0; c < source.count; ++c, ++channel) {
      int64_t const plane = (image * source.channels + source.first + c) * size;
      float const* const next = c + 1 < source.count ? source.data + plane + size : nullptr;
      transform_channel(p, plan, source.data + plane, next, p.addend == nullptr ? nullptr : p.addend + plane, top, left,
                        vectors, staged, line, inputs + channel * plan.strip);
    }
  }
  for (int64_t entry = 0; entry < kEntries; ++entry) {
    multiply_entry(p, plan, inputs + entry * plan.matrix, packed + entry * p.out_channels * p.channels, vectors,
                   own + entry * plan.matrix);
  }
  constexpr int64_t kApart = kSide * kStrip;
  float* const others = staged + kSide * kApart;
  int64_t const part = results(p) / p.output_count;
  for (int64_t o = 0; o < results(p); ++o) {
    if (int64_t const next = o + 1; next < results(p)) {
      float const* const y = p.y[next / part] + (image * part + next % part) * size + place;
      if (!streams) expect<1>(y, p.width, rows, columns);
      if (p.residual.data != nullptr) {
        int64_t const channel = image * p.residual.channels + p.residual.first + next;
        expect<0>(p.residual.data + channel * size + place, p.width, rows, columns);
      }
    }
    invert_channel(plan, own + o * plan.strip, p.bias[o], vectors, staged, kApart);
    if (p.coupling != Coupling::kNone) {
      int64_t const other = results(p) + o;
      invert_channel(plan, own + other * plan.strip, p.bias[other], vectors, others, kApart);
    }
    for (int64_t r = 0; r < rows; ++r) {
      finish(p, staged + r * kApart, others + r * kApart, image, o, top + r, left, columns, streams);
    }
  }
  finish_streams();
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused::winograd
