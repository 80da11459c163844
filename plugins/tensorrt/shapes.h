// Sizes of tensors, where a size that the network leaves open is -1.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <initializer_list>

namespace dinn360::tensorrt {

constexpr int64_t kOpen = -1;

// What the registry and the messages say of an operator's input. Activations share one memory layout; the others are
// always linear.
struct Input {
  char const* name;
  int32_t rank;
  bool is_activation;
};

// Throws std::invalid_argument that names the input unless every size agrees; an open size agrees with everything.
void expect_shape(Input const& input, nvinfer1::Dims const& found, std::initializer_list<int64_t> expected);
void expect_rank(Input const& input, int32_t rank);

// a * b where both are known.
inline int64_t product(int64_t a, int64_t b) { return a == kOpen || b == kOpen ? kOpen : a * b; }

// A size as the kernels take it. Throws std::invalid_argument beyond 32 bits.
int32_t narrow(int64_t size);

// One side of a convolution.
struct Side {
  int32_t stride, pad, dilation;

  // Samples along this side of a given size. Open where `size` or `kernel` is.
  int64_t output(int64_t size, int64_t kernel) const;
  // The same as an expression of TensorRT; `size` itself where the size does not change.
  nvinfer1::IDimensionExpr const* output(nvinfer1::IDimensionExpr const& size, nvinfer1::IDimensionExpr const& kernel,
                                         nvinfer1::IExprBuilder& build) const;
};

}  // namespace dinn360::tensorrt
