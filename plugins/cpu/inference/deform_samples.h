// The samples of a deformable convolution: where they are, a block of output pixels at a time, and gathering them.
#pragma once

#include "../sampling.h"
#include "../simd.h"
#include "deform_copy.h"
#include "kernels.h"

namespace dinn360::cpu::DINN360_CPU_SET::deform {

constexpr int32_t kBlockPixels = 48;  // whole tiles and whole vectors
constexpr int64_t kTiles = kBlockPixels / kTilePixels;
static_assert(kBlockPixels % kTilePixels == 0 && kBlockPixels % kLanes == 0);

// Where a block's samples are: the upper left pixel of each in the copy, and the weights of its four pixels.
struct alignas(64) Samples {
  int32_t place[kBlockPixels];
  float upper_left[kBlockPixels], upper_right[kBlockPixels], lower_left[kBlockPixels], lower_right[kBlockPixels];
};

// The samples of one tap of one offset group for the `count` output pixels from `first` on.
template <class T>
void locate(DeformConvParams const& p, Plan const& plan, int32_t const* rows, int32_t const* columns, T const* offset,
            T const* mask, int64_t count, int32_t tap_row, int32_t tap_column, Samples& out) {
  int32_t const row_pixels = static_cast<int32_t>(plan.row / plan.pixel);
  Vec const one = broadcast(1.f);
  for (int64_t at = 0; at < count; at += kLanes) {
    Position const position =
        position_of(load_first<Vec>(offset + at, count - at), load_first<Vec>(offset + plan.pixels + at, count - at),
                    load_bits<IntVec>(rows + at) + tap_row, load_bits<IntVec>(columns + at) + tap_column);
    Vec const lower = position.lower, right = position.right;
    IntVec const row = clamped(position.finite ? position.row : IntVec{} - kRim, -kRim, p.height) + kRim;
    IntVec column = position.column;
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

// Where the samples of a unit's blocks are, a block in kTiles parts: between its parts a worker multiplies.
template <class T>
class Locating {
 public:
  // blocks: of even and of odd numbers, each [offset group][tap]; [first, end): the unit's output pixels.
  Locating(DeformConvParams const& p, Plan const& plan, Samples* const (&blocks)[2], int64_t batch, int64_t first,
           int64_t end)
      : p_(p),
        plan_(plan),
        blocks_(blocks),
        first_(first),
        end_(end),
        fields_(p.offset_groups * plan.taps),
        offset_(static_cast<T const*>(p.offset) + batch * 2 * fields_ * plan.pixels + first),
        mask_(p.mask ? static_cast<T const*>(p.mask) + batch * fields_ * plan.pixels + first : nullptr) {}

  // A block's parts come in order; nothing is done beyond the last block.
  void locate_part(int64_t block, int64_t part) {
    int64_t const start = block * kBlockPixels, count = smaller(end_ - first_ - start, kBlockPixels);
    if (count <= 0) return;
    if (part == 0) place_pixels(first_ + start, count);
    for (int64_t field = first_field(part); field < first_field(part + 1); ++field) {
      int64_t const tap = field % plan_.taps;
      Samples& samples = blocks_[block % 2][field];
      if (count < kBlockPixels) __builtin_memset(&samples, 0, sizeof(Samples));
      locate(p_, plan_, rows_, columns_, offset_ + 2 * field * plan_.pixels + start,
             mask_ ? mask_ + field * plan_.pixels + start : nullptr, count,
             static_cast<int32_t>(tap / p_.kernel_columns) * p_.dilation_row,
             static_cast<int32_t>(tap % p_.kernel_columns) * p_.dilation_column, samples);
    }
  }

  // What locate_part will read. Not earlier than one part ahead: planes are apart by powers of two and push each other
  // out of the caches.
  void fetch_part(int64_t block, int64_t part) const {
    T const* const offset = offset_ + block * kBlockPixels;
    for (int64_t plane = 2 * first_field(part); plane < 2 * first_field(part + 1); ++plane) {
      for (int64_t at = 0; at < kBlockPixels; at += kLineFloats) __builtin_prefetch(offset + plane * plan_.pixels + at);
    }
  }

 private:
  int64_t first_field(int64_t part) const { return fields_ * part / kTiles; }

  void place_pixels(int64_t first, int64_t count) {
    int32_t row = static_cast<int32_t>(first / p_.out_width), column = static_cast<int32_t>(first % p_.out_width);
    for (int64_t i = 0; i < count; ++i) {
      rows_[i] = row * p_.stride_row - p_.pad_row;
      columns_[i] = column * p_.stride_column - p_.pad_column;
      if (++column == p_.out_width) column = 0, ++row;
    }
  }

  DeformConvParams const& p_;
  Plan const& plan_;
  Samples* const (&blocks_)[2];
  int64_t first_, end_, fields_;  // fields: of offsets, one for each tap of each offset group
  T const* offset_;
  T const* mask_;
  int32_t rows_[kBlockPixels] = {}, columns_[kBlockPixels] = {};  // of a block's first tap, without offsets
};

// Gathers the bilinear samples of a tile into tile[slice][tap][vector][pixel][lane], as many at a time as is wanted.
// kVectors: those of a slice; 0: any number of them.
template <int kVectors>
class Gathering {
 public:
  Gathering(Plan const& plan, float const* image, Samples const* samples, int64_t slices_of_field, int64_t first,
            float* tile, bool any)
      : image_(image),
        samples_(samples),
        to_(tile),
        at_(first),
        left_(any ? plan.slices * plan.taps * kTilePixels : 0),
        pixel_(plan.pixel),
        row_(plan.row),
        vectors_(kVectors != 0 ? kVectors : plan.slice_vectors),
        end_(first + kTilePixels),
        slice_(plan.slice),
        slices_of_field_(slices_of_field),
        taps_(plan.taps) {}

  void gather_some(int64_t count) {
    while (count-- > 0 && left_ > 0) gather_one();
  }
  void gather_rest() { gather_some(left_); }

 private:
  void gather_one() {
    float const* const upper = image_ + samples_->place[at_] * pixel_;
    float const* const lower = upper + row_;
    Vec const upper_left = broadcast(samples_->upper_left[at_]), upper_right = broadcast(samples_->upper_right[at_]);
    Vec const lower_left = broadcast(samples_->lower_left[at_]), lower_right = broadcast(samples_->lower_right[at_]);
    auto const sample = [&](int64_t v) {
      Vec sum = upper_left * load<Vec>(upper + v * kLanes);
      sum = fma(upper_right, load<Vec>(upper + pixel_ + v * kLanes), sum);
      sum = fma(lower_left, load<Vec>(lower + v * kLanes), sum);
      store(to_ + v * kTilePixels * kLanes, fma(lower_right, load<Vec>(lower + pixel_ + v * kLanes), sum));
    };
    if constexpr (kVectors != 0) {
      DINN360_UNROLL
      for (int v = 0; v < kVectors; ++v) sample(v);
    } else {
      for (int64_t v = 0; v < vectors_; ++v) sample(v);
    }
    --left_;
    to_ += kLanes;
    if (++at_ == end_) next_tap();
  }

  void next_tap() {
    at_ -= kTilePixels;
    to_ += (vectors_ - 1) * kTilePixels * kLanes;
    ++samples_;
    if (++tap_ < taps_) return;
    tap_ = 0;
    image_ += slice_;
    if (++slice_of_field_ < slices_of_field_) {
      samples_ -= taps_;
    } else {
      slice_of_field_ = 0;
    }
  }

  // What each sample needs; the multiplication beside it leaves few registers.
  float const* image_;
  Samples const* samples_;
  float* to_;
  int64_t at_, left_, pixel_, row_;
  // What each tap needs.
  int64_t vectors_, end_, slice_, slices_of_field_, taps_, tap_ = 0, slice_of_field_ = 0;
};

}  // namespace dinn360::cpu::DINN360_CPU_SET::deform
