#include <stdexcept>

#include "operators.h"

namespace dinn360::tensorrt {
namespace {

enum { kX, kOffset, kWeight, kBias, kMask };

void expect_divisible(char const* what, int64_t size, char const* field, int32_t by) {
  if (size != kOpen && size % by != 0) {
    throw std::invalid_argument(std::string("field '") + field + "': expected a divisor of the " +
                                std::to_string(size) + " " + what + ", found " + std::to_string(by));
  }
}

}  // namespace

void DeformConv2d::check_shapes(nvinfer1::Dims const* inputs, int32_t count) const {
  for (int32_t i : {kX, kWeight}) {
    expect_rank(kInputs[i], inputs[i].nbDims);
  }
  int64_t const* const x = inputs[kX].d;
  int64_t const* const weight = inputs[kWeight].d;
  expect_divisible("channels of x", x[1], "group", group);
  expect_divisible("channels of x", x[1], "offset_group", offset_group);
  expect_divisible("output channels", weight[0], "group", group);
  expect_shape(kInputs[kWeight], inputs[kWeight], {kOpen, x[1] == kOpen ? kOpen : x[1] / group, kOpen, kOpen});
  expect_shape(kInputs[kBias], inputs[kBias], {weight[0]});
  int64_t const fields = product(offset_group, product(weight[2], weight[3]));
  int64_t const height = rows().output(x[2], weight[2]), width = columns().output(x[3], weight[3]);
  expect_shape(kInputs[kOffset], inputs[kOffset], {x[0], product(2, fields), height, width});
  if (count > kMask) {
    expect_shape(kInputs[kMask], inputs[kMask], {x[0], fields, height, width});
  }
}

void DeformConv2d::output_shape(nvinfer1::DimsExprs const* inputs, nvinfer1::IExprBuilder& build,
                                nvinfer1::DimsExprs& y) const {
  nvinfer1::DimsExprs const& x = inputs[kX];
  nvinfer1::DimsExprs const& weight = inputs[kWeight];
  y.nbDims = 4;
  y.d[0] = x.d[0];
  y.d[1] = weight.d[0];
  y.d[2] = rows().output(*x.d[2], *weight.d[2], build);
  y.d[3] = columns().output(*x.d[3], *weight.d[3], build);
}

DeformConvParams DeformConv2d::sizes(nvinfer1::Dims const* inputs) const {
  int64_t const* const x = inputs[kX].d;
  int64_t const* const weight = inputs[kWeight].d;
  DeformConvParams params{};
  params.batch = narrow(x[0]);
  params.channels = narrow(x[1]);
  params.height = narrow(x[2]);
  params.width = narrow(x[3]);
  params.out_channels = narrow(weight[0]);
  params.out_height = narrow(rows().output(x[2], weight[2]));
  params.out_width = narrow(columns().output(x[3], weight[3]));
  params.kernel_rows = narrow(weight[2]);
  params.kernel_columns = narrow(weight[3]);
  params.stride_row = strides[0];
  params.stride_column = strides[1];
  params.pad_row = pads[0];
  params.pad_column = pads[1];
  params.dilation_row = dilations[0];
  params.dilation_column = dilations[1];
  params.groups = group;
  params.offset_groups = offset_group;
  params.wrap = wrap;
  return params;
}

void DeformConv2d::bind(Params& params, void const* const* inputs, int32_t count, void* y) {
  params.x = inputs[kX];
  params.offset = inputs[kOffset];
  params.weight = inputs[kWeight];
  params.bias = inputs[kBias];
  params.mask = count > kMask ? inputs[kMask] : nullptr;
  params.y = y;
}

}  // namespace dinn360::tensorrt
