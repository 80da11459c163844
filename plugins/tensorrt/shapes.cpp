#include "shapes.h"

#include <limits>
#include <stdexcept>
#include <string>

namespace dinn360::tensorrt {
namespace {

template <class Sizes>
std::string text(Sizes const& begin, int64_t count) {
  std::string line = "(";
  for (int64_t i = 0; i < count; ++i) {
    line += (i == 0 ? "" : ",") + (begin[i] == kOpen ? std::string("?") : std::to_string(begin[i]));
  }
  return line + ")";
}

}  // namespace

void expect_rank(Input const& input, int32_t rank) {
  if (rank != input.rank) {
    throw std::invalid_argument(std::string("input '") + input.name + "': expected " + std::to_string(input.rank) +
                                " dimensions, found " + std::to_string(rank));
  }
}

void expect_shape(Input const& input, nvinfer1::Dims const& found, std::initializer_list<int64_t> expected) {
  expect_rank(input, found.nbDims);
  int64_t const* wanted = expected.begin();
  for (int32_t i = 0; i < found.nbDims; ++i) {
    if (found.d[i] != wanted[i] && found.d[i] != kOpen && wanted[i] != kOpen) {
      throw std::invalid_argument(std::string("input '") + input.name + "': expected " + text(wanted, found.nbDims) +
                                  ", found " + text(found.d, found.nbDims));
    }
  }
}

int32_t narrow(int64_t size) {
  if (size > std::numeric_limits<int32_t>::max()) {
    throw std::invalid_argument("a dimension of " + std::to_string(size) + ": expected less than 2^31");
  }
  return static_cast<int32_t>(size);
}

int64_t Side::output(int64_t size, int64_t kernel) const {
  if (size == kOpen || kernel == kOpen) {
    return kOpen;
  }
  int64_t const room = size + 2 * int64_t{pad} - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

nvinfer1::IDimensionExpr const* Side::output(nvinfer1::IDimensionExpr const& size,
                                             nvinfer1::IDimensionExpr const& kernel,
                                             nvinfer1::IExprBuilder& build) const {
  using nvinfer1::DimensionOperation;
  using Expression = nvinfer1::IDimensionExpr const*;
  if (stride == 1 && kernel.isConstant() && 2 * int64_t{pad} == dilation * (kernel.getConstantValue() - 1)) {
    return &size;
  }
  auto const constant = [&](int64_t value) { return build.constant(value); };
  auto const operation = [&](DimensionOperation what, Expression a, Expression b) {
    if (a == nullptr || b == nullptr) {
      throw std::runtime_error("TensorRT could not build the expression of an output size");
    }
    return build.operation(what, *a, *b);
  };
  Expression const reach = operation(DimensionOperation::kPROD, constant(dilation),
                                     operation(DimensionOperation::kSUB, &kernel, constant(1)));
  Expression const padded = operation(DimensionOperation::kSUM, &size, constant(2 * int64_t{pad} - 1));
  Expression const steps =
      operation(DimensionOperation::kFLOOR_DIV, operation(DimensionOperation::kSUB, padded, reach), constant(stride));
  return operation(DimensionOperation::kSUM, steps, constant(1));
}

}  // namespace dinn360::tensorrt
