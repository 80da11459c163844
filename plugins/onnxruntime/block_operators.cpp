// SphereSqueeze and SphereUnsqueeze.
#include "../cpu/fused/operators.h"
#include "fused_operators.h"
#include "large_output.h"
#include "session_pool.h"
#include "sources.h"

namespace dinn360::ort {
namespace {

constexpr size_t kMostFunctions = 4096;  // 64 channels of 8x8

// The attribute `order`, the function that each channel has, as the channel of each function.
OrtStatus* read_places(Attributes const& attributes, const char* node, size_t* count,
                       std::unique_ptr<int32_t[]>* places) {
  DINN360_TRY(attributes.count("order", kMostFunctions, count));
  std::unique_ptr<int32_t[]> const order(new (std::nothrow) int32_t[*count]);
  places->reset(new (std::nothrow) int32_t[*count]);
  if (order == nullptr || *places == nullptr) return error(attributes.api(), "%s: no memory", node);
  DINN360_TRY(attributes.read("order", order.get(), *count));
  for (size_t i = 0; i < *count; ++i) (*places)[i] = -1;  // which `check` refuses
  for (size_t i = 0; i < *count; ++i) {
    bool const known = order[i] >= 0 && static_cast<size_t>(order[i]) < *count;
    if (known) (*places)[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
  }
  return nullptr;
}

template <class Params>
OrtStatus* run_blocks(Params const& params, Context const& context) {
  SessionPool threads{context};
  cpu::Pool const pool = threads.pool();
  Workspace workspace(context);
  DINN360_TRY(workspace.reserve(fused::workspace_size(params, pool)));
  fused::run(params, pool, workspace.data);
  return threads.status;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

OrtStatus* SphereSqueeze::load(Attributes const& attributes) {
  outputs_ = attributes.output_count();
  DINN360_TRY(attributes.read("channel_counts", count_, outputs_));
  DINN360_TRY(read_places(attributes, kNode, &functions_, &places_));
  DINN360_TRY(attributes.read("factor", &factor_));
  DINN360_TRY(attributes.read("multiple", &multiple_));
  DINN360_TRY(attributes.read("margin", &margin_));
  bool const good = factor_ > 0 && multiple_ > 0 && multiple_ % factor_ == 0 && margin_ >= 0 && margin_ % factor_ == 0;
  return good ? nullptr
              : error(attributes.api(),
                      "%s: expected a positive factor that multiple and margin divide by, found %d, "
                      "%d and %d",
                      kNode, factor_, multiple_, margin_);
}

OrtStatus* SphereSqueeze::compute(Context const& context) const {
  Tensor x;
  DINN360_TRY(context.input(0, kNode, 4, &x));
  int64_t const area = int64_t{factor_} * factor_;
  if (x.shape[1] * area != static_cast<int64_t>(functions_)) {
    return error(context.api(), "%s: expected %lld channels, found %lld", kNode,
                 static_cast<long long>(static_cast<int64_t>(functions_) / area), static_cast<long long>(x.shape[1]));
  }
  fused::SqueezeParams params{};
  params.x = static_cast<const float*>(x.data);
  params.output_count = narrow(static_cast<int64_t>(outputs_));
  params.places = places_.get();
  params.batch = narrow(x.shape[0]);
  params.channels = narrow(x.shape[1]);
  params.height = narrow(x.shape[2]);
  params.width = narrow(x.shape[3]);
  params.factor = factor_;
  params.margin = margin_;
  int64_t const whole = multiple_ / factor_;  // blocks
  int64_t const rows = ceil_div(x.shape[2], multiple_) * whole;
  int64_t const columns = ceil_div(x.shape[3], multiple_) * whole + 2 * int64_t{margin_ / factor_};
  params.rows = narrow(rows);
  params.columns = narrow(columns);
  for (size_t i = 0; i < outputs_; ++i) params.counts[i] = count_[i];
  if (const char* const why = fused::check(params)) return error(context.api(), "%s: %s", kNode, why);
  for (size_t i = 0; i < outputs_; ++i) {
    int64_t const shape[4] = {x.shape[0], count_[i], rows, columns};
    DINN360_TRY(large_output(context, i, shape, &params.y[i]));
  }
  return run_blocks(params, context);
}

OrtStatus* SphereUnsqueeze::load(Attributes const& attributes) {
  DINN360_TRY(read_sources(attributes, &sources_, first_, count_));
  DINN360_TRY(read_places(attributes, kNode, &functions_, &places_));
  DINN360_TRY(attributes.read("factor", &factor_));
  DINN360_TRY(attributes.read("margin", &margin_));
  DINN360_TRY(attributes.read("size_factor", &size_factor_));
  DINN360_TRY(attributes.read("size_divisor", &size_divisor_));
  DINN360_TRY(attributes.read("clamp", &clamp_));
  bool const good = factor_ > 0 && margin_ >= 0 && size_factor_ > 0 && size_divisor_ > 0;
  return good ? nullptr
              : error(attributes.api(),
                      "%s: factor, size_factor and size_divisor: expected positive numbers; margin: "
                      "expected none below zero",
                      kNode);
}

OrtStatus* SphereUnsqueeze::size(Context const& context, Tensor const& x, int64_t (&size)[2]) const {
  Tensor shape;
  DINN360_TRY(context.input(kShapeInput, kNode, 1, &shape));
  if (shape.data == nullptr) {
    size[0] = x.shape[2] * factor_;
    size[1] = (x.shape[3] - 2 * int64_t{margin_}) * factor_;
    return nullptr;
  }
  if (shape.shape[0] != 4) return error(context.api(), "%s: shape: expected four numbers", kNode);
  for (size_t axis = 0; axis < 2; ++axis) {
    int64_t const like = static_cast<const int64_t*>(shape.data)[2 + axis];
    if (like < 1 || like > INT32_MAX) return error(context.api(), "%s: shape: expected a size", kNode);
    size[axis] = ceil_div(like * size_factor_, size_divisor_);
  }
  return nullptr;
}

OrtStatus* SphereUnsqueeze::compute(Context const& context) const {
  Tensor x;
  DINN360_TRY(context.input(0, kNode, 4, &x));
  fused::UnsqueezeParams params{};
  params.sources[0] = channels(x, first_[0], count_[0]);
  for (size_t i = 1; i < sources_; ++i) {
    Tensor source;
    DINN360_TRY(take(context, kNode, 1 + i, x, &source));
    params.sources[i] = channels(source, first_[i], count_[i]);
  }
  int64_t size[2] = {};
  DINN360_TRY(this->size(context, x, size));
  params.source_count = narrow(static_cast<int64_t>(sources_));
  params.places = places_.get();
  params.batch = narrow(x.shape[0]);
  params.channels = narrow(static_cast<int64_t>(functions_) / (int64_t{factor_} * factor_));
  params.height = size[0] > INT32_MAX ? 0 : narrow(size[0]);  // which `check` refuses
  params.width = size[1] > INT32_MAX ? 0 : narrow(size[1]);
  params.rows = narrow(x.shape[2]);
  params.columns = narrow(x.shape[3]);
  params.factor = factor_;
  params.margin = margin_;
  params.clamp = clamp_ != 0;
  if (const char* const why = fused::check(params)) return error(context.api(), "%s: %s", kNode, why);
  int64_t const shape[4] = {x.shape[0], params.channels, size[0], size[1]};
  DINN360_TRY(large_output(context, 0, shape, &params.y));
  return run_blocks(params, context);
}

}  // namespace dinn360::ort
