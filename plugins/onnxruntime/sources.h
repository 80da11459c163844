// The inputs of fused operators that read channels of several tensors side by side.
#pragma once

#include "../cpu/fused/params.h"
#include "api.h"

namespace dinn360::ort {

// The pairs (first_channels, channel_counts) of the node's sources.
inline OrtStatus* read_sources(Attributes const& attributes, size_t* sources, int32_t* first, int32_t* count) {
  DINN360_TRY(attributes.count("first_channels", fused::kMaxSources, sources));
  DINN360_TRY(attributes.read("first_channels", first, *sources));
  return attributes.read("channel_counts", count, *sources);
}

// The image or band `index`, whose batch and size have to be those of the first.
inline OrtStatus* take(Context const& context, const char* node, size_t index, Tensor const& first, Tensor* tensor) {
  DINN360_TRY(context.input(index, node, 4, tensor));
  bool const fits = tensor->data != nullptr && tensor->shape[0] == first.shape[0] &&
                    tensor->shape[2] == first.shape[2] && tensor->shape[3] == first.shape[3];
  return fits ? nullptr : error(context.api(), "%s: input %zu: expected the batch and size of the first", node, index);
}

inline fused::Channels channels(Tensor const& tensor, int32_t first, int32_t count) {
  return {static_cast<const float*>(tensor.data), static_cast<int32_t>(tensor.shape[1]), first, count};
}

inline int32_t narrow(int64_t value) { return static_cast<int32_t>(value); }

}  // namespace dinn360::ort
