// What one call of an operator is: pointers, sizes and switches. Plain data, shared by every implementation
// (CUDA, emulated CUDA, CPU) and every shell (TensorRT, ONNX Runtime, ctypes). Mirrored in plugins/testing/native.py.
// The meaning of each operator is written in plugins/README.md.
#pragma once

#include <cstdint>

namespace dinn360 {

enum class DataType : int32_t { kFloat = 0, kHalf = 1 };

// kLinear: (B,C,H,W). kHWC8: (B,H,W,8*ceil(C/8)) with zeros in the channels beyond C, TensorRT's channels-last for fp16.
// kHWC: (B,H,W,C), its channels-last for fp32. The layout is that of all activations of a call: x, offset, mask, y;
// q, k, v, y.
enum class Layout : int32_t { kLinear = 0, kHWC8 = 1, kHWC = 2 };

// y[b,o,i,j] = bias[o] + sum_{c,t} weight[o,c,t] * mask[b,g,t,i,j] * x(b, c, row, column), bilinear, with
//   row    = i*stride_row    - pad_row    + r(t)*dilation_row    + offset[b,g,t,0,i,j]
//   column = j*stride_column - pad_column + s(t)*dilation_column + offset[b,g,t,1,i,j]
// Rows outside are zero; columns are cyclic with `wrap`, else zero outside. Coordinates and sums in fp32.
// A sample whose coordinate is not finite counts as zero.
struct DeformConvParams {
  const void* x;       // (B,C,H,W)
  const void* offset;  // (B,2*G*T,Ho,Wo), [offset group, tap, (row, column)], pixels; T = kernel_rows*kernel_columns
  const void* weight;  // (O,C/groups,kernel_rows,kernel_columns), always linear
  const void* bias;    // (O)
  const void* mask;    // (B,G*T,Ho,Wo) or null: ones
  void* y;             // (B,O,Ho,Wo)
  int32_t batch, channels, height, width;
  int32_t out_channels, out_height, out_width;
  int32_t kernel_rows, kernel_columns;
  int32_t stride_row, stride_column;
  int32_t pad_row, pad_column;
  int32_t dilation_row, dilation_column;
  int32_t groups, offset_groups;
  int32_t wrap;
  DataType type;  // of every tensor
  Layout layout;
};
static_assert(sizeof(DeformConvParams) == 128, "as in plugins/testing/native.py");

// Window attention with deformable queries: softmax(q k^T / sqrt(d) + bias) v for each window and head.
// ceil(H/window) x ceil(W/window) windows, displaced by `shift` pixels (less than the window) down and right.
// A query whose coordinate is not finite is zero.
struct DstAttentionParams {
  const void* q;       // (B,C,H,W), C = heads*d, head-major
  const void* k;       // (B,C,H,W)
  const void* v;       // (B,C,H,W)
  const void* bias;    // (heads,window^2,window^2), always linear
  const void* scale;   // (B,2*heads,ceil(H/window),ceil(W/window)), [head, (row, column)], always linear; null: plain
  const void* offset;  // as scale, pixels; null exactly when scale is
  void* y;             // (B,C,H,W)
  int32_t batch, channels, height, width;
  int32_t heads, window, shift;
  int32_t wrap;
  DataType type;  // of every tensor
  Layout layout;
};
static_assert(sizeof(DstAttentionParams) == 96, "as in plugins/testing/native.py");

}  // namespace dinn360
