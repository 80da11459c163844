#include "fused_operators.h"

#include "../cpu/fused/operators.h"
#include "large_output.h"
#include "session_pool.h"
#include "sources.h"

namespace dinn360::ort {
namespace {

const char* const kActivations[] = {"none", "relu", "leaky_relu", "clip", "gelu", "leaky_relu_of_sum"};
const char* const kCouplings[] = {"none", "affine", "affine_inverse", "projection_inverse"};

template <class Params>
OrtStatus* run_pixelwise(const char* node, Params const& params, Context const& context) {
  if (const char* const why = fused::check(params)) return error(context.api(), "%s: %s", node, why);
  SessionPool threads{context};
  fused::run(params, threads.pool());
  return threads.status;
}

}  // namespace

OrtStatus* SphereConv2d::load(Attributes const& attributes) {
  DINN360_TRY(read_sources(attributes, &sources_, first_, count_));
  outputs_ = attributes.output_count();
  DINN360_TRY(attributes.read("wrap", &wrap_));
  DINN360_TRY(attributes.read("residual_first", &residual_first_));
  DINN360_TRY(attributes.read("input_slope", &input_slope_));
  DINN360_TRY(attributes.read("activation", kActivations, 6, &activation_));
  DINN360_TRY(attributes.read("slope", &slope_));
  DINN360_TRY(attributes.read("limit", &limit_));
  DINN360_TRY(attributes.read("coupling", kCouplings, 4, &coupling_));
  DINN360_TRY(attributes.read("bound", &bound_));
  Tensor weight;
  DINN360_TRY(attributes.constant(1, &weight));
  return pack(attributes.api(), weight);
}

// Packs a constant weight that `compute` will take; any other is packed, or refused, there.
OrtStatus* SphereConv2d::pack(OrtApi const* api, Tensor const& weight) {
  if (weight.data == nullptr || weight.rank != 4 || weight.type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) return nullptr;
  fused::ConvParams params{};
  params.weight = static_cast<const float*>(weight.data);
  params.channels = narrow(weight.shape[1]);
  params.out_channels = narrow(weight.shape[0]);
  params.kernel = narrow(weight.shape[2]);
  bool const known = (params.kernel == 1 || params.kernel == 3) && weight.shape[3] == weight.shape[2];
  if (!known || params.channels < 1 || params.out_channels < 1) return nullptr;
  packed_.reset(new (std::nothrow) float[fused::packed_floats(params)]);
  if (packed_ == nullptr) return error(api, "%s: no memory for the weights", kNode);
  fused::pack(params, packed_.get());
  return nullptr;
}

OrtStatus* SphereConv2d::compute(Context const& context) const {
  Tensor x, weight, bias, residual, addend;
  DINN360_TRY(context.input(0, kNode, 4, &x));
  DINN360_TRY(context.input(1, kNode, 4, &weight));
  DINN360_TRY(context.input(2, kNode, 1, &bias));
  DINN360_TRY(context.input(3, kNode, 4, &residual));
  DINN360_TRY(context.input(4, kNode, 4, &addend));
  fused::ConvParams params{};
  params.sources[0] = channels(x, first_[0], count_[0]);
  for (size_t i = 1; i < sources_; ++i) {
    Tensor source;
    DINN360_TRY(take(context, kNode, 4 + i, x, &source));
    params.sources[i] = channels(source, first_[i], count_[i]);
  }
  params.source_count = narrow(static_cast<int64_t>(sources_));
  params.coupling = static_cast<fused::Coupling>(coupling_);
  int64_t const outputs = params.coupling == fused::Coupling::kNone ? weight.shape[0] : weight.shape[0] / 2;
  if (residual.data != nullptr) {
    DINN360_TRY(take(context, kNode, 3, x, &residual));
    params.residual = channels(residual, residual_first_, narrow(outputs));
  }
  if (addend.data != nullptr) {
    DINN360_TRY(take(context, kNode, 4, x, &addend));
    if (addend.shape[1] != x.shape[1]) return error(context.api(), "%s: addend: expected the channels of x", kNode);
  }
  if (bias.shape[0] != weight.shape[0] || weight.shape[2] != weight.shape[3]) {
    return error(context.api(), "%s: expected a square kernel and a bias for each output channel", kNode);
  }
  params.addend = static_cast<const float*>(addend.data);
  params.input_slope = input_slope_;
  params.weight = static_cast<const float*>(weight.data);
  params.bias = static_cast<const float*>(bias.data);
  params.output_count = narrow(static_cast<int64_t>(outputs_));
  params.batch = narrow(x.shape[0]);
  params.channels = narrow(weight.shape[1]);
  params.height = narrow(x.shape[2]);
  params.width = narrow(x.shape[3]);
  params.out_channels = narrow(weight.shape[0]);
  params.kernel = narrow(weight.shape[2]);
  params.wrap = wrap_;
  params.activation = static_cast<fused::Activation>(activation_);
  params.slope = slope_;
  params.limit = limit_;
  params.bound = bound_;
  if (const char* const why = fused::check(params)) return error(context.api(), "%s: %s", kNode, why);
  int64_t const shape[4] = {x.shape[0], outputs / params.output_count, x.shape[2], x.shape[3]};
  for (size_t i = 0; i < outputs_; ++i) {
    DINN360_TRY(large_output(context, i, shape, &params.y[i]));
  }
  SessionPool threads{context};
  cpu::Pool const pool = threads.pool();
  Workspace workspace(context);
  DINN360_TRY(workspace.reserve(fused::workspace_size(params, pool, packed_.get())));
  fused::run(params, pool, workspace.data, packed_.get());
  return threads.status;
}

OrtStatus* ChannelNorm::compute(Context const& context) const {
  static constexpr const char* kNode = "dinn360.cpu:ChannelNorm";
  Tensor x, weight, bias;
  DINN360_TRY(context.input(0, kNode, 4, &x));
  DINN360_TRY(context.input(1, kNode, 1, &weight));
  DINN360_TRY(context.input(2, kNode, 1, &bias));
  if (weight.shape[0] != x.shape[1] || bias.shape[0] != x.shape[1]) {
    return error(context.api(), "%s: expected a weight and a bias for each channel", kNode);
  }
  void* y = nullptr;
  DINN360_TRY(context.output(0, x.shape, 4, &y));
  fused::ChannelNormParams params{};
  params.x = static_cast<const float*>(x.data);
  params.weight = static_cast<const float*>(weight.data);
  params.bias = static_cast<const float*>(bias.data);
  params.y = static_cast<float*>(y);
  params.batch = static_cast<int32_t>(x.shape[0]);
  params.channels = static_cast<int32_t>(x.shape[1]);
  params.height = static_cast<int32_t>(x.shape[2]);
  params.width = static_cast<int32_t>(x.shape[3]);
  params.epsilon = epsilon_;
  return run_pixelwise(kNode, params, context);
}

OrtStatus* Haar::load(Attributes const& attributes) {
  DINN360_TRY(read_sources(attributes, &sources_, first_, count_));
  return attributes.read("inverse", &inverse_);
}

OrtStatus* Haar::compute(Context const& context) const {
  static constexpr const char* kNode = "dinn360.cpu:Haar";
  Tensor x;
  DINN360_TRY(context.input(0, kNode, 4, &x));
  fused::HaarParams params{};
  int64_t total = 0;
  for (size_t i = 0; i < sources_; ++i) {
    Tensor source;
    DINN360_TRY(take(context, kNode, i, x, &source));
    params.sources[i] = channels(source, first_[i], count_[i]);
    total += count_[i];
  }
  int64_t const factor = inverse_ ? 2 : 1;
  params.source_count = static_cast<int32_t>(sources_);
  params.inverse = inverse_ != 0;
  params.batch = static_cast<int32_t>(x.shape[0]);
  params.channels = static_cast<int32_t>(inverse_ ? total / 4 : total);
  params.height = static_cast<int32_t>(x.shape[2] * factor);
  params.width = static_cast<int32_t>(x.shape[3] * factor);
  if (const char* const why = fused::check(params)) return error(context.api(), "%s: %s", kNode, why);
  int64_t const image[4] = {x.shape[0], params.channels, params.height, params.width};
  int64_t const bands[4] = {x.shape[0], 4 * int64_t{params.channels}, params.height / 2, params.width / 2};
  void* y = nullptr;
  DINN360_TRY(context.output(0, inverse_ ? image : bands, 4, &y));
  params.y = static_cast<float*>(y);
  return run_pixelwise(kNode, params, context);
}

}  // namespace dinn360::ort
