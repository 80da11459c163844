// DST attention: what a launch and a block of it have to do, and how tiles lie in shared memory.
//
// A block of four warps takes one tile of 64 queries (of an 8x8 window: all of them) for each of up to four units. A
// unit is one head in one window. Units of a block are neighbours in memory: windows side by side where rows of a
// channel are contiguous (kLinear), heads of one window where a pixel's channels are: whole sectors are used.
#pragma once

#include "../params.h"
#include "pieces.cuh"

namespace dinn360::dst {

using pieces::ceil_div;
using simt::Global;
using simt::Shared;

inline constexpr int kThreads = 128;
inline constexpr int kQueries = 64;  // of a tile; 16 for each warp
inline constexpr int kMaxWindow = 16;
inline constexpr int kMaxDepth = 64;

// n / divisor for n up to 1024 and divisors up to 64, by a multiplication.
struct Divisor {
  uint32_t divisor, factor;
  __host__ __device__ explicit Divisor(int value)
      : divisor(static_cast<uint32_t>(value)), factor((65536u + divisor - 1) / divisor) {}
  __device__ __forceinline__ int2 of(int n) const {  // quotient and remainder
    uint32_t const quotient = static_cast<uint32_t>(n) * factor >> 16;
    return make_int2(static_cast<int>(quotient), n - static_cast<int>(quotient * divisor));
  }
};

// A call, prepared by the host for every thread. Units of a block: 2^window_bits windows of 2^head_bits heads each.
template <class T>
struct Plan {
  Global<T const> q, k, v, bias, scale, offset;
  Global<T> y;
  int batch, height, width, channels, stored_channels;
  int heads, depth, window, shift;
  bool wrap;
  int tokens;        // of a window
  int down, across;  // windows
  int window_bits = 0, head_bits = 0;
  int twist;                                           // tiles of a block's h-th head have row r at r ^ h * twist
  int strips, head_groups, query_tiles;                // a row of windows: strips * head_groups * query_tiles blocks
  int64_t pixel_stride, channel_stride, image_stride;  // elements
  float score_factor;                                  // log2(e) / sqrt(depth): the softmax works in powers of two
  Divisor by_window;

  // A block takes up to `units` units, a power of two, and `step` keys at a time; tiles have `chunks` chunks a row.
  Plan(DstAttentionParams const& p, int units, int step, int chunks)
      : q{static_cast<T const*>(p.q)},
        k{static_cast<T const*>(p.k)},
        v{static_cast<T const*>(p.v)},
        bias{static_cast<T const*>(p.bias)},
        scale{static_cast<T const*>(p.scale)},
        offset{static_cast<T const*>(p.offset)},
        y{static_cast<T*>(p.y)},
        batch(p.batch),
        height(p.height),
        width(p.width),
        channels(p.channels),
        heads(p.heads),
        depth(p.channels / p.heads),
        window(p.window),
        shift(p.shift),
        wrap(p.wrap != 0),
        tokens(p.window * p.window),
        by_window(p.window) {
    down = static_cast<int>(ceil_div(height, window));
    across = static_cast<int>(ceil_div(width, window));
    bool const channels_last = p.layout != Layout::kLinear;
    stored_channels = p.layout == Layout::kHWC8 ? static_cast<int>(ceil_div(channels, 8)) * 8 : channels;
    pixel_stride = channels_last ? stored_channels : 1;
    channel_stride = channels_last ? 1 : int64_t{height} * width;
    image_stride = int64_t{stored_channels} * height * width;
    score_factor = 1.44269504f / sqrtf(static_cast<float>(depth));
    if (tokens > step) units = 1;  // the keys of several steps pass through the tiles of one unit
    auto const take_heads = [&] {
      for (; units > 1 && heads % (2 << head_bits) == 0; units /= 2) ++head_bits;
    };
    if (channels_last) take_heads();
    for (; units > 1 && 1 << window_bits < across; units /= 2) ++window_bits;
    take_heads();
    // So eight lanes that load all chunks of all heads of a pixel, or a few, store to eight different groups of banks.
    twist = chunks << head_bits < 8 ? 8 / (chunks << head_bits) : 1;
    strips = static_cast<int>(ceil_div(across, 1 << window_bits));
    head_groups = heads >> head_bits;
    query_tiles = static_cast<int>(ceil_div(tokens, kQueries));
  }

  __device__ __forceinline__ int twist_of(int unit) const { return (unit & ((1 << head_bits) - 1)) * twist; }
  int64_t blocks() const { return int64_t{batch} * down * strips * head_groups * query_tiles; }
};

// What one block does.
struct Job {
  int batch, window_row, window_column, head;  // of the first unit
  int windows;                                 // that exist, of 2^window_bits
  int query;                                   // the first of the tile

