#include "fields.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

namespace dinn360::tensorrt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

[[noreturn]] void refuse(std::string const& name, std::string const& expected, std::string const& found) {
  throw std::invalid_argument("field '" + name + "': expected " + expected + ", found " + found);
}

std::string type_name(PluginFieldType type) {
  switch (type) {
    case PluginFieldType::kFLOAT32:
      return "float32";
    case PluginFieldType::kFLOAT64:
      return "float64";
    case PluginFieldType::kINT32:
      return "int32";
    case PluginFieldType::kINT64:
      return "int64";
    case PluginFieldType::kCHAR:
      return "text";
    default:
      return "type " + std::to_string(static_cast<int32_t>(type));
  }
}

std::string count_of(int32_t count, std::string const& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string range_text(Range range) {
  if (range.high == std::numeric_limits<int32_t>::max()) {
    return "at least " + std::to_string(range.low);
  }
  return std::to_string(range.low) + (range.high == range.low + 1 ? " or " : " to ") + std::to_string(range.high);
}

// The ONNX parser looks these two up itself to find the creator. Whoever passes on all attributes of a node passes them
// too; they have to agree with what we are.
bool is_address(std::string const& name) { return name == "plugin_namespace" || name == "plugin_version"; }

void check_address(PluginField const& field) {
  std::string const expected = field.name == std::string("plugin_version") ? "1" : "";
  std::string found;
  if (field.data != nullptr && field.length > 0) {
    found.assign(static_cast<char const*>(field.data), static_cast<size_t>(field.length));
    found.resize(std::min(found.size(), found.find('\0')));
  }
  if (field.type != PluginFieldType::kCHAR || found != expected) {
    refuse(field.name, "the text '" + expected + "'",
           field.type == PluginFieldType::kCHAR ? "'" + found + "'" : type_name(field.type));
  }
}

}  // namespace

nvinfer1::PluginFieldCollection const* FieldList::collection() noexcept {
  collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
  return &collection_;
}

FieldReader::FieldReader(nvinfer1::PluginFieldCollection const& given) : given_(given) {}

PluginField const* FieldReader::find(char const* name) const {
  PluginField const* found = nullptr;
  for (int32_t i = 0; i < given_.nbFields; ++i) {
    PluginField const& field = given_.fields[i];
    if (field.name == nullptr || std::string(name) != field.name) {
      continue;
    }
    if (found != nullptr) {
      refuse(name, "it once", "it twice");
    }
    found = &field;
  }
  return found;
}

PluginField const& FieldReader::take(char const* name) {
  PluginField const* const found = find(name);
  if (found == nullptr || found->data == nullptr) {
    refuse(name, "a value", "none");
  }
  taken_.emplace_back(name);
  return *found;
}

void FieldReader::operator()(char const* name, float& value) {
  PluginField const& field = take(name);
  bool const wide = field.type == PluginFieldType::kFLOAT64;  // numpy's numbers; the ONNX parser gives float32
  if (!(wide || field.type == PluginFieldType::kFLOAT32) || field.length != 1) {
    refuse(name, "1 float32", count_of(field.length, type_name(field.type)));
  }
  value = wide ? static_cast<float>(*static_cast<double const*>(field.data)) : *static_cast<float const*>(field.data);
  if (!(value >= 0)) {  // infinity is no bound, and fine
    refuse(name, "at least 0", std::to_string(value));
  }
}

void FieldReader::integers(char const* name, int32_t* values, int32_t count, Range range) {
  PluginField const& field = take(name);
  bool const wide = field.type == PluginFieldType::kINT64;  // numpy's integers; the ONNX parser gives int32
  if (!(wide || field.type == PluginFieldType::kINT32) || field.length != count) {
    refuse(name, count_of(count, "int32"), count_of(field.length, type_name(field.type)));
  }
  for (int32_t i = 0; i < count; ++i) {
    int64_t const value =
        wide ? static_cast<int64_t const*>(field.data)[i] : static_cast<int32_t const*>(field.data)[i];
    if (value < range.low || value > range.high) {
      refuse(name, range_text(range), std::to_string(value));
    }
    values[i] = static_cast<int32_t>(value);
  }
}

void FieldReader::optional(char const* name, int32_t& value, Range range) {
  if (find(name) != nullptr) {
    integers(name, &value, 1, range);
  }
}

void FieldReader::finish() const {
  for (int32_t i = 0; i < given_.nbFields; ++i) {
    std::string const name = given_.fields[i].name != nullptr ? given_.fields[i].name : "";
    if (is_address(name)) {
      check_address(given_.fields[i]);
    } else if (std::find(taken_.begin(), taken_.end(), name) == taken_.end()) {
      std::string known;
      for (std::string const& field : taken_) {
        known += (known.empty() ? "" : ", ") + field;
      }
      throw std::invalid_argument("field '" + name + "': expected only " + known);
    }
  }
}

void FieldText::operator()(char const* name, float const& value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.9g", static_cast<double>(value));  // enough to tell two floats apart
  text += (text.empty() ? "" : " ") + std::string(name) + "=" + digits;
}

void FieldText::integers(char const* name, int32_t const* values, int32_t count) {
  text += (text.empty() ? "" : " ") + std::string(name) + "=";
  for (int32_t i = 0; i < count; ++i) {
    text += (i == 0 ? "" : ",") + std::to_string(values[i]);
  }
}

}  // namespace dinn360::tensorrt
