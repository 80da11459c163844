#include "operators.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "../phases.h"
#include "kernels.h"

namespace dinn360::cpu {

namespace {

bool all_positive(std::initializer_list<int32_t> values) {
  return std::all_of(values.begin(), values.end(), [](int32_t value) { return value > 0; });
}

bool known_type(DataType type) { return type == DataType::kFloat || type == DataType::kHalf; }

// Coordinates are int32: a plane, with what the kernels add around it, has to be countable.
bool countable(int64_t height, int64_t width) {
  constexpr int64_t kAround = 8;
  return (height + kAround) * (width + kAround) <= std::numeric_limits<int32_t>::max();
}

Kernels const& chosen(Kernels const* kernels) {
  static Kernels const& best = *inference::find_kernels(nullptr);
  return kernels != nullptr ? *kernels : best;
}

}  // namespace

const char* check(DeformConvParams const& p) {
  if (p.layout != Layout::kLinear) return "layout: the CPU operators take linear tensors";
  if (!known_type(p.type)) return "type: expected float or half";
  if (!p.x || !p.offset || !p.weight || !p.bias || !p.y) return "x, offset, weight, bias and y must not be null";
  if (!all_positive({p.batch, p.channels, p.height, p.width, p.out_channels, p.out_height, p.out_width})) {
    return "sizes must be positive";
  }
  if (!all_positive({p.kernel_rows, p.kernel_columns, p.stride_row, p.stride_column, p.dilation_row, p.dilation_column,
                     p.groups, p.offset_groups})) {
    return "kernel, stride, dilation, groups and offset_groups must be positive";
  }
  if (p.channels % p.groups != 0 || p.out_channels % p.groups != 0) {
    return "groups: channels and out_channels must be multiples of it";
  }
  if (p.channels % p.offset_groups != 0) return "offset_groups: channels must be a multiple of it";
  if (!countable(p.height, p.width) || !countable(p.out_height, p.out_width)) return "an image has too many pixels";
  return nullptr;
}

const char* check(DstAttentionParams const& p) {
  if (p.layout != Layout::kLinear) return "layout: the CPU operators take linear tensors";
  if (!known_type(p.type)) return "type: expected float or half";
  if (!p.q || !p.k || !p.v || !p.bias || !p.y) return "q, k, v, bias and y must not be null";
  if ((p.scale == nullptr) != (p.offset == nullptr)) return "scale and offset must be given together";
  if (!all_positive({p.batch, p.channels, p.height, p.width, p.heads, p.window})) return "sizes must be positive";
  if (p.channels % p.heads != 0) return "heads: channels must be a multiple of it";
  if (p.window % 2 != 0) return "window must be even";
  if (p.shift < 0 || p.shift >= p.window) return "shift: expected 0 to window - 1";
  if (!countable(int64_t{p.height} + p.window, int64_t{p.width} + p.window)) return "an image has too many pixels";
  return nullptr;
}

size_t workspace_size(DeformConvParams const& params, Pool const& pool, Kernels const* kernels) {
  return workspace_size(chosen(kernels).deform_conv, params, pool);
}

size_t workspace_size(DstAttentionParams const& params, Pool const& pool, Kernels const* kernels) {
  return workspace_size(chosen(kernels).dst_attention, params, pool);
}

const char* deform_conv(DeformConvParams const& params, Pool const& pool, void* workspace, Kernels const* kernels) {
  return run_phases(chosen(kernels).deform_conv, params, pool, workspace);
}

const char* dst_attention(DstAttentionParams const& params, Pool const& pool, void* workspace, Kernels const* kernels) {
  return run_phases(chosen(kernels).dst_attention, params, pool, workspace);
}

}  // namespace dinn360::cpu
