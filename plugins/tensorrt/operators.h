// The two operators as TensorRT sees them: names, fields, inputs, shapes, and the parameters of a call.
// plugins/README.md says what they compute; plugin.h makes plugins of them.
#pragma once

#include "../cuda/launch.h"
#include "fields.h"
#include "shapes.h"

namespace dinn360::tensorrt {

struct DeformConv2d {
  using Params = DeformConvParams;
  static constexpr char const* kName = "DeformConv2d";
  static constexpr Input kInputs[] = {
      {"x", 4, true}, {"offset", 4, true}, {"weight", 4, false}, {"bias", 1, false}, {"mask", 4, true}};
  static constexpr int32_t kRequired = 4;  // the inputs behind these come all or not at all

  float max_offset{};  // the producer's bound on |offset|: part of the schema, which the kernels do not need
  int32_t wrap{};
  Pair strides{}, pads{}, dilations{};
  int32_t group{}, offset_group{};

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor&& field) {
    field("max_offset", self.max_offset);
    field("wrap", self.wrap, Range{0, 1});
    field("strides", self.strides, Range{1});
    field("pads", self.pads, Range{0});
    field("dilations", self.dilations, Range{1});
    field("group", self.group, Range{1});
    field("offset_group", self.offset_group, Range{1});
  }

  // What no single range says of the fields. Throws std::invalid_argument that names the field.
  void check_fields() const {}
  // Sizes of `count` inputs, open ones among them. Throws std::invalid_argument that names the input.
  void check_shapes(nvinfer1::Dims const* inputs, int32_t count) const;
  void output_shape(nvinfer1::DimsExprs const* inputs, nvinfer1::IExprBuilder& build, nvinfer1::DimsExprs& y) const;
  // The sizes and switches of a call; not its pointers, type and layout.
  Params sizes(nvinfer1::Dims const* inputs) const;
  static void bind(Params& params, void const* const* inputs, int32_t count, void* y);

 private:
  Side rows() const { return {strides[0], pads[0], dilations[0]}; }
  Side columns() const { return {strides[1], pads[1], dilations[1]}; }
};

struct DstAttention {
  using Params = DstAttentionParams;
  static constexpr char const* kName = "DSTAttention";
  static constexpr Input kInputs[] = {{"q", 4, true},     {"k", 4, true},      {"v", 4, true},
                                      {"bias", 3, false}, {"scale", 4, false}, {"offset", 4, false}};
  static constexpr int32_t kRequired = 4;

  int32_t heads{}, window{}, shift{}, wrap{};

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor&& field) {
    field("heads", self.heads, Range{1});
    field("window", self.window, Range{2, 1024});
    field("shift", self.shift, Range{0});
    field("wrap", self.wrap, Range{0, 1});
  }

  void check_fields() const;
  void check_shapes(nvinfer1::Dims const* inputs, int32_t count) const;
  void output_shape(nvinfer1::DimsExprs const* inputs, nvinfer1::IExprBuilder& build, nvinfer1::DimsExprs& y) const;
  Params sizes(nvinfer1::Dims const* inputs) const;
  static void bind(Params& params, void const* const* inputs, int32_t count, void* y);
};

}  // namespace dinn360::tensorrt
