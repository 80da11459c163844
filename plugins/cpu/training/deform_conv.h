// The deformable convolution of a training step and its gradients, band by band and block by block: what a block samples
// and multiplies stays in the first two levels of cache, and nothing of a sample is kept between the two calls.
//
// Bands are the same for every number of threads, those that overlap are not worked on at once, and their parts of the
// weights' gradient are added in their order: equal calls give equal bits.
#pragma once

#include "band.h"
#include "block.h"
#include "kernels.h"
#include "products.h"

namespace dinn360::cpu::DINN360_CPU_SET::training {

// Hands out parts of a piece of memory, in floats.
class Parts {
 public:
  explicit Parts(char* memory) : next_(reinterpret_cast<float*>(memory)) {}

  float* take(int64_t floats) {
    float* const part = next_;
    next_ += round_up(floats, 16);
    return part;
  }
  int64_t bytes_from(char* memory) const { return reinterpret_cast<char*>(next_) - memory; }

 private:
  float* next_;
};

// What the workers of a call share.
struct Shared {
  Shared(DeformConvTraining const& p, Plan const& plan, char* memory, bool backward) {
    Parts parts(memory);
    weight = parts.take(plan.inputs * plan.outputs);
    bias = parts.take(plan.outputs);
    if (backward) partials = parts.take(p.batch * plan.bands * partial_floats(plan));
    bytes = parts.bytes_from(memory);
  }
  static int64_t partial_floats(Plan const& plan) { return (plan.inputs + 1) * plan.outputs; }

  float* weight;              // forward: [input][output], backward: [output][input]
  float* bias;                // [output]
  float* partials = nullptr;  // of each band: the gradient of the weights, [output][input], then that of the bias
  int64_t bytes;
};

// What a worker has of its own.
struct Own {
  Own(DeformConvTraining const& p, Plan const& plan, char* memory, bool backward) {
    int64_t const tap = plan.group_vectors * kPixels * kLanes;
    int64_t const offsets = 2 * plan.fields * kPixels, masks = p.mask == nullptr ? 0 : plan.fields * kPixels;
    Parts parts(memory);
    sum = parts.take(backward ? plan.inputs : 0);
    copy = parts.take(plan.copy_floats());
    block = parts.take(plan.outputs * kPixels);
    offset = parts.take(offsets);
    mask = parts.take(masks);
    samples = parts.take(backward ? tap : plan.taps * p.offset_groups * tap);
    if (backward) {
      grad_copy = parts.take(plan.copy_floats());
      grad_samples = parts.take(tap);
      grad_offset = parts.take(offsets);
      grad_mask = parts.take(masks);
    }
    bytes = parts.bytes_from(memory);
  }

