#include "operators.h"

namespace dinn360::ort {
namespace {

// Every shape of a node follows from a few numbers; what differs is named.
OrtStatus* expect(Context const& context, const char* node, const char* name, Tensor const& tensor,
                  int64_t const (&shape)[4], size_t rank = 4) {
  for (size_t i = 0; i < rank; ++i) {
    if (tensor.shape[i] != shape[i]) {
      return error(context.api(), "dinn360:%s: input %s: expected %lld in dimension %zu, found %lld", node, name,
                   static_cast<long long>(shape[i]), i, static_cast<long long>(tensor.shape[i]));
    }
  }
  return nullptr;
}

DataType data_type(Tensor const& tensor) {
  return tensor.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 ? DataType::kHalf : DataType::kFloat;
}

}  // namespace

OrtStatus* DeformConvNode::load(Attributes const& attributes) {
  DINN360_TRY(attributes.read("strides", strides_, 2));
  DINN360_TRY(attributes.read("pads", pads_, 2));
  DINN360_TRY(attributes.read("dilations", dilations_, 2));
  DINN360_TRY(attributes.read("group", &group_));
  DINN360_TRY(attributes.read("offset_group", &offset_group_));
  DINN360_TRY(attributes.read("wrap", &wrap_));
  bool const good = strides_[0] > 0 && strides_[1] > 0 && pads_[0] >= 0 && pads_[1] >= 0 && dilations_[0] > 0 &&
                    dilations_[1] > 0 && group_ > 0 && offset_group_ > 0;
  return good ? nullptr
              : error(attributes.api(),
                      "dinn360:DeformConv2d: strides, dilations, group and offset_group: expected "
                      "positive numbers; pads: expected none below zero");
}

OrtStatus* DeformConvNode::constants(Attributes const& attributes, DeformConvParams* params) const {
  Tensor weight, bias;
  DINN360_TRY(attributes.constant(2, &weight));
  DINN360_TRY(attributes.constant(3, &bias));
  *params = DeformConvParams{};
  if (weight.data == nullptr || bias.data == nullptr || weight.rank != 4) return nullptr;
  auto const narrow = [](int64_t value) { return static_cast<int32_t>(value); };
  params->weight = weight.data;
  params->bias = bias.data;
  params->batch = params->height = params->width = params->out_height = params->out_width = 1;
  params->out_channels = narrow(weight.shape[0]);
  params->channels = narrow(weight.shape[1]) * group_;
  params->kernel_rows = narrow(weight.shape[2]);
  params->kernel_columns = narrow(weight.shape[3]);
  params->groups = group_;
  params->offset_groups = offset_group_;
  params->type = data_type(weight);
  params->layout = Layout::kLinear;
  return nullptr;
}

OrtStatus* DeformConvNode::prepare(Context const& context, DeformConvParams* params) const {
  static constexpr const char* kNode = "DeformConv2d";
  Tensor x, offset, weight, bias, mask;
  DINN360_TRY(context.input(0, "dinn360:DeformConv2d: input x", 4, &x));
  DINN360_TRY(context.input(1, "dinn360:DeformConv2d: input offset", 4, &offset));
  DINN360_TRY(context.input(2, "dinn360:DeformConv2d: input weight", 4, &weight));
  DINN360_TRY(context.input(3, "dinn360:DeformConv2d: input bias", 1, &bias));
  DINN360_TRY(context.input(4, "dinn360:DeformConv2d: input mask", 4, &mask));
  int64_t const batch = x.shape[0], channels = x.shape[1], outputs = weight.shape[0];
  int64_t const taps = weight.shape[2] * weight.shape[3], fields = offset_group_ * taps;
  int64_t size[2];
  for (size_t axis = 0; axis < 2; ++axis) {
    int64_t const reach = int64_t{dilations_[axis]} * (weight.shape[2 + axis] - 1) + 1;
    int64_t const room = x.shape[2 + axis] + 2 * int64_t{pads_[axis]} - reach;
    size[axis] = room < 0 ? 0 : room / strides_[axis] + 1;
  }
  if (channels % group_ != 0 || outputs % group_ != 0 || channels % offset_group_ != 0) {
    return error(context.api(),
                 "dinn360:%s: %lld input and %lld output channels do not divide by group %d and "
                 "offset_group %d",
                 kNode, static_cast<long long>(channels), static_cast<long long>(outputs), group_, offset_group_);
  }
  DINN360_TRY(expect(context, kNode, "offset", offset, {batch, 2 * fields, size[0], size[1]}));
  DINN360_TRY(expect(context, kNode, "weight", weight, {outputs, channels / group_, weight.shape[2], weight.shape[3]}));
  DINN360_TRY(expect(context, kNode, "bias", bias, {outputs}, 1));
  if (mask.data != nullptr) DINN360_TRY(expect(context, kNode, "mask", mask, {batch, fields, size[0], size[1]}));

  void* y = nullptr;
  int64_t const shape[4] = {batch, outputs, size[0], size[1]};
  DINN360_TRY(context.output(0, shape, 4, &y));
  auto const narrow = [](int64_t value) { return static_cast<int32_t>(value); };
  *params = DeformConvParams{};
  params->x = x.data;
  params->offset = offset.data;
  params->weight = weight.data;
  params->bias = bias.data;
  params->mask = mask.data;
  params->y = y;
  params->batch = narrow(batch);
  params->channels = narrow(channels);
  params->height = narrow(x.shape[2]);
  params->width = narrow(x.shape[3]);
  params->out_channels = narrow(outputs);
  params->out_height = narrow(size[0]);
  params->out_width = narrow(size[1]);
  params->kernel_rows = narrow(weight.shape[2]);
  params->kernel_columns = narrow(weight.shape[3]);
  params->stride_row = strides_[0];
  params->stride_column = strides_[1];
  params->pad_row = pads_[0];
  params->pad_column = pads_[1];
  params->dilation_row = dilations_[0];
  params->dilation_column = dilations_[1];
  params->groups = group_;
  params->offset_groups = offset_group_;
  params->wrap = wrap_;
  params->type = data_type(x);
  params->layout = Layout::kLinear;
  return nullptr;
}

OrtStatus* DstAttentionNode::load(Attributes const& attributes) {
  DINN360_TRY(attributes.read("heads", &heads_));
  DINN360_TRY(attributes.read("window", &window_));
  DINN360_TRY(attributes.read("shift", &shift_));
  DINN360_TRY(attributes.read("wrap", &wrap_));
  bool const good = heads_ > 0 && window_ > 0 && shift_ >= 0 && shift_ < window_;
  return good ? nullptr
              : error(attributes.api(),
                      "dinn360:DSTAttention: expected heads and window above zero and shift in "
                      "[0, window), found %d, %d and %d",
                      heads_, window_, shift_);
}

OrtStatus* DstAttentionNode::prepare(Context const& context, DstAttentionParams* params) const {
  static constexpr const char* kNode = "DSTAttention";
  Tensor q, k, v, bias, scale, offset;
  DINN360_TRY(context.input(0, "dinn360:DSTAttention: input q", 4, &q));
  DINN360_TRY(context.input(1, "dinn360:DSTAttention: input k", 4, &k));
  DINN360_TRY(context.input(2, "dinn360:DSTAttention: input v", 4, &v));
  DINN360_TRY(context.input(3, "dinn360:DSTAttention: input bias", 3, &bias));
  DINN360_TRY(context.input(4, "dinn360:DSTAttention: input scale", 4, &scale));
  DINN360_TRY(context.input(5, "dinn360:DSTAttention: input offset", 4, &offset));
  int64_t const batch = q.shape[0], channels = q.shape[1], height = q.shape[2], width = q.shape[3];
  int64_t const area = int64_t{window_} * window_;
  int64_t const down = (height + window_ - 1) / window_, across = (width + window_ - 1) / window_;
  if (channels % heads_ != 0) {
    return error(context.api(), "dinn360:%s: %lld channels do not divide by %d heads", kNode,
                 static_cast<long long>(channels), heads_);
  }
  if ((scale.data == nullptr) != (offset.data == nullptr)) {
    return error(context.api(), "dinn360:%s: expected scale and offset both, or neither", kNode);
  }
  DINN360_TRY(expect(context, kNode, "k", k, {batch, channels, height, width}));
  DINN360_TRY(expect(context, kNode, "v", v, {batch, channels, height, width}));
  DINN360_TRY(expect(context, kNode, "bias", bias, {heads_, area, area}, 3));
  if (scale.data != nullptr) {
    DINN360_TRY(expect(context, kNode, "scale", scale, {batch, 2 * int64_t{heads_}, down, across}));
    DINN360_TRY(expect(context, kNode, "offset", offset, {batch, 2 * int64_t{heads_}, down, across}));
  }
  void* y = nullptr;
  DINN360_TRY(context.output(0, q.shape, 4, &y));
  auto const narrow = [](int64_t value) { return static_cast<int32_t>(value); };
  *params = DstAttentionParams{};
  params->q = q.data;
  params->k = k.data;
  params->v = v.data;
  params->bias = bias.data;
  params->scale = scale.data;
  params->offset = offset.data;
  params->y = y;
  params->batch = narrow(batch);
  params->channels = narrow(channels);
  params->height = narrow(height);
  params->width = narrow(width);
  params->heads = heads_;
  params->window = window_;
  params->shift = shift_;
  params->wrap = wrap_;
  params->type = data_type(q);
  params->layout = Layout::kLinear;
  return nullptr;
}

}  // namespace dinn360::ort