  template <class T>
  __device__ __forceinline__ Job(Plan<T> const& plan, int block) {
    // Heads turn fastest: neighbours in time share pixels (kHWC8), and the biases of all heads stay in L2.
    head = block % plan.head_groups << plan.head_bits;
    block /= plan.head_groups;
    query = block % plan.query_tiles * kQueries;
    block /= plan.query_tiles;
    window_column = block % plan.strips << plan.window_bits;
    block /= plan.strips;
    window_row = block % plan.down;
    batch = block / plan.down;
    windows = min(1 << plan.window_bits, plan.across - window_column);
  }
};

// The pixel row (column) of the padded image at position `i` of window `index` among `count` along an axis. The last
// window, displaced past the end, continues at the begin. Places beyond the image repeat pixels and are not written.
template <class T>
__device__ __forceinline__ int displaced(Plan<T> const& plan, int index, int i, int count) {
  int const at = index * plan.window + i + plan.shift, end = count * plan.window;
  return at >= end ? at - end : at;
}
template <class T>
__device__ __forceinline__ int source_row(Plan<T> const& plan, int row) {
  return min(row, plan.height - 1);
}
template <class T>
__device__ __forceinline__ int source_column(Plan<T> const& plan, int column) {
  if (column < plan.width) return column;
  return plan.wrap ? column % plan.width : plan.width - 1;
}

// Tiles of T in shared memory: rows of kDepth channels (the head's depth, filled up with zeros) in chunks of 16 bytes.
template <class T, int kDepth>
struct Shape {
  static constexpr int kChannels = 16 / sizeof(T);  // of a chunk
  static constexpr int kChunks = kDepth / kChannels;
  static constexpr int kRowBytes = kDepth * static_cast<int>(sizeof(T));
  static constexpr int kKeys = kRowBytes > 128 ? 32 : 64;  // of a step
  static constexpr int kUnits = kRowBytes <= 32 ? 4 : kRowBytes <= 64 ? 2 : 1;
  // Blocks that a multiprocessor holds at least: as many as the registers allow without spilling any.
  static constexpr int kBlocks = sizeof(T) == 4 || kDepth >= 32 ? 3 : 4;

  // Element index of a chunk in an array of tiles of kRows rows. Accesses to one chunk of eight neighbouring rows meet
  // eight different groups of banks. All sizes are powers of two and no two fields overlap, so the index is linear
  // under exclusive or, at(a ^ b) = at(a) ^ at(b): a lane computes its own part once, the rest are constants.
  template <int kRows>
  __device__ static constexpr int at(int unit, int row, int chunk) {
    int const turned = (row & 1) << 2 | (row & 2) | (row >> 2 & 1);  // the row's low bits, reversed
    return (unit * kRows | row) * kDepth | (chunk ^ (turned & (kChunks - 1))) * kChannels;
  }
};

// A chunk's values in fp32, and fp32 values as a chunk: eight of fp16 or four of fp32.
__device__ __forceinline__ void widen(float (&value)[8], uint4 chunk) {
  pieces::Eight const eight = pieces::unpack(chunk);
#pragma unroll
  for (int i = 0; i < 8; ++i) value[i] = eight.value[i];
}
__device__ __forceinline__ void widen(float (&value)[4], uint4 chunk) {
  value[0] = __uint_as_float(chunk.x), value[1] = __uint_as_float(chunk.y);
  value[2] = __uint_as_float(chunk.z), value[3] = __uint_as_float(chunk.w);
}
__device__ __forceinline__ uint4 narrow(float const (&value)[8]) {
  return make_uint4(pieces::pack(value[0], value[1]), pieces::pack(value[2], value[3]),
                    pieces::pack(value[4], value[5]), pieces::pack(value[6], value[7]));
}
__device__ __forceinline__ uint4 narrow(float const (&value)[4]) {
  return pieces::as_bits(value[0], value[1], value[2], value[3]);
}

// Keys lie permuted in groups of 32, so that what a lane needs of a row of scores is contiguous in the bias: 16 bytes.
// fp16: lane p of the four that share a row of mma results holds keys 8p..8p+7, two in each of four 8x8 matrices.
// fp32: lane p of eight holds keys 4p..4p+3. The exclusive or spreads stores of neighbouring keys over all banks.
__device__ __forceinline__ int key_row(__half, int key) {
  int const lane = key >> 3 & 3, matrix = key >> 1 & 3;
  return (key & ~31) | matrix << 3 | (lane ^ matrix) << 1 | (key & 1);
}
__device__ __forceinline__ int key_row(float, int key) {
  int const lane = key >> 2 & 7, place = key & 3;
  return (key & ~31) | place << 3 | (lane ^ place << 1);
}

}  // namespace dinn360::dst
