#include "api.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>

namespace dinn360::ort {

OrtStatus* error(OrtApi const* api, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return api->CreateStatus(ORT_INVALID_ARGUMENT, text);
}

OrtStatus* Attributes::read(const char* name, int32_t* value) const {
  int64_t wide = 0;
  DINN360_TRY(api_->KernelInfoGetAttribute_int64(info_, name, &wide));
  if (wide < std::numeric_limits<int32_t>::min() || wide > std::numeric_limits<int32_t>::max()) {
    return error(api_, "attribute %s: expected a 32-bit integer, found %lld", name, static_cast<long long>(wide));
  }
  *value = static_cast<int32_t>(wide);
  return nullptr;
}

OrtStatus* Attributes::read(const char* name, float* value) const {
  return api_->KernelInfoGetAttribute_float(info_, name, value);
}

OrtStatus* Attributes::read(const char* name, int32_t* values, size_t count) const {
  size_t found = 0;
  DINN360_TRY(api_->KernelInfoGetAttributeArray_int64(info_, name, nullptr, &found));
  if (found != count) return error(api_, "attribute %s: expected %zu integers, found %zu", name, count, found);
  std::unique_ptr<int64_t[]> const wide(new (std::nothrow) int64_t[count]);
  if (wide == nullptr) return error(api_, "attribute %s: no memory for %zu integers", name, count);
  DINN360_TRY(api_->KernelInfoGetAttributeArray_int64(info_, name, wide.get(), &found));
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<int32_t>(wide[i]);
  return nullptr;
}

OrtStatus* Attributes::count(const char* name, size_t most, size_t* found) const {
  DINN360_TRY(api_->KernelInfoGetAttributeArray_int64(info_, name, nullptr, found));
  if (*found >= 1 && *found <= most) return nullptr;
  return error(api_, "attribute %s: expected 1 to %zu integers, found %zu", name, most, *found);
}

OrtStatus* Attributes::read(const char* name, const char* const* names, size_t count, int32_t* index) const {
  char text[64];
  size_t size = sizeof text;
  DINN360_TRY(api_->KernelInfoGetAttribute_string(info_, name, text, &size));
  for (size_t i = 0; i < count; ++i) {
    if (std::strcmp(text, names[i]) == 0) {
      *index = static_cast<int32_t>(i);
      return nullptr;
    }
  }
  return error(api_, "attribute %s: found %s, which is unknown", name, text);
}

size_t Attributes::output_count() const {
  size_t count = 0;
  if (OrtStatus* const status = api_->KernelInfo_GetOutputCount(info_, &count)) api_->ReleaseStatus(status);
  return count;
}

namespace {

OrtStatus* describe(OrtApi const* api, OrtValue const* value, size_t index, Tensor* tensor) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  DINN360_TRY(api->GetTensorTypeAndShape(value, &info));
  OrtStatus* status = api->GetTensorElementType(info, &tensor->type);
  if (status == nullptr) status = api->GetDimensionsCount(info, &tensor->rank);
  if (status == nullptr && tensor->rank > kMaxRank) status = error(api, "input %zu: too many dimensions", index);
  if (status == nullptr) status = api->GetDimensions(info, tensor->shape, tensor->rank);
  api->ReleaseTensorTypeAndShapeInfo(info);
  DINN360_TRY(status);
  // The C API has no reader for data that is not changed.
  return api->GetTensorMutableData(const_cast<OrtValue*>(value), &tensor->data);
}

}  // namespace

OrtStatus* Attributes::constant(size_t index, Tensor* tensor) const {
  *tensor = Tensor();
  int constant = 0;
  OrtValue const* value = nullptr;
  DINN360_TRY(api_->KernelInfoGetConstantInput_tensor(info_, index, &constant, &value));
  return constant != 0 && value != nullptr ? describe(api_, value, index, tensor) : nullptr;
}

OrtStatus* Context::input(size_t index, Tensor* tensor) const {
  *tensor = Tensor();
  size_t count = 0;
  DINN360_TRY(api_->KernelContext_GetInputCount(context_, &count));
  if (index >= count) return nullptr;
  OrtValue const* value = nullptr;
  DINN360_TRY(api_->KernelContext_GetInput(context_, index, &value));
  return value != nullptr ? describe(api_, value, index, tensor) : nullptr;
}

OrtStatus* Context::input(size_t index, const char* name, size_t rank, Tensor* tensor) const {
  DINN360_TRY(input(index, tensor));
  if (tensor->data != nullptr && tensor->rank != rank) {
    return error(api_, "%s: expected %zu dimensions, found %zu", name, rank, tensor->rank);
  }
  for (size_t i = 0; i < tensor->rank; ++i) {
    if (tensor->shape[i] > std::numeric_limits<int32_t>::max()) {
      return error(api_, "%s: dimension %zu is too large", name, i);
    }
  }
  return nullptr;
}

OrtStatus* Context::output(size_t index, int64_t const* shape, size_t rank, void** data) const {
  OrtValue* value = nullptr;
  DINN360_TRY(api_->KernelContext_GetOutput(context_, index, shape, rank, &value));
  return api_->GetTensorMutableData(value, data);
}

namespace {

struct Task {
  void (*run)(void* data, int64_t index);
  void* data;
};

}  // namespace

OrtStatus* Context::parallel(int64_t count, void (*task)(void* data, int64_t index), void* data) const {
  Task wrapped{task, data};
  auto const run = [](void* held, size_t index) {
    Task const* const each = static_cast<Task*>(held);
    each->run(each->data, static_cast<int64_t>(index));
  };
  return api_->KernelContext_ParallelFor(context_, run, static_cast<size_t>(count), 0, &wrapped);
}

OrtStatus* Shapes::set_output(Source const (&sources)[4]) const {
  OrtTensorTypeAndShapeInfo* output = nullptr;
  DINN360_TRY(api_->CreateTensorTypeAndShapeInfo(&output));
  int64_t values[4] = {};
  const char* symbols[4] = {};
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  OrtStatus* status = nullptr;
  bool known = true;
  for (size_t i = 0; i < 4 && known && status == nullptr; ++i) {
    OrtTensorTypeAndShapeInfo* input = nullptr;
    int64_t dimensions[kMaxRank] = {};
    const char* names[kMaxRank] = {};
    size_t rank = 0;
    status = api_->ShapeInferContext_GetInputTypeShape(context_, sources[i].input, &input);
    if (status == nullptr) status = api_->GetDimensionsCount(input, &rank);
    known = status == nullptr && rank > sources[i].dimension && rank <= kMaxRank;
    if (!known) break;
    status = api_->GetDimensions(input, dimensions, rank);
    if (status == nullptr) status = api_->GetSymbolicDimensions(input, names, rank);
    if (status == nullptr && sources[i].input == 0) status = api_->GetTensorElementType(input, &type);
    values[i] = dimensions[sources[i].dimension];
    symbols[i] = names[sources[i].dimension];
    // Neither a number nor a name: ONNX Runtime would take the -1 that stands there for a size.
    known = values[i] >= 0 || (symbols[i] != nullptr && *symbols[i] != '\0');
  }
  if (known && status == nullptr) status = api_->SetTensorElementType(output, type);
  if (known && status == nullptr) status = api_->SetDimensions(output, values, 4);
  if (known && status == nullptr) status = api_->SetSymbolicDimensions(output, symbols, 4);
  if (known && status == nullptr) status = api_->ShapeInferContext_SetOutputTypeShape(context_, 0, output);
  api_->ReleaseTensorTypeAndShapeInfo(output);
  return status;
}

}  // namespace dinn360::ort
