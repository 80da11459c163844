#include "operators.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <numeric>

#include "kernels.h"

namespace dinn360::fused {
namespace {

Kernels const& kernels() {
  static Kernels const& best = *cpu::fused::find_kernels(nullptr);
  return best;
}

constexpr int64_t kAlignment = 16;  // floats

int64_t aligned(int64_t floats) { return (floats + kAlignment - 1) / kAlignment * kAlignment; }

// unit(worker, index) of every unit. Each worker takes the next ones that nobody has: many at first, for units in a row read
// and write memory in a row, one at a time in the end, for all to end at once.
template <class Unit>
void spread(cpu::Pool const& pool, int64_t units, Unit unit) {
  struct Work {
    Unit& unit;
    int64_t units, workers;
    std::atomic<int64_t> next{0};
  } work{unit, units, std::min<int64_t>(pool.threads, units)};
  auto const worker = [](void* data, int64_t index) {
    Work& shared = *static_cast<Work*>(data);
    int64_t first = shared.next.load(std::memory_order_relaxed);
    while (first < shared.units) {
      int64_t const last = first + std::max<int64_t>((shared.units - first) / (2 * shared.workers), 1);
      if (!shared.next.compare_exchange_weak(first, last, std::memory_order_relaxed)) continue;
      for (; first < last; ++first) shared.unit(index, first);
      first = shared.next.load(std::memory_order_relaxed);
    }
  };
  pool.run(pool.self, work.workers, worker, &work);
}

int64_t workers(ConvKernels const& conv, ConvParams const& p, cpu::Pool const& pool) {
  return std::min<int64_t>(pool.threads, conv.units(p));
}

bool positive(std::initializer_list<int32_t> values) {
  return std::all_of(values.begin(), values.end(), [](int32_t value) { return value > 0; });
}

// The first place in a workspace that is aligned.
float* first_aligned(void* workspace) {
  constexpr uintptr_t kBytes = kAlignment * sizeof(float);
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(workspace) + kBytes - 1) / kBytes * kBytes);
}

template <class Params>
size_t block_bytes(BlockKernels<Params> const& kernels, Params const& p, cpu::Pool const& pool) {
  int64_t const workers = std::min<int64_t>(pool.threads, kernels.units(p));
  return static_cast<size_t>(workers * aligned(kernels.own_floats(p)) + kAlignment) * sizeof(float);
}

template <class Params>
void run_blocks(BlockKernels<Params> const& kernels, Params const& p, cpu::Pool const& pool, void* workspace) {
  int64_t const each = aligned(kernels.own_floats(p));
  float* const own = first_aligned(workspace);
  spread(pool, kernels.units(p), [&](int64_t worker, int64_t unit) { kernels.run(p, own + worker * each, unit); });
}

bool is_factor(int32_t factor) { return factor == 1 || factor == 2 || factor == 4 || factor == kLargestFactor; }

// Whether each of the first `count` numbers is in `places` once.
bool is_order(const int32_t* places, int64_t count) {
  for (int64_t wanted = 0; wanted < count; ++wanted) {
    if (std::count(places, places + count, wanted) != 1) return false;
  }
  return true;
}

const char* const kFactors = "factor: expected 1, 2, 4 or 8";
const char* const kOrder = "order: expected each function of each channel once";

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

const char* check(SqueezeParams const& p) {
  if (!is_factor(p.factor)) return kFactors;
  if (!positive({p.batch, p.channels, p.height, p.width, p.rows, p.columns}) || p.margin < 0) {
    return "sizes must be positive";
  }
  int64_t const total = int64_t{p.channels} * p.factor * p.factor;
  if (std::accumulate(p.counts, p.counts + p.output_count, int64_t{0}) != total) {
    return "channel_counts: expected all functions of the image's channels";
  }
  return is_order(p.places, total) ? nullptr : kOrder;
}

const char* check(UnsqueezeParams const& p) {
  if (!is_factor(p.factor)) return kFactors;
  if (!positive({p.batch, p.channels, p.height, p.width, p.rows, p.columns}) || p.margin < 0) {
    return "sizes must be positive";
  }
  int64_t const total = int64_t{p.channels} * p.factor * p.factor;
  if (channels_of(p.sources, p.source_count) != total) {
    return "the channels of the sources: expected all functions of the image's";
  }
  if (p.height > int64_t{p.rows} * p.factor || p.width > (p.columns - int64_t{p.margin}) * p.factor) {
    return "shape: expected a size that the blocks cover";
  }
  return is_order(p.places, total) ? nullptr : kOrder;
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
  float* own = first_aligned(workspace);
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

size_t workspace_size(SqueezeParams const& p, cpu::Pool const& pool) { return block_bytes(kernels().squeeze, p, pool); }

void run(SqueezeParams const& p, cpu::Pool const& pool, void* workspace) {
  run_blocks(kernels().squeeze, p, pool, workspace);
}

size_t workspace_size(UnsqueezeParams const& p, cpu::Pool const& pool) {
  return block_bytes(kernels().unsqueeze, p, pool);
}

void run(UnsqueezeParams const& p, cpu::Pool const& pool, void* workspace) {
  run_blocks(kernels().unsqueeze, p, pool, workspace);
}

}  // namespace dinn360::fused
