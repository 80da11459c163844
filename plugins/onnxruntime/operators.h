// The two deformable operators as ONNX Runtime kernels: their schema is written in plugins/README.md.
//
// Backend: as those of backends.h.
#pragma once

#include "../params.h"
#include "api.h"

namespace dinn360::ort {

// The parameters of one call; y is allocated, as an output of the node.
class DeformConvNode {
 public:
  OrtStatus* load(Attributes const& attributes);
  // Weight, bias and their sizes where both are constants of the graph, for an image of one pixel; null pointers else.
  OrtStatus* constants(Attributes const& attributes, DeformConvParams* params) const;
  OrtStatus* prepare(Context const& context, DeformConvParams* params) const;

 private:
  int32_t strides_[2], pads_[2], dilations_[2], group_, offset_group_, wrap_;
};

class DstAttentionNode {
 public:
  OrtStatus* load(Attributes const& attributes);
  OrtStatus* prepare(Context const& context, DstAttentionParams* params) const;

 private:
  int32_t heads_, window_, shift_, wrap_;
};

template <class Backend>
struct DeformConv2d {
  static constexpr const char* kName = "DeformConv2d";
  static constexpr const char* kProvider = Backend::kProvider;
  static constexpr size_t kInputs = 5, kRequired = 4, kOutputs = 1;

  OrtStatus* load(Attributes const& attributes) {
    DINN360_TRY(node.load(attributes));
    DeformConvParams weights{};
    DINN360_TRY(node.constants(attributes, &weights));
    return backend.prepare(attributes, weights);
  }

  OrtStatus* compute(Context const& context) const {
    DeformConvParams params{};
    DINN360_TRY(node.prepare(context, &params));
    return backend.run(params, context);
  }

  // y (B,O,Ho,Wo): of x, weight and offset.
  static OrtStatus* infer(Shapes const& shapes) { return shapes.set_output({{0, 0}, {2, 0}, {1, 2}, {1, 3}}); }

  DeformConvNode node;
  Backend backend;
};

template <class Backend>
struct DstAttention {
  static constexpr const char* kName = "DSTAttention";
  static constexpr const char* kProvider = Backend::kProvider;
  static constexpr size_t kInputs = 6, kRequired = 4, kOutputs = 1;

  OrtStatus* load(Attributes const& attributes) { return node.load(attributes); }

  OrtStatus* compute(Context const& context) const {
    DstAttentionParams params{};
    DINN360_TRY(node.prepare(context, &params));
    return backend.run(params, context);
  }

  static OrtStatus* infer(Shapes const& shapes) { return shapes.set_output({{0, 0}, {0, 1}, {0, 2}, {0, 3}}); }

  DstAttentionNode node;
  Backend backend;
};

}  // namespace dinn360::ort
