// The fused operators (domain dinn360.cpu) as ONNX Runtime kernels; plugins/cpu/fused/README.md has their schema.
#pragma once

#include <memory>

#include "../cpu/fused/params.h"
#include "api.h"

namespace dinn360::ort {

class SphereConv2d {
 public:
  static constexpr const char* kName = "SphereConv2d";
  static constexpr const char* kProvider = nullptr;
  static constexpr size_t kInputs = 5 + fused::kMaxSources - 1, kRequired = 3, kOutputs = fused::kMaxOutputs;

  OrtStatus* load(Attributes const& attributes);
  OrtStatus* compute(Context const& context) const;
  static OrtStatus* infer(Shapes const&) { return nullptr; }

 private:
  static constexpr const char* kNode = "dinn360.cpu:SphereConv2d";
  OrtStatus* pack(OrtApi const* api, Tensor const& weight);

  size_t sources_, outputs_;
  int32_t first_[fused::kMaxSources], count_[fused::kMaxSources];
  int32_t wrap_, residual_first_, activation_, coupling_;
  float input_slope_, slope_, limit_, bound_;
  std::unique_ptr<float[]> packed_;  // the weight, where it is a constant of the graph; else null
};

class ChannelNorm {
 public:
  static constexpr const char* kName = "ChannelNorm";
  static constexpr const char* kProvider = nullptr;
  static constexpr size_t kInputs = 3, kRequired = 3, kOutputs = 1;

  OrtStatus* load(Attributes const& attributes) { return attributes.read("epsilon", &epsilon_); }
  OrtStatus* compute(Context const& context) const;
  static OrtStatus* infer(Shapes const& shapes) { return shapes.set_output({{0, 0}, {0, 1}, {0, 2}, {0, 3}}); }

 private:
  float epsilon_;
};

class Haar {
 public:
  static constexpr const char* kName = "Haar";
  static constexpr const char* kProvider = nullptr;
  static constexpr size_t kInputs = fused::kMaxSources, kRequired = 1, kOutputs = 1;

  OrtStatus* load(Attributes const& attributes);
  OrtStatus* compute(Context const& context) const;
  static OrtStatus* infer(Shapes const&) { return nullptr; }

 private:
  size_t sources_;
  int32_t first_[fused::kMaxSources], count_[fused::kMaxSources];
  int32_t inverse_;
};

class SphereSqueeze {
 public:
  static constexpr const char* kName = "SphereSqueeze";
  static constexpr const char* kProvider = nullptr;
  static constexpr size_t kInputs = 1, kRequired = 1, kOutputs = fused::kMaxOutputs;

  OrtStatus* load(Attributes const& attributes);
  OrtStatus* compute(Context const& context) const;
  static OrtStatus* infer(Shapes const&) { return nullptr; }

 private:
  static constexpr const char* kNode = "dinn360.cpu:SphereSqueeze";

  size_t outputs_, functions_;
  int32_t count_[fused::kMaxOutputs];
  int32_t factor_, multiple_, margin_;
  std::unique_ptr<int32_t[]> places_;
};

class SphereUnsqueeze {
 public:
  static constexpr const char* kName = "SphereUnsqueeze";
  static constexpr const char* kProvider = nullptr;
  static constexpr size_t kInputs = 1 + fused::kMaxSources, kRequired = 1, kOutputs = 1, kShapeInput = 1;

  OrtStatus* load(Attributes const& attributes);
  OrtStatus* compute(Context const& context) const;
  static OrtStatus* infer(Shapes const&) { return nullptr; }

 private:
  static constexpr const char* kNode = "dinn360.cpu:SphereUnsqueeze";
  // Rows and columns of the image for blocks like those of x.
  OrtStatus* size(Context const& context, Tensor const& x, int64_t (&size)[2]) const;

  size_t sources_, functions_;
  int32_t first_[fused::kMaxSources], count_[fused::kMaxSources];
  int32_t factor_, margin_, size_factor_, size_divisor_, clamp_;
  std::unique_ptr<int32_t[]> places_;
};

}  // namespace dinn360::ort
