// A plugin's fields. Each operator lists its own once, in `visit`; the visitors here name them for the registry, read
// and check what TensorRT hands over, write them into an engine, and spell them out.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace dinn360::tensorrt {

using Pair = std::array<int32_t, 2>;  // (row, column)

// The integers that a field may hold.
struct Range {
  int32_t low;
  int32_t high = std::numeric_limits<int32_t>::max();
};

// The fields as a plugin holds them: name, data, type and length, as pointers into the operator.
class FieldList {
 public:
  void operator()(char const* name, float const& value) { add(name, &value, nvinfer1::PluginFieldType::kFLOAT32, 1); }
  void operator()(char const* name, int32_t const& value, Range) {
    add(name, &value, nvinfer1::PluginFieldType::kINT32, 1);
  }
  void operator()(char const* name, Pair const& value, Range) {
    add(name, value.data(), nvinfer1::PluginFieldType::kINT32, 2);
  }

  // Leaves names, types and lengths.
  void forget_values() noexcept {
    for (nvinfer1::PluginField& field : fields_) {
      field.data = nullptr;
    }
  }

  // Valid until the next change of this list or of the operator.
  nvinfer1::PluginFieldCollection const* collection() noexcept;

 private:
  void add(char const* name, void const* data, nvinfer1::PluginFieldType type, int32_t length) {
    fields_.emplace_back(name, data, type, length);
  }

  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

// Reads each visited field. Throws std::invalid_argument that names the field: missing, of another type or length, out
// of its range, given twice; and, in `finish`, one that no visit asked for.
class FieldReader {
 public:
  explicit FieldReader(nvinfer1::PluginFieldCollection const& given);
  void operator()(char const* name, float& value);
  void operator()(char const* name, int32_t& value, Range range) { integers(name, &value, 1, range); }
  void operator()(char const* name, Pair& value, Range range) { integers(name, value.data(), 2, range); }
  // An integer that may be missing: `value` then stays as it is.
  void optional(char const* name, int32_t& value, Range range);
  void finish() const;

 private:
  nvinfer1::PluginField const* find(char const* name) const;
  nvinfer1::PluginField const& take(char const* name);
  void integers(char const* name, int32_t* values, int32_t count, Range range);

  nvinfer1::PluginFieldCollection const& given_;
  std::vector<std::string> taken_;
};

// "wrap=1 strides=1,1 ...": the state of a plugin in one line.
class FieldText {
 public:
  void operator()(char const* name, float const& value);
  void operator()(char const* name, int32_t const& value, Range) { integers(name, &value, 1); }
  void operator()(char const* name, Pair const& value, Range) { integers(name, value.data(), 2); }
  std::string text;

 private:
  void integers(char const* name, int32_t const* values, int32_t count);
};

}  // namespace dinn360::tensorrt
