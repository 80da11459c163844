// Convolution on the sphere for few channels (3 to 64), channel-major as the tensors are: no change of layout, and no
// channel is filled up to a vector.
//
// A unit is a band of rows and columns. Its input, with what the kernel sees beyond it, is staged in the second-level
// cache: there the columns wrap, sources lie side by side, and a leaky_relu costs nothing. Then each tile of columns is
// multiplied with up to kBlock output channels at once, all sums in registers, and finished (activation, residual,
// coupling) while it is in the first-level cache.
#pragma once

#include "math.h"
#include "params.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused {

using namespace dinn360::fused;

// kBlock channels times kColumns vectors are the sums; they fit the registers beside the operands.
#if defined(DINN360_CPU_PORTABLE)
constexpr int kBlock = 4, kColumns = 2;
#elif defined(__AVX2__) && !defined(__AVX512F__)
constexpr int kBlock = 4, kColumns = 2;
#else
constexpr int kBlock = 8, kColumns = 3;
#endif
constexpr int64_t kTile = int64_t{kColumns} * kLanes;
constexpr int64_t kBandColumns = 512;
constexpr int64_t kBandFloats = 160 * 1024;  // staged, at most: it leaves room in a second-level cache of 1 MiB
constexpr int64_t kMaxRows = 16;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct ConvPlan {
  explicit ConvPlan(ConvParams const& p) : radius(p.kernel / 2) {
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

// The output channels in blocks of nearly equal size.
struct Blocks {
  explicit Blocks(int64_t channels)
      : count(ceil_div(channels, kBlock)), each(channels / count), rest(channels % count) {}
  int64_t first(int64_t block) const { return block * each + smaller(block, rest); }
  int64_t size(int64_t block) const { return each + (block < rest); }
  int64_t count, each, rest;
};

// (O,C,k,k) as [block][C][k,k][channel of the block]: the order in which the tiles read.
inline void pack(ConvParams const& p, float* to) {
  int64_t const taps = int64_t{p.kernel} * p.kernel, inputs = p.channels * taps;
  Blocks const blocks(p.out_channels);
  for (int64_t block = 0; block < blocks.count; ++block) {
    for (int64_t input = 0; input < inputs; ++input) {
      for (int64_t o = 0; o < blocks.size(block); ++o) *to++ = p.weight[(blocks.first(block) + o) * inputs + input];
    }
  }
}

// One row of `count` columns from `first` on, cyclic or zero outside.
inline void stage_row(ConvParams const& p, float const* from, float const* addend, int64_t first, int64_t count,
                      int64_t filled, float* to) {
  int64_t const width = p.width;
  auto const value = [&](int64_t column) {
    if (p.wrap) column = column < 0 ? column + width : column >= width ? column - width : column;
    if (column < 0 || column >= width) return 0.f;
    float const sum = from[column] + (addend != nullptr ? addend[column] : 0.f);
    return sum < 0.f ? sum * p.input_slope : sum;
  };
  int64_t const last = smaller(first + count, width);
  int64_t column = first;
  for (; column < 0; ++column) *to++ = value(column);
  Vec const slope = broadcast(p.input_slope), zero{};
  bool const plain = p.input_slope == 1.f;
  for (; column + kLanes <= last; column += kLanes, to += kLanes) {
    Vec sum = load<Vec>(from + column);
    if (addend != nullptr) sum += load<Vec>(addend + column);
    store(to, plain ? sum : select(sum < zero, sum * slope, sum));
  }
  for (; column < first + count; ++column) *to++ = value(column);
  for (column -= first; column < filled; ++column) *to++ = 0.f;
}

inline void stage(ConvParams const& p, ConvPlan const& plan, int64_t image, int64_t top, int64_t left, float* to) {
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

// O output channels of P vectors of columns.
template <int K, int O, int P>
void multiply(float const* x, int64_t plane, int64_t row, int64_t channels, float const* weight, float const* bias,
              float* to) {
  Vec sums[O][P];
  DINN360_UNROLL
  for (int o = 0; o < O; ++o) {
    DINN360_UNROLL
    for (int p = 0; p < P; ++p) sums[o][p] = broadcast(bias[o]);
  }
  for (int64_t c = 0; c < channels; ++c, x += plane) {
    DINN360_UNROLL
    for (int r = 0; r < K; ++r) {
      DINN360_UNROLL
      for (int s = 0; s < K; ++s, weight += O) {
        Vec pixels[P];
        DINN360_UNROLL
        for (int p = 0; p < P; ++p) pixels[p] = load<Vec>(x + r * row + s + p * kLanes);
        DINN360_UNROLL
        for (int o = 0; o < O; ++o) {
          Vec const factor = broadcast(weight[o]);
          DINN360_UNROLL
          for (int p = 0; p < P; ++p) sums[o][p] = fma(factor, pixels[p], sums[o][p]);
        }
      }
    }
  }
  DINN360_UNROLL
  for (int o = 0; o < O; ++o) {
    DINN360_UNROLL
    for (int p = 0; p < P; ++p) store(to + o * kTile + p * kLanes, sums[o][p]);
  }
}

using Multiply = void (*)(float const*, int64_t, int64_t, int64_t, float const*, float const*, float*);

template <int K, int O>
Multiply multiply_columns(int64_t vectors) {
  static_assert(kColumns <= 3);
  switch (vectors) {
    case 1:
      return &multiply<K, O, 1>;
    case 2:
      return &multiply<K, O, 2>;
    default:
      return &multiply<K, O, kColumns>;
  }
}

template <int K>
Multiply multiply_block(int64_t outputs, int64_t vectors) {
  switch (outputs) {
    case 1:
      return multiply_columns<K, 1>(vectors);
    case 2:
      return multiply_columns<K, 2>(vectors);
    case 3:
      return multiply_columns<K, 3>(vectors);
    case 4:
      return multiply_columns<K, 4>(vectors);
#if !defined(DINN360_CPU_PORTABLE) && (!defined(__AVX2__) || defined(__AVX512F__))
    case 5:
      return multiply_columns<K, 5>(vectors);
    case 6:
      return multiply_columns<K, 6>(vectors);
    case 7:
      return multiply_columns<K, 7>(vectors);
    case 8:
      return multiply_columns<K, 8>(vectors);
#endif
    default:
      return nullptr;
  }
}

inline Vec activated(ConvParams const& p, Vec x) {
  switch (p.activation) {
    case Activation::kRelu:
      return larger(x, broadcast(0.f));
    case Activation::kLeakyRelu:
      return select(x < 0.f, x * p.slope, x);
    case Activation::kClip:
      return -larger(-larger(x, broadcast(-p.limit)), broadcast(-p.limit));
    case Activation::kGelu:
      return gelu(x);
    default:
      return x;
  }
}

inline Vec coupled(ConvParams const& p, Vec a, Vec b, Vec h) {
  if (p.coupling == Coupling::kProjectionInverse) return h * exponential(arctangent(b * 2.f) * -p.bound) - a;
  Vec const s = (sigmoid(a) * 2.f - 1.f) * p.bound;
  return p.coupling == Coupling::kAffine ? fma(h, exponential(s), b) : (h - b) * exponential(-s);
}

// A tile's sums [channel][kTile] become `count` columns of y at (row, column).
inline void finish(ConvParams const& p, float const* sums, int64_t image, int64_t row, int64_t column, int64_t count) {
  int64_t const size = int64_t{p.height} * p.width, place = row * p.width + column;
  int64_t const outputs = p.coupling == Coupling::kNone ? p.out_channels : p.out_channels / 2;
  int64_t const part = outputs / p.output_count;
  for (int64_t o = 0; o < outputs; ++o) {
    float const* const residual =
        p.residual.data == nullptr
            ? nullptr
            : p.residual.data + (image * p.residual.channels + p.residual.first + o) * size + place;
    float* const y = p.y[o / part] + (image * part + o % part) * size + place;
    for (int64_t i = 0; i < count; i += kLanes) {
      int64_t const here = count - i;
      Vec value = load<Vec>(sums + o * kTile + i);
      if (p.coupling != Coupling::kNone) {
        Vec const other = load<Vec>(sums + (outputs + o) * kTile + i);
        value = coupled(p, value, other, load_first<Vec>(residual + i, here));
      } else {
        value = activated(p, value);
        if (residual != nullptr) value += load_first<Vec>(residual + i, here);
      }
      store_first(y + i, value, here);
    }
  }
}

// One band. own: own_floats of memory.
inline void convolve(ConvParams const& p, float const* packed, float* own, int64_t unit) {
  ConvPlan const plan(p);
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
            sums + first * kTile);
      }
      finish(p, sums, image, top + row, left + column, smaller(kTile, right - column));
    }
  }
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused
