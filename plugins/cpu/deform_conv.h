// Deformable convolution: one channels-last copy of an image, then for each tile of pixels the samples are gathered into
// the first-level cache and multiplied with the weights there, all sums in registers.
//
// The copy has a rim of zeros as wide as a sample can reach past the image (with wrap: a column that repeats the first),
// so that every sample is four plain loads with no case to tell apart. Coordinates are whole pixels plus the fraction of
// the offset, so that their precision does not depend on the width.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace dinn360::cpu::DINN360_CPU_SET::deform {

constexpr int32_t kRim = 2;             // rows and columns beyond the image: a sample outside takes two of them
constexpr int32_t kBlockPixels = 48;    // whole tiles and whole vectors
constexpr int64_t kUnitPixels = 192;
static_assert(kBlockPixels % kTilePixels == 0 && kBlockPixels % kLanes == 0 && kUnitPixels % kBlockPixels == 0);

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Where a block's samples are: the upper left pixel of each in the copy, and the weights of its four pixels.
struct Samples {
  int32_t place[kBlockPixels];
  float upper_left[kBlockPixels], upper_right[kBlockPixels], lower_left[kBlockPixels], lower_right[kBlockPixels];
};

struct Plan {
  explicit Plan(DeformConvParams const& p);

  int64_t taps, pixels;               // of the kernel; of an output plane
  int64_t slice, slices;              // channels that share group and offset group; how many such slices
  int64_t slice_vectors;
  int64_t group_inputs, group_outputs, group_vectors;
  int64_t pixel, row, rows;           // the copy: floats of a pixel, floats of a row, rows
  int32_t left;                       // rim columns on the left
  int64_t packed;                     // floats of the packed weights, behind the copy; then the packed bias
  int64_t staged;                     // floats of an output pixel in the staging area

  int64_t copy_floats() const { return round_up(rows * row + kLanes, 16); }
  int64_t bias_floats() const { return staged; }
  int64_t samples_bytes(DeformConvParams const& p) const { return p.offset_groups * taps * int64_t{sizeof(Samples)}; }
  int64_t tile_floats() const { return slices * taps * slice_vectors * kTilePixels * kLanes; }
};

inline int64_t common_divisor(int64_t a, int64_t b) { return b == 0 ? a : common_divisor(b, a % b); }

inline Plan::Plan(DeformConvParams const& p) {
  taps = int64_t{p.kernel_rows} * p.kernel_columns;
  pixels = int64_t{p.out_height} * p.out_width;
  group_inputs = p.channels / p.groups;
  group_outputs = p.out_channels / p.groups;
  group_vectors = ceil_div(group_outputs, kLanes);
  slice = common_divisor(group_inputs, p.channels / p.offset_groups);
  slices = p.channels / slice;
  slice_vectors = ceil_div(slice, kLanes);
  pixel = round_up(p.channels, 8);
  left = p.wrap ? 0 : kRim;
  row = (int64_t{p.width} + (p.wrap ? 1 : 2 * kRim)) * pixel;
  rows = int64_t{p.height} + 2 * kRim;
  packed = p.groups * group_vectors * kLanes * group_inputs * taps;
  staged = p.groups * group_vectors * kLanes;
}

// ---- phase 1: the copy and the packed weights

// One row of the copy: channels last, zeros in the rim and in the channels that fill a pixel up.
template <class T>
void copy_row(DeformConvParams const& p, Plan const& plan, float* copy, int64_t batch, int64_t row) {
  float* const to = copy + row * plan.row;
  int64_t const source = row - kRim;
  if (source < 0 || source >= p.height) {
    __builtin_memset(to, 0, plan.row * sizeof(float));
    return;
  }
  int64_t const plane = int64_t{p.height} * p.width;
  T const* const from = static_cast<T const*>(p.x) + batch * p.channels * plane + source * p.width;
  float* const first = to + plan.left * plan.pixel;
  constexpr int64_t kStrip = 16;  // a cache line of each plane is read at once: planes often share their cache sets
  for (int64_t column = 0; column < p.width; column += kStrip) {
    int64_t const strip = p.width - column < kStrip ? p.width - column : kStrip;
    for (int64_t channel = 0; channel < plan.pixel; channel += 4) {
      for (int64_t at = 0; at < strip; at += 4) {
        Vec4 block[4];
        for (int i = 0; i < 4; ++i) {
          T const* const line = from + (channel + i) * plane + column + at;
          block[i] = channel + i < p.channels ? load_first<Vec4>(line, strip - at) : Vec4{};
        }
        transpose(block);
        int64_t const count = strip - at < 4 ? strip - at : 4;
        for (int i = 0; i < count; ++i) store(first + (column + at + i) * plan.pixel + channel, block[i]);
      }
    }
  }
  if (p.wrap) {
    __builtin_memcpy(first + p.width * plan.pixel, first, plan.pixel * sizeof(float));
  } else {
    __builtin_memset(to, 0, kRim * plan.pixel * sizeof(float));
    __builtin_memset(first + p.width * plan.pixel, 0, kRim * plan.pixel * sizeof(float));
  }
}

// Weights in the order of their use: [group][register tile of outputs][slice][tap][channel][output], zeros beyond O.
template <class T>
void pack_weights(DeformConvParams const& p, Plan const& plan, float* packed, float* bias) {
  T const* const weight = static_cast<T const*>(p.weight);
  for (int64_t group = 0; group < p.groups; ++group) {
    for (int64_t vector = 0; vector < plan.group_vectors; vector += kTileVectors) {
      int64_t const left = plan.group_vectors - vector, vectors = left < kTileVectors ? left : kTileVectors;
      for (int64_t slice = 0; slice < plan.group_inputs / plan.slice; ++slice) {
        for (int64_t tap = 0; tap < plan.taps; ++tap) {
          for (int64_t channel = slice * plan.slice; channel < (slice + 1) * plan.slice; ++channel) {
            for (int64_t i = vector * kLanes; i < (vector + vectors) * kLanes; ++i) {
              int64_t const output = group * plan.group_outputs + i;
              bool const real = i < plan.group_outputs;
              *packed++ = real ? to_float(weight[(output * plan.group_inputs + channel) * plan.taps + tap]) : 0.f;
            }
          }
        }
      }
    }
    for (int64_t i = 0; i < plan.group_vectors * kLanes; ++i) {
      bool const real = i < plan.group_outputs;
      *bias++ = real ? to_float(static_cast<T const*>(p.bias)[group * plan.group_outputs + i]) : 0.f;
    }
  }
}

// ---- phase 2: the convolution

// `column` modulo `width`.
inline IntVec wrapped(IntVec column, int32_t width) {
  column += column < 0 ? IntVec{} + width : IntVec{};
  column -= column >= width ? IntVec{} + width : IntVec{};
  IntVec const outside = (column < 0) | (column >= width);
  for (int i = 0; i < kLanes; ++i) {
    if (outside[i]) column[i] = column[i] % width + (column[i] % width < 0 ? width : 0);
  }
  return column;
}

inline IntVec clamped(IntVec value, int32_t low, int32_t high) {
  value = value < low ? IntVec{} + low : value;
  return value > high ? IntVec{} + high : value;
}

// The samples of one tap of one offset group for the `count` output pixels from `first` on.
template <class T>
void locate(DeformConvParams const& p, Plan const& plan, int32_t const* rows, int32_t const* columns, T const* offset,
            T const* mask, int64_t count, int32_t tap_row, int32_t tap_column, Samples& out) {
  constexpr float kFar = 0x1p30f;  // floor and pixel still fit an int32 together
  int32_t const row_pixels = static_cast<int32_t>(plan.row / plan.pixel);
  Vec const one = broadcast(1.f);
  for (int64_t at = 0; at < count; at += kLanes) {
    Vec down = load_first<Vec>(offset + at, count - at);
    Vec across = load_first<Vec>(offset + plan.pixels + at, count - at);
    IntVec const finite = (down - down == 0.f) & (across - across == 0.f);
    down = finite ? larger(broadcast(-kFar), -larger(broadcast(-kFar), -down)) : Vec{};
    across = finite ? larger(broadcast(-kFar), -larger(broadcast(-kFar), -across)) : Vec{};
    IntVec const down_floor = floor_to_int(down), across_floor = floor_to_int(across);
    Vec const lower = down - __builtin_convertvector(down_floor, Vec);
    Vec const right = across - __builtin_convertvector(across_floor, Vec);
    IntVec row = load_bits<IntVec>(rows + at) + tap_row + down_floor;
    IntVec column = load_bits<IntVec>(columns + at) + tap_column + across_floor;
    row = clamped(finite ? row : IntVec{} - kRim, -kRim, p.height) + kRim;
    column = p.wrap ? wrapped(column, p.width) : clamped(column, -kRim, p.width) + kRim;
    Vec const factor = mask == nullptr ? one : load_first<Vec>(mask + at, count - at);
    store_bits(out.place + at, row * row_pixels + column);
    Vec const upper = (one - lower) * factor, below = lower * factor;
    store_bits(out.upper_left + at, upper * (one - right));
    store_bits(out.upper_right + at, upper * right);
    store_bits(out.lower_left + at, below * (one - right));
    store_bits(out.lower_right + at, below * right);
  }
}

// Bilinear samples of a tile's pixels into tile[pixel][lane] of each vector of the slice. kVectors 0: `vectors` of them.
template <int kVectors>
inline void gather(float const* image, Plan const& plan, Samples const& samples, int64_t first, int64_t vectors,
                   float* tile) {
  if (kVectors != 0) vectors = kVectors;
  for (int64_t i = 0; i < kTilePixels; ++i) {
    int64_t const at = first + i;
    float const* const upper = image + samples.place[at] * plan.pixel;
    float const* const lower = upper + plan.row;
    Vec const upper_left = broadcast(samples.upper_left[at]), upper_right = broadcast(samples.upper_right[at]);
    Vec const lower_left = broadcast(samples.lower_left[at]), lower_right = broadcast(samples.lower_right[at]);
    float* to = tile + i * kLanes;
    for (int64_t v = 0; v < vectors; ++v, to += kTilePixels * kLanes) {
      Vec sum = upper_left * load<Vec>(upper + v * kLanes);
      sum = fma(upper_right, load<Vec>(upper + plan.pixel + v * kLanes), sum);
      sum = fma(lower_left, load<Vec>(lower + v * kLanes), sum);
      store(to, fma(lower_right, load<Vec>(lower + plan.pixel + v * kLanes), sum));
    }
  }
}

// Sums over `channels` of a vector of samples: sum[pixel][vector] += tile[pixel][channel] * weight[channel][vector].
template <int kVectors>
inline void multiply(Vec (&sum)[kTilePixels][kVectors], float const* tile, float const*& weight, int64_t channels) {
  for (int64_t channel = 0; channel < channels; ++channel) {
    Vec w[kVectors];
    DINN360_UNROLL
    for (int v = 0; v < kVectors; ++v) w[v] = load<Vec>(weight + v * kLanes);
    DINN360_UNROLL
    for (int i = 0; i < kTilePixels; ++i) {
      Vec const sample = broadcast(tile[i * kLanes + channel]);
      DINN360_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(sample, w[v], sum[i][v]);
    }
    weight += kVectors * kLanes;
  }
}

// kVectors vectors of outputs for a tile of samples: out[pixel][output] = bias + samples * weights.
template <int kVectors>
void convolve(Plan const& plan, float const* tile, float const* weight, float const* bias, float* out) {
  Vec sum[kTilePixels][kVectors];
  DINN360_UNROLL
  for (int i = 0; i < kTilePixels; ++i) {
    DINN360_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[i][v] = load<Vec>(bias + v * kLanes);
  }
  int64_t const segments = plan.group_inputs / plan.slice * plan.taps;
  for (int64_t segment = 0; segment < segments; ++segment) {
    for (int64_t left = plan.slice; left > 0; left -= kLanes, tile += kTilePixels * kLanes) {
      multiply<kVectors>(sum, tile, weight, left < kLanes ? left : kLanes);
    }
  }
  DINN360_UNROLL
  for (int i = 0; i < kTilePixels; ++i) {
    DINN360_UNROLL
    for (int v = 0; v < kVectors; ++v) store(out + i * plan.staged + v * kLanes, sum[i][v]);
  }
}

template <int kVectors>
void convolve_some(Plan const& plan, int64_t vectors, float const* tile, float const* weight, float const* bias,
                   float* out) {
  if (vectors == kVectors) return convolve<kVectors>(plan, tile, weight, bias, out);
  if constexpr (kVectors > 1) convolve_some<kVectors - 1>(plan, vectors, tile, weight, bias, out);
}

// All outputs of one tile of samples.
inline void convolve_tile(DeformConvParams const& p, Plan const& plan, float const* tile, float const* packed,
                          float const* bias, float* out) {
  int64_t const inputs = plan.group_inputs * plan.taps;
  for (int64_t group = 0; group < p.groups; ++group) {
    for (int64_t vector = 0; vector < plan.group_vectors; vector += kTileVectors) {
      int64_t const left = plan.group_vectors - vector, vectors = left < kTileVectors ? left : kTileVectors;
      convolve_some<kTileVectors>(plan, vectors, tile, packed, bias, out);
      packed += vectors * kLanes * inputs;
      bias += vectors * kLanes;
      out += vectors * kLanes;
    }
    tile += plan.tile_floats() / p.groups;
  }
}

// staged[pixel][output] into the planes of y.
template <class T>
void store_block(DeformConvParams const& p, Plan const& plan, float const* staged, T* y, int64_t count) {
  for (int64_t group = 0; group < p.groups; ++group) {
    for (int64_t output = 0; output < plan.group_outputs; output += 4) {
      float const* const from = staged + group * plan.group_vectors * kLanes + output;
      T* const to = y + (group * plan.group_outputs + output) * plan.pixels;
      int64_t const left = plan.group_outputs - output, planes = left < 4 ? left : 4;
      for (int64_t at = 0; at < count; at += 4) {
        Vec4 block[4];
        for (int i = 0; i < 4; ++i) block[i] = load<Vec4>(from + (at + i) * plan.staged);
        transpose(block);
        for (int i = 0; i < planes; ++i) store_first(to + i * plan.pixels + at, block[i], count - at);
      }
    }
  }
}

inline void gather_tile(Plan const& plan, float const* image, Samples const* samples, int64_t slices_of_field,
                        int64_t first, float* tile) {
  int64_t const vectors = plan.slice_vectors;
  for (int64_t slice = 0; slice < plan.slices; ++slice) {
    Samples const* const field = samples + slice / slices_of_field * plan.taps;
    for (int64_t tap = 0; tap < plan.taps; ++tap, tile += vectors * kTilePixels * kLanes) {
      float const* const from = image + slice * plan.slice;
      switch (vectors) {
        case 1: gather<1>(from, plan, field[tap], first, vectors, tile); break;
        case 2: gather<2>(from, plan, field[tap], first, vectors, tile); break;
        case 4: gather<4>(from, plan, field[tap], first, vectors, tile); break;
        default: gather<0>(from, plan, field[tap], first, vectors, tile);
      }
    }
  }
}

// What a worker needs for a block: in this order.
struct Scratch {
  Scratch(DeformConvParams const& p, Plan const& plan, char* memory) {
    samples = reinterpret_cast<Samples*>(memory);
    tile = reinterpret_cast<float*>(memory + round_up(plan.samples_bytes(p), 64));
    staged = tile + plan.tile_floats();
  }
  static int64_t bytes(DeformConvParams const& p, Plan const& plan) {
    return round_up(plan.samples_bytes(p), 64) + 4 * (plan.tile_floats() + kBlockPixels * plan.staged);
  }
  Samples* samples;
  float* tile;
  float* staged;
};

template <class T>
void run_block(DeformConvParams const& p, Plan const& plan, float const* copy, Scratch const& scratch, int64_t batch,
               int64_t first, int64_t count) {
  int32_t rows[kBlockPixels] = {}, columns[kBlockPixels] = {};
  for (int64_t i = 0; i < count; ++i) {
    rows[i] = static_cast<int32_t>((first + i) / p.out_width) * p.stride_row - p.pad_row;
    columns[i] = static_cast<int32_t>((first + i) % p.out_width) * p.stride_column - p.pad_column;
  }
  int64_t const fields = p.offset_groups * plan.taps;
  T const* const offset = static_cast<T const*>(p.offset) + batch * 2 * fields * plan.pixels + first;
  T const* const mask = p.mask ? static_cast<T const*>(p.mask) + batch * fields * plan.pixels + first : nullptr;
  for (int64_t field = 0; field < fields; ++field) {
    int64_t const tap = field % plan.taps;
    if (count < kBlockPixels) __builtin_memset(&scratch.samples[field], 0, sizeof(Samples));
    locate(p, plan, rows, columns, offset + 2 * field * plan.pixels, mask ? mask + field * plan.pixels : nullptr, count,
           static_cast<int32_t>(tap / p.kernel_columns) * p.dilation_row,
           static_cast<int32_t>(tap % p.kernel_columns) * p.dilation_column, scratch.samples[field]);
  }
  float const* const packed = copy + plan.copy_floats();
  for (int64_t at = 0; at < count; at += kTilePixels) {
    gather_tile(plan, copy, scratch.samples, plan.slices / p.offset_groups, at, scratch.tile);
    convolve_tile(p, plan, scratch.tile, packed, packed + plan.packed, scratch.staged + at * plan.staged);
  }
  store_block(p, plan, scratch.staged, static_cast<T*>(p.y) + batch * p.out_channels * plan.pixels + first, count);
}

template <class T>
void run_typed(DeformConvParams const& p, Memory memory, int32_t phase, int64_t unit) {
  Plan const plan(p);
  float* const copy = reinterpret_cast<float*>(memory.shared);
  int64_t const batch = phase / 2;
  if (phase % 2 == 1) {
    Scratch const scratch(p, plan, memory.own);
    int64_t const end = (unit + 1) * kUnitPixels < plan.pixels ? (unit + 1) * kUnitPixels : plan.pixels;
    for (int64_t first = unit * kUnitPixels; first < end; first += kBlockPixels) {
      int64_t const left = end - first;
      run_block<T>(p, plan, copy, scratch, batch, first, left < kBlockPixels ? left : kBlockPixels);
    }
  } else if (unit > 0) {
    copy_row<T>(p, plan, copy, batch, unit - 1);
  } else if (phase == 0) {
    float* const packed = copy + plan.copy_floats();
    pack_weights<T>(p, plan, packed, packed + plan.packed);
  }
}

inline size_t shared_bytes(DeformConvParams const& p) {
  Plan const plan(p);
  return sizeof(float) * static_cast<size_t>(plan.copy_floats() + plan.packed + plan.bias_floats());
}

inline size_t own_bytes(DeformConvParams const& p) { return static_cast<size_t>(Scratch::bytes(p, Plan(p))); }

// For each image of the batch: its copy (the first one with the weights), then its convolution.
inline int32_t phases(DeformConvParams const& p) { return 2 * p.batch; }

inline int64_t units(DeformConvParams const& p, int32_t phase) {
  Plan const plan(p);
  return phase % 2 == 0 ? 1 + plan.rows : ceil_div(plan.pixels, kUnitPixels);
}

inline void run(DeformConvParams const& p, Memory memory, int32_t phase, int64_t unit) {
  p.type == DataType::kHalf ? run_typed<Half>(p, memory, phase, unit) : run_typed<float>(p, memory, phase, unit);
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::deform
