// What TensorRT's registry lists: makes a Plugin<Operator> of fields.
#pragma once

#include "plugin.h"

namespace dinn360::tensorrt {

template <class Operator>
class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  nvinfer1::AsciiChar const* getPluginName() const noexcept override { return Operator::kName; }
  nvinfer1::AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
  nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }

  // Names, types and lengths; the ONNX parser looks up node attributes by them.
  nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override { return fields_.collection(); }

  // The same for the build and for the runtime. Null, and a line that names the field, for what cannot be.
  nvinfer1::IPluginV3* createPlugin(nvinfer1::AsciiChar const*, nvinfer1::PluginFieldCollection const* fields,
                                    nvinfer1::TensorRTPhase) noexcept override {
    return guarded<nvinfer1::IPluginV3*>(Operator::kName, nullptr, [&] {
      return new Plugin<Operator>(fields != nullptr ? *fields : nvinfer1::PluginFieldCollection{});
    });
  }

  Creator() {
    Operator::visit(std::as_const(defaults_), fields_);
    fields_.forget_values();
  }

 private:
  Operator defaults_;
  FieldList fields_;
};

}  // namespace dinn360::tensorrt
