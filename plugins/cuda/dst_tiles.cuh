// DST attention: windows of q, k and v from global into shared memory, and of y back.
#pragma once

#include "dst_plan.cuh"

namespace dinn360::dst {

// A bilinear sample along one axis: the first pixel and the second one's share. near < 0: nothing there.
struct Tap {
  int near;
  float share;

  // The second pixel. Without a share it is not read, so that what it holds (NaN) stays where it is.
  __device__ __forceinline__ int far(int size) const { return share == 0.0f ? near : near + 1 == size ? 0 : near + 1; }
};

// The tap `move` pixels from pixel `at` of `size`. Only the move is split into whole and part: a far column costs no
// precision.
__device__ __forceinline__ Tap tap(float move, int at, int size, bool cyclic) {
  bool const far = fabsf(move) >= 1073741824.0f;  // 2^30: without a part, and more than pieces::place holds
  pieces::Place const place = pieces::place(cyclic && far ? fmodf(move, static_cast<float>(size)) : move);
  if (!place.finite) return {-1, 0.0f};
  int const first = at + place.whole;
  if (cyclic) return {pieces::wrapped(first, size), place.part};
  bool const between = first >= 0 && first < size - 1;
  return {min(max(first, 0), size - 1), between ? place.part : 0.0f};
}

// The taps of a block's units: rows at [0, window), columns at [kMaxWindow, kMaxWindow + window) of kTaps, so many that
// those of four units that are read together lie in different banks.
inline constexpr int kTaps = 40;
struct Taps {
  Shared<int> near;
  Shared<float> share;

  __device__ __forceinline__ void store(int index, Tap tap) const {
    near.store(index, tap.near);
    share.store(index, tap.share);
  }
  __device__ __forceinline__ Tap load(int index) const { return {near.load(index), share.load(index)}; }
};

template <class T>
__device__ __forceinline__ void find_taps(Plan<T> const& plan, Job const& job, Taps const& taps) {
  int const count = job.windows << plan.head_bits;
  for (int item = threadIdx.x; item < count * 2 * kMaxWindow; item += kThreads) {
    int const unit = item / (2 * kMaxWindow), i = item % kMaxWindow;
    bool const of_column = item / kMaxWindow % 2 != 0;
    if (i >= plan.window) continue;
    int const window_column = job.window_column + (unit >> plan.head_bits);
    int const head = job.head + (unit & ((1 << plan.head_bits) - 1));
    int64_t const field = ((int64_t{job.batch} * plan.heads + head) * 2 + of_column) * plan.down + job.window_row;
    float const scale = pieces::to_float(plan.scale.load(field * plan.across + window_column));
    float const offset = pieces::to_float(plan.offset.load(field * plan.across + window_column));
    float const move = fmaf(static_cast<float>(i) - 0.5f * static_cast<float>(plan.window - 1), scale, offset);
    int const at = of_column ? source_column(plan, displaced(plan, window_column, i, plan.across))
                             : source_row(plan, displaced(plan, job.window_row, i, plan.down));
    taps.store(unit * kTaps + item % (2 * kMaxWindow),
               tap(move, at, of_column ? plan.width : plan.height, of_column && plan.wrap));
  }
}

// Where the threads of a block go through the chunks of tiles of kRows rows. `unit` counts windows, then heads.
struct Item {
  int unit, window, head, row, chunk;
};

// kVector: a pixel's channels are contiguous; neighbouring lanes take its chunks, then its heads, then the next pixel.
// Else neighbouring lanes take eight columns of a window, then those of the window beside it.
template <int kRows, int kChunks, bool kVector, class T>
__device__ __forceinline__ Item item_of(Plan<T> const& plan, int index) {
  Item item;
  int const heads = 1 << plan.head_bits;
  if constexpr (kVector) {
    item.chunk = index % kChunks;
    index /= kChunks;
    item.head = index & (heads - 1);
    index >>= plan.head_bits;
    item.row = index % kRows;
    item.window = index / kRows;
  } else {
    int const eight = index % 8;
    index /= 8;
    item.window = index & ((1 << plan.window_bits) - 1);
    index >>= plan.window_bits;
    item.row = index % (kRows / 8) * 8 + eight;
    index /= kRows / 8;
    item.head = index & (heads - 1);
    item.chunk = index >> plan.head_bits;
  }
  item.unit = item.window << plan.head_bits | item.head;
  return item;
}

// One chunk of 16 bytes of which `channels` exist; the rest is zero.
template <bool kVector, class T>
__device__ __forceinline__ uint4 load_chunk(Global<T const> from, int64_t index, int64_t channel_stride, int channels) {
  if constexpr (kVector) return from.load16(index);
  constexpr int kChannels = 16 / sizeof(T);
  alignas(16) T value[kChannels];
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    value[c] = c < channels ? from.load(index + c * channel_stride) : pieces::from_float<T>(0.0f);
  }
  return *reinterpret_cast<uint4 const*>(value);
}

// Moves the tiles of a job. `item` names a chunk; `row` and `column` are pixels, of the padded image where displaced.
template <class T, int kDepth, bool kVector>
struct Mover {
  using Form = Shape<T, kDepth>;
  Plan<T> const& plan;
  Job const& job;

  __device__ __forceinline__ int64_t first_channel(Item const& item) const {
    int64_t const channel = (job.head + item.head) * plan.depth + item.chunk * Form::kChannels;
    return job.batch * plan.image_stride + channel * plan.channel_stride;
  }
  __device__ __forceinline__ int channels(Item const& item) const { return plan.depth - item.chunk * Form::kChannels; }
  __device__ __forceinline__ int query_at(Item const& item) const {
    return Form::template at<kQueries>(item.unit, item.row ^ plan.twist_of(item.unit), item.chunk);
  }
  __device__ __forceinline__ int row_of(int i) const { return displaced(plan, job.window_row, i, plan.down); }
  __device__ __forceinline__ int column_of(Item const& item, int j) const {
    return displaced(plan, job.window_column + item.window, j, plan.across);
  }
  __device__ __forceinline__ int64_t pixel(int row, int column) const {
    return (int64_t{row} * plan.width + column) * plan.pixel_stride;
  }
  __device__ __forceinline__ int64_t window_pixel(Item const& item, int token) const {
    int2 const at = plan.by_window.of(token);
    return pixel(source_row(plan, row_of(at.x)), source_column(plan, column_of(item, at.y)));
  }

  // Calls move(item) for each chunk of `rows` rows of all tiles, which have kRows.
  template <int kRows, class Move>
  __device__ __forceinline__ void each(int rows, Move const& move) const {
    int const items = kRows * Form::kChunks << (plan.window_bits + plan.head_bits);
#pragma unroll kVector && sizeof(T) == 2 ? 2 : 1
    for (int index = threadIdx.x; index < items; index += kThreads) {
      Item const item = item_of<kRows, Form::kChunks, kVector>(plan, index);
      if (item.window < job.windows && item.row < rows) move(item);
    }
  }

  // Keys and values from token `first` on.
  __device__ __forceinline__ void load_keys(int first, Shared<T> keys, Shared<T> values) const {
    each<Form::kKeys>(Form::kKeys, [&](Item const& item) {
      int const row = key_row(T{}, item.row) ^ plan.twist_of(item.unit);
      int const to = Form::template at<Form::kKeys>(item.unit, row, item.chunk);
      uint4 key = {}, value = {};
      if (first + item.row < plan.tokens && channels(item) > 0) {
        int64_t const from = first_channel(item) + window_pixel(item, first + item.row);
        key = load_chunk<kVector>(plan.k, from, plan.channel_stride, channels(item));
        value = load_chunk<kVector>(plan.v, from, plan.channel_stride, channels(item));
      }
      keys.store16(to, key);
      values.store16(to, value);
    });
  }

  __device__ __forceinline__ void load_queries(Shared<T> queries, Taps const& taps) const {
    each<kQueries>(kQueries, [&](Item const& item) {
      int const token = job.query + item.row;
      uint4 query = {};
      if (token < plan.tokens && channels(item) > 0) {
        query = plan.scale.is_null() ? load_chunk<kVector>(plan.q, first_channel(item) + window_pixel(item, token),
                                                           plan.channel_stride, channels(item))
                                     : sample(item, token, taps);
      }
      queries.store16(query_at(item), query);
    });
  }

  __device__ __forceinline__ uint4 sample(Item const& item, int token, Taps const& taps) const {
    int2 const at = plan.by_window.of(token);
    Tap const row = taps.load(item.unit * kTaps + at.x), column = taps.load(item.unit * kTaps + kMaxWindow + at.y);
    if (row.near < 0 || column.near < 0) return {};
    int64_t const from = first_channel(item);
    auto const load = [&](int r, int c) {
      return load_chunk<kVector>(plan.q, from + pixel(r, c), plan.channel_stride, channels(item));
    };
    int const below = row.far(plan.height), right = column.far(plan.width);
    uint4 const corners[4] = {load(row.near, column.near), load(row.near, right), load(below, column.near),
                              load(below, right)};
    float const shares[4] = {(1.0f - row.share) * (1.0f - column.share), (1.0f - row.share) * column.share,
                             row.share * (1.0f - column.share), row.share * column.share};
    float sum[Form::kChannels] = {};
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      float value[Form::kChannels];
      widen(value, corners[corner]);
#pragma unroll
      for (int c = 0; c < Form::kChannels; ++c) sum[c] = fmaf(shares[corner], value[c], sum[c]);
    }
    return narrow(sum);
  }

  // The results, which stand where the queries stood, to the pixels that exist.
  __device__ __forceinline__ void store_results(Shared<T> results) const {
    each<kQueries>(plan.tokens - job.query, [&](Item const& item) {
      int2 const at = plan.by_window.of(job.query + item.row);
      int const row = row_of(at.x), column = column_of(item, at.y);
      if (row >= plan.height || column >= plan.width || channels(item) <= 0) return;
      int64_t const to = first_channel(item) + pixel(row, column);
      uint4 const chunk = results.load16(query_at(item));
      if constexpr (kVector) {
        plan.y.store16(to, chunk);
      } else {
        alignas(16) T value[Form::kChannels];
        *reinterpret_cast<uint4*>(value) = chunk;
#pragma unroll
        for (int c = 0; c < Form::kChannels; ++c) {
          if (c < channels(item)) plan.y.store(to + c * plan.channel_stride, value[c]);
        }
        if (job.head + item.head == plan.heads - 1 && item.chunk == 0) store_zeros(row, column);
      }
    });
  }

  // kHWC8: the channels that fill a pixel up to a multiple of eight.
  __device__ __forceinline__ void store_zeros(int row, int column) const {
    int64_t const to = job.batch * plan.image_stride + pixel(row, column);
    for (int c = plan.channels; c < plan.stored_channels; ++c) plan.y.store(to + c, pieces::from_float<T>(0.0f));
  }
};

}  // namespace dinn360::dst
