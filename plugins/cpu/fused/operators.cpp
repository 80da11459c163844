#include "operators.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "kernels.h"

namespace dinn360::fused {
namespace {

Kernels const& kernels() {
  static Kernels const& best = *cpu::fused::find_kernels(nullptr);
  return best;
}

constexpr int64_t kAlignment = 16;  // floats

int64_t aligned(int64_t floats) { return (floats + kAlignment - 1) / kAlignment * kAlignment; }

// Each worker takes the next unit that nobody has: unit(worker, index).
template <class Unit>
void spread(cpu::Pool const& pool, int64_t units, Unit unit) {
  struct Work {
    Unit& unit;
    int64_t units;
    std::atomic<int64_t> next{0};
  } work{unit, units};
  auto const worker = [](void* data, int64_t index) {
    Work& shared = *static_cast<Work*>(data);
    for (int64_t i; (i = shared.next.fetch_add(1, std::memory_order_relaxed)) < shared.units;) shared.unit(index, i);
  };
  pool.run(pool.self, std::min<int64_t>(pool.threads, units), worker, &work);
}

int64_t workers(ConvKernels const& conv, ConvParams const& p, cpu::Pool const& pool) {
  return std::min<int64_t>(pool.threads, conv.units(p));
}

bool positive(std::initializer_list<int32_t> values) {
  return std::all_of(values.begin(), values.end(), [](int32_t value) { return value > 0; });
}

int64_t channels_of(Channels const* sources, int32_t count) {
  int64_t sum = 0;
  for (int32_t i = 0; i < count; ++i) {
    Channels const& s = sources[i];
    if (s.data == nullptr || s.first < 0 || s.count < 1 || s.first > s.channels - s.count) return -1;
    sum += s.count;
  }
  return sum;
}

}  // namespace

const char* check(ConvParams const& p) {
  if (!positive({p.batch, p.channels, p.height, p.width, p.out_channels, p.output_count}))
    return "sizes must be positive";
  if (p.kernel != 1 && p.kernel != 3) return "weight: expected a kernel of 1x1 or 3x3";
  if (p.source_count < 1 || p.source_count > kMaxSources || channels_of(p.sources, p.source_count) != p.channels) {
    return "the channels of the sources: expected some that exist, as many as the weight has";
  }
  if (p.addend != nullptr && (p.source_count > 1 || p.sources[0].count != p.sources[0].channels)) {
    return "addend: expected one whole source beside it";
  }
  int32_t const outputs = p.coupling == Coupling::kNone ? p.out_channels : p.out_channels / 2;
  if (p.coupling != Coupling::kNone && (p.out_channels % 2 != 0 || p.residual.data == nullptr)) {
    return "coupling: expected an even number of output channels, and a residual";
  }
  if (outputs % p.output_count != 0) return "outputs: expected equal parts of the channels";
  if (p.residual.data != nullptr && (p.residual.count != outputs || channels_of(&p.residual, 1) != outputs)) {
    return "residual: expected as many channels as the output has";
  }
  return nullptr;
}

const char* check(ChannelNormParams const& p) {
  return positive({p.batch, p.channels, p.height, p.width}) ? nullptr : "sizes must be positive";
}

const char* check(HaarParams const& p) {
  if (!positive({p.batch, p.channels, p.height, p.width})) return "sizes must be positive";
  if (p.height % 2 != 0 || p.width % 2 != 0) return "expected an even height and width";
  if (channels_of(p.sources, p.source_count) != (p.inverse ? 4 : 1) * int64_t{p.channels}) {
    return "the channels of the sources: expected four bands, as many as the image has";
  }
  return nullptr;
}

size_t packed_floats(ConvParams const& p) { return static_cast<size_t>(conv_kernels(kernels(), p).packed_floats(p)); }

void pack(ConvParams const& p, float* packed) { conv_kernels(kernels(), p).pack(p, packed); }

size_t workspace_size(ConvParams const& p, cpu::Pool const& pool, float const* packed) {
  ConvKernels const& conv = conv_kernels(kernels(), p);
  int64_t const floats =
      (packed == nullptr ? aligned(conv.packed_floats(p)) : 0) + workers(conv, p, pool) * aligned(conv.own_floats(p));
  return static_cast<size_t>(floats + kAlignment) * sizeof(float);
}

void run(ConvParams const& p, cpu::Pool const& pool, void* workspace, float const* packed) {
  ConvKernels const& conv = conv_kernels(kernels(), p);
  auto const address = reinterpret_cast<uintptr_t>(workspace);
  constexpr uintptr_t kBytes = kAlignment * sizeof(float);
  float* own = reinterpret_cast<float*>((address + kBytes - 1) / kBytes * kBytes);
  if (packed == nullptr) {
    conv.pack(p, own);
    packed = own;
    own += aligned(conv.packed_floats(p));
  }
  int64_t const each = aligned(conv.own_floats(p));
  spread(pool, conv.units(p),
         [&](int64_t worker, int64_t unit) { conv.convolve(p, packed, own + worker * each, unit); });
}

void run(ChannelNormParams const& p, cpu::Pool const& pool) {
  spread(pool, kernels().norm_units(p), [&](int64_t, int64_t unit) { kernels().normalise(p, unit); });
}

void run(HaarParams const& p, cpu::Pool const& pool) {
  spread(pool, kernels().haar_units(p), [&](int64_t, int64_t unit) { kernels().haar(p, unit); });
}

}  // namespace dinn360::fused
