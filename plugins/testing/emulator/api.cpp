// The kernels of ../kernels on the emulator, for ctypes: every tensor's extent is registered, then the call is made as
// a shell on a GPU makes it.
#include <mutex>
#include <vector>

#include "../../cuda/launch.h"
#include "machine.h"

#define DINN360_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace dinn360;
using simt::Tensor;

std::mutex one_at_a_time;

size_t activation(DataType type, Layout layout, int64_t batch, int64_t channels, int64_t height, int64_t width) {
  int64_t const stored = layout == Layout::kHWC8 ? (channels + 7) / 8 * 8 : channels;
  return static_cast<size_t>(batch * stored * height * width) * (type == DataType::kHalf ? 2 : 4);
}

size_t linear(DataType type, int64_t elements) {
  return static_cast<size_t>(elements) * (type == DataType::kHalf ? 2 : 4);
}

Tensor input(char const* name, void const* data, size_t bytes) { return {name, const_cast<void*>(data), bytes, false}; }

std::vector<Tensor> tensors_of(DeformConvParams const& p) {
  int64_t const taps = int64_t{p.kernel_rows} * p.kernel_columns, fields = p.offset_groups * taps;
  auto const at_output = [&](int64_t channels) {
    return activation(p.type, p.layout, p.batch, channels, p.out_height, p.out_width);
  };
  return {
      input("x", p.x, activation(p.type, p.layout, p.batch, p.channels, p.height, p.width)),
      input("offset", p.offset, at_output(2 * fields)),
      input("weight", p.weight, linear(p.type, int64_t{p.out_channels} * (p.channels / p.groups) * taps)),
      input("bias", p.bias, linear(p.type, p.out_channels)),
      input("mask", p.mask, at_output(fields)),
      {"y", p.y, at_output(p.out_channels), true},
  };
}

std::vector<Tensor> tensors_of(DstAttentionParams const& p) {
  size_t const image = activation(p.type, p.layout, p.batch, p.channels, p.height, p.width);
  int64_t const side = int64_t{p.window} * p.window;
  int64_t const windows = int64_t{(p.height + p.window - 1) / p.window} * ((p.width + p.window - 1) / p.window);
  size_t const fields = linear(p.type, 2 * int64_t{p.batch} * p.heads * windows);
  return {
      input("q", p.q, image),          input("k", p.k, image),
      input("v", p.v, image),          input("bias", p.bias, linear(p.type, p.heads * side * side)),
      input("scale", p.scale, fields), input("offset", p.offset, fields),
      {"y", p.y, image, true},
  };
}

template <class Params>
char const* call(Params const& params, EmulatorReport* report) {
  std::lock_guard<std::mutex> const lock(one_at_a_time);
  *report = EmulatorReport{};
  if (char const* const why = check(params)) return why;
  size_t const bytes = workspace_size(params);
  std::vector<simt::Sector> workspace((bytes + sizeof(simt::Sector) - 1) / sizeof(simt::Sector));
  auto tensors = tensors_of(params);
  tensors.push_back({"workspace", workspace.data(), bytes, true});
  simt::begin_session(tensors, report);
  char const* const why = launch(params, bytes == 0 ? nullptr : workspace.data(), nullptr);
  simt::end_session(why == nullptr ? "y" : nullptr);
  return why;
}

}  // namespace

// Both return why the call cannot run, or null; what went wrong while it ran is in report->error.
#ifdef DINN360_WITH_DEFORM_CONV
DINN360_EXPORT char const* dinn360_emulated_deform_conv(DeformConvParams const* params, EmulatorReport* report) {
  return call(*params, report);
}
#endif
#ifdef DINN360_WITH_DST_ATTENTION
DINN360_EXPORT char const* dinn360_emulated_dst_attention(DstAttentionParams const* params, EmulatorReport* report) {
  return call(*params, report);
}
#endif
