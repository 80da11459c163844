// An operator (operators.h) as a TensorRT plugin of the V3 generation, and the creator that the registry lists.
//
// Nothing here needs libnvinfer at link time, and one binary serves TensorRT 10.0 to 11.x: every structure and every
// virtual function that crosses the boundary has had the same size and slot in all of their headers, which
// tests/test_tensorrt_headers.py pins.
#pragma once

#include <NvInferRuntime.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "fields.h"
#include "log.h"
#include "operators.h"

#if NV_TENSORRT_MAJOR < 10
#error "These plugins need TensorRT 10.0 or newer: set TENSORRT_ROOT to its SDK"
#endif

namespace dinn360::tensorrt {

constexpr char kVersion[] = "1";
constexpr char kNamespace[] = "";
constexpr int32_t kSuccess = 0, kFailure = 1;

inline std::optional<DataType> kernel_type(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      return DataType::kFloat;
    case nvinfer1::DataType::kHALF:
      return DataType::kHalf;
    default:
      return std::nullopt;
  }
}

// How the kernels name the memory layout of an activation; none for what they cannot read. TensorRT's channels-last
// formats are kHWC8 for fp16, filled up to a multiple of 8 channels, and kHWC for fp32, not filled up.
inline std::optional<Layout> kernel_layout(nvinfer1::PluginTensorDesc const& tensor) {
  using nvinfer1::TensorFormat;
  bool const half = tensor.type == nvinfer1::DataType::kHALF;
  if (tensor.format == TensorFormat::kLINEAR) {
    return Layout::kLinear;
  }
  if (tensor.format == TensorFormat::kHWC8 && half) {
    return Layout::kHWC8;
  }
  if (tensor.format == TensorFormat::kHWC && !half) {
    return Layout::kHWC;
  }
  return std::nullopt;
}

template <class Operator>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  // Throws std::invalid_argument that names the field.
  explicit Plugin(nvinfer1::PluginFieldCollection const& fields) {
    FieldReader reader(fields);
    Operator::visit(operator_, reader);
    reader.optional(kCountField, input_count_, {Operator::kRequired, kMostInputs});
    reader.finish();
    operator_.check_fields();
    FieldText state;
    Operator::visit(operator_, state);
    state_ = std::string(Operator::kName) + " " + state.text;
    timing_id_ = state_ + " kernels=" + DINN360_KERNELS_REVISION;
  }

  // ---- IPluginV3, IPluginV3OneCore

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }

  nvinfer1::IPluginV3* clone() noexcept override {
    return guarded<nvinfer1::IPluginV3*>(Operator::kName, nullptr, [this] { return new Plugin(*this); });
  }

  nvinfer1::AsciiChar const* getPluginName() const noexcept override { return Operator::kName; }
  nvinfer1::AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
  nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }

  // ---- IPluginV3OneBuild

  int32_t getNbOutputs() const noexcept override { return 1; }

  int32_t getOutputDataTypes(nvinfer1::DataType* outputs, int32_t, nvinfer1::DataType const* inputs,
                             int32_t count) const noexcept override {
    return guarded(Operator::kName, kFailure, [&] {
      expect_count(count);
      if (!kernel_type(inputs[0])) {
        throw std::invalid_argument(std::string("input '") + Operator::kInputs[0].name + "': expected fp32 or fp16");
      }
      for (int32_t i = 1; i < count; ++i) {
        if (inputs[i] != inputs[0]) {
          throw std::invalid_argument(std::string("input '") + Operator::kInputs[i].name +
                                      "': expected the data type of '" + Operator::kInputs[0].name + "'");
        }
      }
      outputs[0] = inputs[0];
      return kSuccess;
    });
  }

  int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t count, nvinfer1::DimsExprs const*, int32_t,
                          nvinfer1::DimsExprs* outputs, int32_t, nvinfer1::IExprBuilder& build) noexcept override {
    return guarded(Operator::kName, kFailure, [&] {
      expect_count(count);
      for (int32_t i = 0; i < count; ++i) {
        expect_rank(Operator::kInputs[i], inputs[i].nbDims);
      }
      operator_.output_shape(inputs, build, outputs[0]);
      input_count_ = count;
      return kSuccess;
    });
  }

  bool supportsFormatCombination(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors, int32_t inputs,
                                 int32_t) noexcept override {
    nvinfer1::PluginTensorDesc const& first = tensors[0].desc;
    nvinfer1::PluginTensorDesc const& tensor = tensors[position].desc;
    if (!is_count(inputs) || !kernel_type(tensor.type) || tensor.type != first.type) {
      return false;
    }
    bool const is_activation = position >= inputs || Operator::kInputs[position].is_activation;
    return is_activation ? tensor.format == first.format && kernel_layout(tensor)
                         : tensor.format == nvinfer1::TensorFormat::kLINEAR;
  }

  // What the kernels refuse at the largest sizes of the profile is refused here, before an engine is built.
  int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t count,
                          nvinfer1::DynamicPluginTensorDesc const* outputs, int32_t) noexcept override {
    return guarded(Operator::kName, kFailure, [&] {
      operator_.check_shapes(sizes(inputs, count, [](auto const& input) { return input.desc.dims; }).data(), count);
      auto const largest = sizes(inputs, count, [](auto const& input) { return input.max; });
      if (!is_empty(outputs[0].max)) {
        succeed(check(unbound(largest, inputs[0].desc, count)));
      }
      input_count_ = count;
      return kSuccess;
    });
  }

  // Of the largest sizes of the profile: smaller calls need no more.
  size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t count,
                          nvinfer1::DynamicPluginTensorDesc const*, int32_t) const noexcept override {
    return guarded(Operator::kName, size_t{0}, [&] {
      auto const largest = sizes(inputs, count, [](auto const& input) { return input.max; });
      return workspace_size(unbound(largest, inputs[0].desc, count));
    });
  }

  // Measured with these kernels: others may be faster or slower.
  char const* getTimingCacheID() noexcept override { return timing_id_.c_str(); }
  char const* getMetadataString() noexcept override { return state_.c_str(); }

  // ---- IPluginV3OneRuntime

  nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override {
    return guarded<nvinfer1::PluginFieldCollection const*>(Operator::kName, nullptr, [this] {
      fields_ = FieldList();
      Operator::visit(std::as_const(operator_), fields_);
      if (input_count_ != 0) {
        fields_(kCountField, std::as_const(input_count_), Range{0});
      }
      return fields_.collection();
    });
  }

  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override {
    return guarded<nvinfer1::IPluginV3*>(Operator::kName, nullptr, [&] {
      auto* const attached = new Plugin(*this);
      attached->recorder_ = Recorder(context != nullptr ? context->getErrorRecorder() : nullptr);
      return attached;
    });
  }

  int32_t onShapeChange(nvinfer1::PluginTensorDesc const* inputs, int32_t count,
                        nvinfer1::PluginTensorDesc const* outputs, int32_t) noexcept override {
    return guarded(
        Operator::kName, kFailure,
        [&] {
          auto const exact = sizes(inputs, count, [](auto const& input) { return input.dims; });
          operator_.check_shapes(exact.data(), count);
          if (!is_empty(outputs[0].dims)) {
            succeed(check(unbound(exact, inputs[0], count)));
          }
          input_count_ = count;
          return kSuccess;
        },
        recorder_);
  }

  int32_t enqueue(nvinfer1::PluginTensorDesc const* in, nvinfer1::PluginTensorDesc const* out,
                  void const* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept override {
    return guarded(
        Operator::kName, kFailure,
        [&] {
          auto const exact = sizes(in, input_count_, [](auto const& input) { return input.dims; });
          if (!is_empty(out[0].dims)) {
            typename Operator::Params params = unbound(exact, in[0], input_count_);
            Operator::bind(params, inputs, input_count_, outputs[0]);
            succeed(launch(params, workspace, stream));
          }
          return kSuccess;
        },
        recorder_, nvinfer1::ErrorCode::kFAILED_EXECUTION);
  }

 private:
  static constexpr int32_t kMostInputs = static_cast<int32_t>(std::size(Operator::kInputs));
  static constexpr char const* kCountField = "input_count";  // in engines only: no attribute of a node
  using Sizes = std::array<nvinfer1::Dims, kMostInputs>;

  static bool is_count(int32_t count) { return count == Operator::kRequired || count == kMostInputs; }

  static void expect_count(int32_t count) {
    if (!is_count(count)) {
      throw std::invalid_argument("expected " + std::to_string(Operator::kRequired) + " or " +
                                  std::to_string(kMostInputs) + " inputs, found " + std::to_string(count));
    }
  }

  static bool is_empty(nvinfer1::Dims const& dims) {
    return std::find(dims.d, dims.d + dims.nbDims, 0) != dims.d + dims.nbDims;
  }

  static void succeed(char const* failure) {
    if (failure != nullptr) {
      std::string const prefix = std::string(Operator::kName) + ": ";  // `guarded` writes it, too
      throw std::runtime_error(failure + (std::string(failure).rfind(prefix, 0) == 0 ? prefix.size() : 0));
    }
  }

  template <class Tensor, class Dims>
  static Sizes sizes(Tensor const* tensors, int32_t count, Dims&& dims) {
    expect_count(count);
    Sizes found{};
    std::transform(tensors, tensors + count, found.begin(), dims);
    return found;
  }

  // The parameters of a call on tensors that are not there yet. The kernels refuse null where a tensor is required, and
  // take null for an optional one as left out; so every tensor of the call points at the same aligned byte.
  typename Operator::Params unbound(Sizes const& sizes, nvinfer1::PluginTensorDesc const& first, int32_t count) const {
    alignas(256) static char somewhere;
    std::array<void const*, kMostInputs> pointers;
    pointers.fill(&somewhere);
    typename Operator::Params params = operator_.sizes(sizes.data());
    Operator::bind(params, pointers.data(), count, &somewhere);
    auto const type = kernel_type(first.type);
    auto const layout = kernel_layout(first);
    if (!type || !layout) {
      throw std::invalid_argument("a data type or format that supportsFormatCombination refuses");
    }
    params.type = *type;
    params.layout = *layout;
    return params;
  }

  Operator operator_;
  std::string state_;        // name and fields in one line
  std::string timing_id_;    // the same, and which kernels
  FieldList fields_;         // what getFieldsToSerialize last gave out
  Recorder recorder_;        // of the context that the plugin is attached to
  int32_t input_count_ = 0;  // as the engine says, or the last call that was told: enqueue is not
};

}  // namespace dinn360::tensorrt
