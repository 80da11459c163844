// What one call of the deformable convolution in training is: fp32, channels-last, stride 1, same size.
// Mirrored in library.py.
#pragma once

#include <cstdint>

namespace dinn360::training {

// The function of plugins/params.h with strides and dilations of 1, of offsets bounded to [-max_offset, max_offset], and
// its gradients. All tensors are dense.
struct DeformConvTraining {
  const float* x;       // (B,H,W,C)
  const float* offset;  // (B,H,W,2*G*T), [offset group, tap, (row, column)], pixels
  const float* weight;  // (O,kernel,kernel,C); kernel odd, T = kernel^2
  const float* bias;    // (O)
  const float* mask;    // (B,H,W,G*T) or null: ones
  float* y;             // (B,H,W,O), what the forward call writes
  const float* grad_y;  // what the backward call reads, and from here on what it writes
  float* grad_x;
  float* grad_offset;
  float* grad_weight;
  float* grad_bias;
  float* grad_mask;  // null exactly when mask is
  int32_t batch, channels, height, width, out_channels, kernel, offset_groups, wrap;
  float max_offset;
};
static_assert(sizeof(DeformConvTraining) == 136, "as in library.py");

}  // namespace dinn360::training
