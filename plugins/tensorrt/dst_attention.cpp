#include <stdexcept>

#include "operators.h"

namespace dinn360::tensorrt {
namespace {

enum { kQ, kK, kV, kBias, kScale, kOffset };

int64_t windows(int64_t size, int32_t window) { return size == kOpen ? kOpen : (size + window - 1) / window; }

}  // namespace

void DstAttention::check_fields() const {
  if (window % 2 != 0) {
    throw std::invalid_argument("field 'window': expected an even number, found " + std::to_string(window));
  }
  if (shift >= window) {
    throw std::invalid_argument("field 'shift': expected less than the window of " + std::to_string(window) +
                                ", found " + std::to_string(shift));
  }
}

void DstAttention::check_shapes(nvinfer1::Dims const* inputs, int32_t count) const {
  expect_rank(kInputs[kQ], inputs[kQ].nbDims);
  int64_t const* const q = inputs[kQ].d;
  if (q[1] != kOpen && q[1] % heads != 0) {
    throw std::invalid_argument("field 'heads': expected a divisor of the " + std::to_string(q[1]) +
                                " channels of q, found " + std::to_string(heads));
  }
  for (int32_t i : {kK, kV}) {
    expect_shape(kInputs[i], inputs[i], {q[0], q[1], q[2], q[3]});
  }
  int64_t const tokens = int64_t{window} * window;
  expect_shape(kInputs[kBias], inputs[kBias], {heads, tokens, tokens});
  for (int32_t i = kScale; i < count; ++i) {
    expect_shape(kInputs[i], inputs[i], {q[0], 2 * int64_t{heads}, windows(q[2], window), windows(q[3], window)});
  }
}

void DstAttention::output_shape(nvinfer1::DimsExprs const* inputs, nvinfer1::IExprBuilder&,
                                nvinfer1::DimsExprs& y) const {
  y = inputs[kQ];
}

DstAttentionParams DstAttention::sizes(nvinfer1::Dims const* inputs) const {
  int64_t const* const q = inputs[kQ].d;
  DstAttentionParams params{};
  params.batch = narrow(q[0]);
  params.channels = narrow(q[1]);
  params.height = narrow(q[2]);
  params.width = narrow(q[3]);
  params.heads = heads;
  params.window = window;
  params.shift = shift;
  params.wrap = wrap;
  return params;
}

void DstAttention::bind(Params& params, void const* const* inputs, int32_t count, void* y) {
  params.q = inputs[kQ];
  params.k = inputs[kK];
  params.v = inputs[kV];
  params.bias = inputs[kBias];
  params.scale = count > kScale ? inputs[kScale] : nullptr;
  params.offset = count > kOffset ? inputs[kOffset] : nullptr;
  params.y = y;
}

}  // namespace dinn360::tensorrt