  float *copy, *grad_copy = nullptr;        // of the band
  float* block;                             // y or its gradient, [vector][pixel][lane]
  float *offset, *grad_offset = nullptr;    // [offset group][tap][row, column][pixel]
  float *mask, *grad_mask = nullptr;        // [offset group][tap][pixel]
  float *samples, *grad_samples = nullptr;  // [vector][pixel][lane], forward of all taps
  float* sum;                               // [input]
  int64_t bytes;
};

// The weights of each output, [tap][offset group][channel], with zeros where the copy has zeros: act(output, input,
// value).
template <class Action>
void for_weights(DeformConvTraining const& p, Plan const& plan, Action const& act) {
  for (int64_t output = 0; output < p.out_channels; ++output) {
    for (int64_t tap = 0; tap < plan.taps; ++tap) {
      for_groups(p, plan, [&](int64_t channel, int64_t place) {
        int64_t const from = (output * plan.taps + tap) * p.channels + channel;
        for (int64_t i = 0; i < plan.group; ++i) act(output, tap * plan.pixel + place + i, from + i);
      });
    }
  }
}

inline void pack_weights(DeformConvTraining const& p, Plan const& plan, Shared const& shared, bool backward) {
  int64_t const input_step = backward ? 1 : plan.outputs, output_step = backward ? plan.inputs : 1;
  __builtin_memset(shared.weight, 0, plan.inputs * plan.outputs * sizeof(float));
  __builtin_memset(shared.bias, 0, plan.outputs * sizeof(float));
  __builtin_memcpy(shared.bias, p.bias, p.out_channels * sizeof(float));
  for_weights(p, plan, [&](int64_t output, int64_t input, int64_t from) {
    shared.weight[input * input_step + output * output_step] = p.weight[from];
  });
}

// Offsets and mask of a block, one row for each field.
inline void read_fields(DeformConvTraining const& p, Plan const& plan, Block const& block, Own const& own) {
  int64_t const offsets = 2 * plan.fields;
  if (block.count < kPixels) __builtin_memset(own.offset, 0, offsets * kPixels * sizeof(float));
  transpose_into(p.offset + block.first * offsets, offsets, block.count, offsets, own.offset, kPixels);
  if (p.mask == nullptr) return;
  if (block.count < kPixels) __builtin_memset(own.mask, 0, plan.fields * kPixels * sizeof(float));
  transpose_into(p.mask + block.first * plan.fields, plan.fields, block.count, plan.fields, own.mask, kPixels);
}

// Calls act(block, samples of a tap, offset group, tap) for each block of the band: in front of it start(block), after
// it finish(block).
template <class Start, class Tap, class Finish>
void for_blocks(DeformConvTraining const& p, Plan const& plan, Band const& band, Own const& own, Start const& start,
                Tap const& act, Finish const& finish) {
  Samples samples;
  for (int32_t row = band.first, column = 0; row < band.end;) {
    Block const block = next_block(p, band, row, column);
    read_fields(p, plan, block, own);
    start(block);
    for (int64_t group = 0; group < p.offset_groups; ++group) {
      for (int64_t tap = 0; tap < plan.taps; ++tap) {
        int64_t const field = group * plan.taps + tap;
        locate(p, plan, band, block, tap, own.offset + 2 * field * kPixels,
               p.mask == nullptr ? nullptr : own.mask + field * kPixels, samples);
        act(block, samples, group, tap);
      }
    }
    finish(block);
  }
}

template <int kVectors>
void convolve_band(DeformConvTraining const& p, Plan const& plan, Shared const& shared, Own const& own,
                   Band const& band) {
  int64_t const tap_floats = plan.group_vectors * kPixels * kLanes;
  copy_band(p, plan, band, own.copy);
  for_blocks(
      p, plan, band, own, [](Block const&) {},
      [&](Block const& block, Samples const& samples, int64_t group, int64_t tap) {
        gather<kVectors>(plan, samples, block.count, own.copy + group * plan.group_vectors * kLanes,
                         own.samples + (tap * p.offset_groups + group) * tap_floats);
      },
      [&](Block const& block) {
        multiply_pixels(own.samples, plan.inputs / kLanes, shared.weight, plan.outputs, shared.bias, own.block,
                        plan.out_vectors);
        for (int64_t i = 0; i < block.count; ++i) {
          float* const to = p.y + (block.first + i) * p.out_channels;
          for (int64_t v = 0; v < plan.out_vectors; ++v) {
            store_first(to + v * kLanes, load<Vec>(own.block + (v * kPixels + i) * kLanes),
                        p.out_channels - v * kLanes);
          }
        }
      });
}

// The gradient of y for a block, zero beyond its pixels and channels; adds it to that of the bias.
inline void read_gradient(DeformConvTraining const& p, Plan const& plan, Block const& block, float* out,
                          float* grad_bias) {
  for (int64_t v = 0; v < plan.out_vectors; ++v, out += kPixels * kLanes) {
    Vec sum = load<Vec>(grad_bias + v * kLanes);
    for (int64_t i = 0; i < block.count; ++i) {
      float const* const from = p.grad_y + (block.first + i) * p.out_channels + v * kLanes;
      Vec const value = load_first<Vec>(from, p.out_channels - v * kLanes);
      store(out + i * kLanes, value);
      sum += value;
    }
    store(grad_bias + v * kLanes, sum);
    __builtin_memset(out + block.count * kLanes, 0, (kPixels - block.count) * kLanes * sizeof(float));
  }
}

template <int kVectors>
void differentiate_band(DeformConvTraining const& p, Plan const& plan, Shared const& shared, Own const& own,
                        Band const& band, float* partial) {
  int64_t const tap_bytes = plan.group_vectors * kPixels * kLanes * int64_t{sizeof(float)};
  __builtin_memset(partial, 0, Shared::partial_floats(plan) * sizeof(float));
  __builtin_memset(own.grad_copy, 0, plan.copy_floats() * sizeof(float));
  copy_band(p, plan, band, own.copy);
  for_blocks(
      p, plan, band, own,
      [&](Block const& block) {
        read_gradient(p, plan, block, own.block, partial + plan.inputs * plan.outputs);
        if (block.count < kPixels) __builtin_memset(own.samples, 0, tap_bytes);
      },
      [&](Block const& block, Samples const& samples, int64_t group, int64_t tap) {
        int64_t const first = group * plan.group_vectors * kLanes, input = tap * plan.pixel + first;
        int64_t const field = group * plan.taps + tap;
        multiply_pixels(own.block, plan.out_vectors, shared.weight + input, plan.inputs, nullptr, own.grad_samples,
                        plan.group_vectors);
        float* const grad_offset = own.grad_offset + 2 * field * kPixels;
        float* const grad_mask = p.mask == nullptr ? nullptr : own.grad_mask + field * kPixels;
        scatter<kVectors>(plan, samples, block.count, own.copy + first, own.grad_copy + first,
                          {own.grad_samples, own.samples, grad_offset, grad_offset + kPixels, grad_mask});
        add_products(own.block, plan.out_vectors, own.samples, plan.group_vectors, partial + input, plan.inputs);
      },
      [&](Block const& block) {
        int64_t const offsets = 2 * plan.fields;
        stop_at_bound(own.offset, p.max_offset, offsets * kPixels, own.grad_offset);
        transpose_into(own.grad_offset, kPixels, offsets, block.count, p.grad_offset + block.first * offsets, offsets);
        if (p.mask == nullptr) return;
        transpose_into(own.grad_mask, kPixels, plan.fields, block.count, p.grad_mask + block.first * plan.fields,
                       plan.fields);
      });
  add_band(p, plan, band, own.grad_copy);
}

// The gradient of one output's weights and bias: the sum over all bands.
inline void sum_partials(DeformConvTraining const& p, Plan const& plan, Shared const& shared, float* sum,
                         int64_t output) {
  float bias = 0.f;
  __builtin_memset(sum, 0, plan.inputs * sizeof(float));
  for (int64_t i = 0; i < p.batch * plan.bands; ++i) {
    float const* const partial = shared.partials + i * Shared::partial_floats(plan);
    add_floats(sum, partial + output * plan.inputs, plan.inputs);
    bias += partial[plan.inputs * plan.outputs + output];
  }
  p.grad_bias[output] = bias;
  float* to = p.grad_weight + output * plan.taps * p.channels;
  for (int64_t tap = 0; tap < plan.taps; ++tap, to += p.channels) {
    for_groups(p, plan, [&](int64_t channel, int64_t place) {
      __builtin_memcpy(to + channel, sum + tap * plan.pixel + place, plan.group * sizeof(float));
    });
  }
}

// ---- phases (../steps.h)

template <bool kBackward>
size_t shared_bytes(DeformConvTraining const& p) {
  return static_cast<size_t>(Shared(p, Plan(p), nullptr, kBackward).bytes);
}

template <bool kBackward>
size_t own_bytes(DeformConvTraining const& p) {
  return static_cast<size_t>(Own(p, Plan(p), nullptr, kBackward).bytes);
}

// The weights; all bands.
inline void run_forward(DeformConvTraining const& p, Memory memory, int32_t phase, int64_t unit) {
  Plan const plan(p);
  Shared const shared(p, plan, memory.shared, false);
  if (phase == 0) return pack_weights(p, plan, shared, false);
  Band const band = band_of(p, plan, unit / plan.bands, unit % plan.bands);
  auto const convolve = plan.group_vectors == 1   ? convolve_band<1>
                        : plan.group_vectors == 2 ? convolve_band<2>
                                                  : convolve_band<0>;
  convolve(p, plan, shared, Own(p, plan, memory.own, false), band);
}

inline int64_t forward_units(DeformConvTraining const& p, int32_t phase) {
  return phase == 0 ? 1 : p.batch * Plan(p).bands;
}

// The weights and zeros for grad_x; the bands 0, 2, 4, ... of each image; the others; the sums.
inline void run_backward(DeformConvTraining const& p, Memory memory, int32_t phase, int64_t unit) {
  Plan const plan(p);
  Shared const shared(p, plan, memory.shared, true);
  if (phase == 0 && unit == 0) {
    pack_weights(p, plan, shared, true);
  } else if (phase == 0) {
    int64_t const floats = int64_t{p.height} * p.width * p.channels;
    __builtin_memset(p.grad_x + (unit - 1) * floats, 0, floats * sizeof(float));
  } else if (phase < 3) {
    int64_t const some = (plan.bands + 2 - phase) / 2;
    int64_t const image = unit / some, index = unit % some * 2 + phase - 1;
    auto const differentiate = plan.group_vectors == 1   ? differentiate_band<1>
                               : plan.group_vectors == 2 ? differentiate_band<2>
                                                         : differentiate_band<0>;
    differentiate(p, plan, shared, Own(p, plan, memory.own, true), band_of(p, plan, image, index),
                  shared.partials + (image * plan.bands + index) * Shared::partial_floats(plan));
  } else {
    sum_partials(p, plan, shared, Own(p, plan, memory.own, true).sum, unit);
  }
}

inline int64_t backward_units(DeformConvTraining const& p, int32_t phase) {
  int64_t const bands = Plan(p).bands;
  return phase == 0 ? 1 + p.batch : phase == 3 ? p.out_channels : p.batch * ((bands + 2 - phase) / 2);
}

}  // namespace dinn360::cpu::DINN360_CPU_SET::training
