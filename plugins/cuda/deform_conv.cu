// Deformable convolution on CUDA: the host side of launch.h, and the packing of weights. The definition is in params.h,
// the way it is computed in deform_conv_task.cuh.
#include "deform_conv_float.cuh"
#include "deform_conv_half.cuh"
#include "launch.h"

namespace dinn360 {
using pieces::ceil_div;

namespace deform {
namespace {

int greatest_common_divisor(int a, int b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

// Output channels of one block of the fp16 kernel: one block where that is possible, and no more than needed.
int half_outputs(int64_t outputs) { return outputs <= 16 ? 16 : outputs <= 32 ? 32 : 64; }

size_t element_size(DataType type) { return type == DataType::kHalf ? 2 : 4; }

constexpr size_t kPackedAlignment = 256;

size_t packed_weights(Plan const& plan, DeformConvParams const& params) {
  size_t const bytes = static_cast<size_t>(plan.weights(params.groups)) * element_size(params.type);
  return (bytes + kPackedAlignment - 1) / kPackedAlignment * kPackedAlignment;
}

}  // namespace

Plan plan(DeformConvParams const& p) {
  Plan plan{};
  bool const channels_last = p.layout != Layout::kLinear, filled_up = p.layout == Layout::kHWC8;
  int const field_channels = p.channels / p.offset_groups;
  plan.taps = p.kernel_rows * p.kernel_columns;
  plan.group_channels = p.channels / p.groups;
  plan.group_outputs = p.out_channels / p.groups;
  plan.segment_channels = greatest_common_divisor(plan.group_channels, field_channels);
  plan.segments = plan.group_channels / plan.segment_channels;
  plan.segments_per_field = field_channels / plan.segment_channels;
  plan.spots = plan.segments * plan.taps;
  plan.parts = static_cast<int>(ceil_div(plan.segment_channels, 8));
  plan.steps = static_cast<int>(ceil_div(int64_t{plan.spots} * plan.parts, 4));
  plan.step_slots = 4 / plan.parts, plan.step_rest = 4 % plan.parts;
  // The last group's blocks also write the zeros that fill y up.
  int64_t const filled = filled_up ? ceil_div(p.out_channels, 8) * 8 - p.out_channels : 0;
  int64_t const outputs = plan.group_outputs + filled;
  plan.block_outputs = p.type == DataType::kHalf ? half_outputs(outputs) : float_kernel::kOutputs;
  plan.out_blocks = static_cast<int>(ceil_div(outputs, plan.block_outputs));
  plan.tile_rows = p.type == DataType::kHalf ? half_kernel::warps(plan.block_outputs / 8) : float_kernel::kWarps;
  plan.column_tiles = static_cast<int>(ceil_div(p.out_width, kWarp));
  plan.row_tiles = static_cast<int>(ceil_div(p.out_height, plan.tile_rows));
  // What kHWC8 fills up, a kernel may read and write as well.
  bool const whole_octets = (filled_up && p.groups == 1 && plan.segments == 1) || plan.segment_channels % 8 == 0;
  bool const whole_outputs = (filled_up && p.groups == 1) || plan.group_outputs % 8 == 0;
  bool const whole_offsets = filled_up || p.offset_groups * plan.taps % kSpots == 0;
  plan.vector = channels_last && whole_octets && whole_outputs;
  plan.offsets_in_order =
      channels_last && whole_offsets && plan.segments_per_field == 1 && (p.groups == 1 || plan.spots % kSpots == 0);
  return plan;
}

namespace {

// Eight elements of the packed weights a thread, in the order that the kernels read; the packed bias after them.
template <class T>
__global__ void pack_weights(Global<T const> weight, Global<T const> bias, Global<T> packed, Global<float> packed_bias,
                             Plan const plan, int64_t eights, int64_t biases) {
  int64_t const index = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index < biases) {
    int64_t const block = index / plan.block_outputs;
    int64_t const output = block % plan.out_blocks * plan.block_outputs + index % plan.block_outputs;
    float value = 0.0f;
    if (output < plan.group_outputs) {
      value = to_float(bias.load(block / plan.out_blocks * plan.group_outputs + output));
    }
    packed_bias.store(index, value);
  }
  if (index >= eights) return;
  int64_t const step_size = int64_t{4} * plan.block_outputs;  // in eights
  int const within = static_cast<int>(index % step_size);
  int64_t const step = index / step_size % plan.steps, block = index / step_size / plan.steps;
  int64_t const group = block / plan.out_blocks, first_output = block % plan.out_blocks * plan.block_outputs;
  Eight eight;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    int octet, element, output;
    if constexpr (sizeof(T) == 2) {  // [n8 tile][lane][channel]: a lane's share of two products
      int const lane = within % kWarp;
      octet = lane % 4;
      element = i;
      output = half_kernel::output_channel(plan.block_outputs / 8, within / kWarp, lane / 4);
    } else {  // [inner element][output]
      octet = within / plan.block_outputs;
      element = within / (plan.block_outputs / 8) % 8;
      output = within % (plan.block_outputs / 8) * 8 + i;
    }
    int64_t const number = 4 * step + octet, spot = number / plan.parts;
    int64_t const within_segment = number % plan.parts * 8 + element, out = first_output + output;
    int64_t const channel = spot / plan.taps * plan.segment_channels + within_segment;
    bool const real = spot < plan.spots && within_segment < plan.segment_channels && out < plan.group_outputs;
    int64_t const at =
        ((group * plan.group_outputs + out) * plan.group_channels + channel) * plan.taps + spot % plan.taps;
    eight.value[i] = real ? to_float(weight.load(at)) : 0.0f;
  }
  store_eight(packed, 8 * index, eight);
}

template <class T>
Task<T> make_task(DeformConvParams const& p, Plan const& plan, void const* workspace) {
  int64_t const inside = int64_t{p.height} * p.width, outside = int64_t{p.out_height} * p.out_width;
  int64_t const fields = int64_t{p.offset_groups} * plan.taps;
  bool const linear = p.layout == Layout::kLinear;
  Task<T> task{};
  task.x = {static_cast<T const*>(p.x)};
  task.offset = {static_cast<T const*>(p.offset)};
  task.mask = {static_cast<T const*>(p.mask)};
  task.weight = {static_cast<T const*>(workspace)};
  task.bias = {reinterpret_cast<float const*>(static_cast<unsigned char const*>(workspace) + packed_weights(plan, p))};
  task.y = {static_cast<T*>(p.y)};
  task.x_at = strides(p.layout, p.channels, inside);
  task.offset_at = strides(p.layout, 2 * fields, outside);
  task.mask_at = strides(p.layout, fields, outside);
  task.y_at = strides(p.layout, p.out_channels, outside);
  task.plan = plan;
  task.height = p.height, task.width = p.width;
  task.out_height = p.out_height, task.out_width = p.out_width;
  task.out_stored = linear ? p.out_channels : static_cast<int>(task.y_at.pixel);
  task.kernel_rows = p.kernel_rows, task.kernel_columns = p.kernel_columns;
  task.stride_row = p.stride_row, task.stride_column = p.stride_column;
  task.pad_row = p.pad_row, task.pad_column = p.pad_column;
  task.dilation_row = p.dilation_row, task.dilation_column = p.dilation_column;
  task.groups = p.groups;
  task.wrap = p.wrap != 0;
  task.masked = p.mask != nullptr;
  return task;
}

template <int kTiles>
void start_half(Task<__half> const& task, dim3 grid, Stream stream) {
  dim3 const block(half_kernel::warps(kTiles) * kWarp);
  if (task.plan.vector) {
    DINN360_LAUNCH((half_kernel::deform_conv_half<kTiles, true>), grid, block, 0, stream, task);
  } else {
    DINN360_LAUNCH((half_kernel::deform_conv_half<kTiles, false>), grid, block, 0, stream, task);
  }
}

void start(Task<__half> const& task, dim3 grid, Stream stream) {
  if (task.plan.block_outputs == 16) return start_half<2>(task, grid, stream);
  if (task.plan.block_outputs == 32) return start_half<4>(task, grid, stream);
  start_half<8>(task, grid, stream);
}

void start(Task<float> const& task, dim3 grid, Stream stream) {
  dim3 const block(float_kernel::kWarps * kWarp);
  if (task.plan.vector) {
    DINN360_LAUNCH(float_kernel::deform_conv_float<true>, grid, block, 0, stream, task);
  } else {
    DINN360_LAUNCH(float_kernel::deform_conv_float<false>, grid, block, 0, stream, task);
  }
}

dim3 grid(DeformConvParams const& params, Plan const& plan) {
  return dim3(static_cast<uint32_t>(plan.column_tiles * plan.out_blocks), static_cast<uint32_t>(plan.row_tiles),
              static_cast<uint32_t>(params.batch * params.groups));
}

char const* last_error() {
  cudaError_t const error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <class T>
char const* pack(DeformConvParams const& params, Plan const& plan, void* workspace, Stream stream) {
  int64_t const eights = plan.weights(params.groups) / 8, biases = plan.biases(params.groups);
  uint32_t const threads = 256;
  auto const blocks = static_cast<uint32_t>(ceil_div(eights > biases ? eights : biases, threads));
  Global<T const> const weight{static_cast<T const*>(params.weight)}, bias{static_cast<T const*>(params.bias)};
  Global<T> const packed{static_cast<T*>(workspace)};
  Global<float> const packed_bias{
      reinterpret_cast<float*>(static_cast<unsigned char*>(workspace) + packed_weights(plan, params))};
  DINN360_LAUNCH(pack_weights<T>, dim3(blocks), dim3(threads), 0, stream, weight, bias, packed, packed_bias, plan,
                 eights, biases);
  return last_error();
}

template <class T>
char const* run(DeformConvParams const& params, Plan const& plan, void const* workspace, Stream stream) {
  start(make_task<T>(params, plan, workspace), grid(params, plan), stream);
  return last_error();
}

}  // namespace
}  // namespace deform

char const* check(DeformConvParams const& p) {
  if (!p.x || !p.offset || !p.weight || !p.bias || !p.y) return "DeformConv2d: a tensor's pointer is null";
  for (int32_t const size : {p.batch, p.channels, p.height, p.width, p.out_channels, p.out_height, p.out_width,
                             p.kernel_rows, p.kernel_columns, p.stride_row, p.stride_column, p.dilation_row,
                             p.dilation_column, p.groups, p.offset_groups}) {
    if (size < 1) return "DeformConv2d: sizes, strides, dilations and groups must be at least 1";
  }
  if (p.channels % p.groups != 0 || p.out_channels % p.groups != 0) {
    return "DeformConv2d: groups must divide the input and the output channels";
  }
  if (p.channels % p.offset_groups != 0) return "DeformConv2d: offset groups must divide the input channels";
  if (p.pad_row < 0 || p.pad_column < 0) return "DeformConv2d: pads must not be negative";
  for (void const* const tensor : {p.x, p.offset, p.mask, static_cast<void const*>(p.y)}) {
    if (p.layout != Layout::kLinear && reinterpret_cast<uintptr_t>(tensor) % 16 != 0) {
      return "DeformConv2d: a channels-last tensor must begin on a 16-byte boundary";
    }
  }
  int64_t const limit = int64_t{1} << 29;  // a position plus an offset of 2^30 pixels fits an int
  auto const reach = [](int64_t size, int64_t stride, int64_t kernel, int64_t dilation, int64_t pad) {
    return size * stride + kernel * dilation + pad;
  };
  if (reach(p.out_height, p.stride_row, p.kernel_rows, p.dilation_row, p.pad_row) > limit ||
      reach(p.out_width, p.stride_column, p.kernel_columns, p.dilation_column, p.pad_column) > limit ||
      int64_t{p.height} * p.width > 0x7fffffff || int64_t{p.out_height} * p.out_width > 0x7fffffff) {
    return "DeformConv2d: an image has more than 2^31 pixels, or a side with its strides and pads more than 2^29";
  }
  if (int64_t{p.height} * p.width * ceil_div(p.channels, 8) > 0x7fffffff / 2) {
    return "DeformConv2d: an image of more than 2^33 values";
  }
  if (int64_t{p.channels} * p.kernel_rows * p.kernel_columns > limit) {
    return "DeformConv2d: more than 2^29 weights for an output channel";
  }
  deform::Plan const plan = deform::plan(p);
  if (int64_t{plan.column_tiles} * plan.out_blocks > 0x7fffffff || plan.row_tiles > 65535 ||
      int64_t{p.batch} * p.groups > 65535 || plan.weights(p.groups) > 0x7fffffff) {
    return "DeformConv2d: more thread blocks than one launch takes";
  }
  return nullptr;
}

size_t workspace_size(DeformConvParams const& params) {
  deform::Plan const plan = deform::plan(params);
  return deform::packed_weights(plan, params) + static_cast<size_t>(plan.biases(params.groups)) * sizeof(float);
}

char const* pack(DeformConvParams const& params, void* workspace, Stream stream) {
  if (!params.weight || !params.bias || !workspace) return "DeformConv2d: weight, bias or workspace is null";
  deform::Plan const plan = deform::plan(params);
  return params.type == DataType::kHalf ? deform::pack<__half>(params, plan, workspace, stream)
                                        : deform::pack<float>(params, plan, workspace, stream);
}

char const* launch_packed(DeformConvParams const& params, void const* workspace, Stream stream) {
  if (char const* const why = check(params)) return why;
  if (!workspace) return "DeformConv2d: the workspace is null";
  deform::Plan const plan = deform::plan(params);
  return params.type == DataType::kHalf ? deform::run<__half>(params, plan, workspace, stream)
                                        : deform::run<float>(params, plan, workspace, stream);
}

char const* launch(DeformConvParams const& params, void* workspace, Stream stream) {
  if (char const* const why = check(params)) return why;
  if (char const* const why = pack(params, workspace, stream)) return why;
  return launch_packed(params, workspace, stream);
}

}  // namespace dinn360
