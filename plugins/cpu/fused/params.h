// What the fused operators of CPU graphs compute: plugins/cpu/fused/README.md says why there are any. fp32, (B,C,H,W).
#pragma once

#include <cstdint>

namespace dinn360::fused {

constexpr int32_t kMaxSources = 5;
constexpr int32_t kMaxOutputs = 3;
constexpr int32_t kLargestFactor = 8;  // pixels a side of a block: 1, 2, 4 or 8

// kLeakyReluOfSum: of the sum with the residual.
enum class Activation : int32_t { kNone, kRelu, kLeakyRelu, kClip, kGelu, kLeakyReluOfSum };

// What becomes of the convolution's 2n channels [a, b] and the n channels h of `residual`, y with n channels:
//   kAffine             h * exp(s) + b,    s = bound * (2 sigmoid(a) - 1)      (ID block)
//   kAffineInverse      (h - b) * exp(-s)
//   kProjectionInverse  h * exp(-bound * atan(2 b)) - a                        (IP block)
enum class Coupling : int32_t { kNone, kAffine, kAffineInverse, kProjectionInverse };

// `count` channels of a tensor with `channels` of them.
struct Channels {
  const float* data;
  int32_t channels, first, count;
};

// y = activation(convolution(leaky_relu(sources side by side + addend)) + bias) + residual, or a coupling.
// Stride 1, same size; columns cyclic with `wrap`, else zero outside; rows zero outside. kernel 1 or 3.
struct ConvParams {
  Channels sources[kMaxSources];
  int32_t source_count;
  const float* addend;    // as the first source, which is then the only one and whole; or null
  float input_slope;      // of the leaky_relu; 1: none
  const float* weight;    // (O,C,kernel,kernel)
  const float* bias;      // (O)
  Channels residual;      // data null: none
  float* y[kMaxOutputs];  // the O (or n) channels in equal parts
  int32_t output_count;
  int32_t batch, channels, height, width, out_channels, kernel, wrap;
  Activation activation;
  float slope, limit;  // of the leaky_relu; of kClip: [-limit, limit]
  Coupling coupling;
  float bound;
};

// Layer normalisation over the channels of each pixel.
struct ChannelNormParams {
  const float* x;
  const float* weight;  // (C)
  const float* bias;    // (C)
  float* y;
  int32_t batch, channels, height, width;
  float epsilon;
};

// 2x2 Haar transform, low band the mean: (B,C,H,W) <-> (B,4C,H/2,W/2), [LL of all C | LH | HL | HH].
// Forward: sources[0] is the image. Inverse: the sources, side by side, are the bands.
struct HaarParams {
  Channels sources[kMaxSources];
  int32_t source_count;
  float* y;
  int32_t batch, channels, height, width;  // of the image
  bool inverse;
};

// The image, extended, in blocks of factor x factor pixels: of each channel and block the means with the factor^2 Walsh
// functions, function (u, v) of the rows' u and the columns' v. The image's last row repeats and its columns continue
// around the circle, `margin` columns on the left and as many as it takes on the right.
struct SqueezeParams {
  const float* x;
  float* y[kMaxOutputs];  // counts[i] channels each, of rows x columns blocks
  int32_t counts[kMaxOutputs], output_count;
  const int32_t*
      places;  // in the outputs side by side: of channel c's function (u, v), number (c factor + u) factor + v
  int32_t batch, channels, height, width;  // of the image
  int32_t factor, margin, rows, columns;
};

// The way back, from the functions' means to the pixels of `height` rows and `width` columns from block (0, margin) on.
struct UnsqueezeParams {
  Channels sources[kMaxSources];
  int32_t source_count;
  const int32_t* places;  // in the sources side by side
  float* y;
  int32_t batch, channels, height, width;
  int32_t factor, margin, rows, columns;  // margin in blocks
  bool clamp;                             // to [0, 1]
};

}  // namespace dinn360::fused
