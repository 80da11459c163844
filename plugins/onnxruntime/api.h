// ONNX Runtime's C interface (abi.h) as this library uses it. Nothing here throws: a failure is an OrtStatus, which callers hand on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "abi.h"

namespace dinn360::ort {

constexpr size_t kMaxRank = 8;

// Ends the calling function with the status that `expression` gives, if it gives one.
#define DINN360_TRY(expression)                                                  \
  do {                                                                           \
    if (OrtStatus* const dinn360_status_ = (expression)) return dinn360_status_; \
  } while (false)

struct Tensor {
  void* data = nullptr;  // null: an optional input that is absent
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  size_t rank = 0;
  int64_t shape[kMaxRank] = {};
};

// An error that names the operator; `format` as in printf.
OrtStatus* error(OrtApi const* api, const char* format, ...) __attribute__((format(printf, 2, 3)));

// A node's attributes while its kernel is made.
class Attributes {
 public:
  Attributes(OrtApi const* api, OrtKernelInfo const* info) : api_(api), info_(info) {}

  OrtApi const* api() const { return api_; }
  OrtStatus* read(const char* name, int32_t* value) const;
  OrtStatus* read(const char* name, float* value) const;
  // Exactly `count` integers.
  OrtStatus* read(const char* name, int32_t* values, size_t count) const;
  // How many integers an attribute has: 1 to `most`.
  OrtStatus* count(const char* name, size_t most, size_t* found) const;
  // The place in `names` of a string.
  OrtStatus* read(const char* name, const char* const* names, size_t count, int32_t* index) const;
  size_t output_count() const;
  // An input that is a constant of the graph, where the provider keeps it; no data for any other.
  OrtStatus* constant(size_t index, Tensor* tensor) const;

 private:
  OrtApi const* api_;
  OrtKernelInfo const* info_;
};

// The tensors and the threads of one call.
class Context {
 public:
  Context(OrtApi const* api, OrtKernelContext* context) : api_(api), context_(context) {}

  OrtApi const* api() const { return api_; }
  OrtKernelContext* native() const { return context_; }
  // An input that the node leaves out, or does not have, has no data.
  OrtStatus* input(size_t index, Tensor* tensor) const;
  // As `input`, and an error when the rank is another.
  OrtStatus* input(size_t index, const char* name, size_t rank, Tensor* tensor) const;
  OrtStatus* output(size_t index, int64_t const* shape, size_t rank, void** data) const;
  // task(data, index) for each index in [0, count), on the session's own threads; returns when all are done.
  OrtStatus* parallel(int64_t count, void (*task)(void* data, int64_t index), void* data) const;

 private:
  OrtApi const* api_;
  OrtKernelContext* context_;
};

// Shapes while the graph is loaded; dimensions may be symbols.
class Shapes {
 public:
  Shapes(OrtApi const* api, OrtShapeInferContext* context) : api_(api), context_(context) {}

  // Where a dimension of the output comes from: a dimension of an input.
  struct Source {
    size_t input, dimension;
  };
  // Output 0 has the data type of input 0 and these four dimensions. Says nothing when an input's shape is not known.
  OrtStatus* set_output(Source const (&sources)[4]) const;

 private:
  OrtApi const* api_;
  OrtShapeInferContext* context_;
};

// The input of a kernel that is no tensor of its data type but the shape of one, int64; by default none.
template <class Kernel, class = void>
struct ShapeInput {
  static constexpr size_t kIndex = static_cast<size_t>(-1);
};
template <class Kernel>
struct ShapeInput<Kernel, std::void_t<decltype(Kernel::kShapeInput)>> {
  static constexpr size_t kIndex = Kernel::kShapeInput;
};

// An operator's entry in ONNX Runtime's registry, for one data type and one execution provider.
//
// Kernel: kName, kInputs and kRequired (inputs in all; those that must be there), kOutputs, kProvider (null: CPU);
//   OrtStatus* load(Attributes const&), OrtStatus* compute(Context const&) const, static OrtStatus* infer(Shapes const&).
template <class Kernel>
class CustomOp : public OrtCustomOp {
 public:
  explicit CustomOp(ONNXTensorElementDataType type) : OrtCustomOp{}, type_(type) {
    version = kApiVersion;
    GetName = [](OrtCustomOp const*) { return Kernel::kName; };
    GetExecutionProviderType = [](OrtCustomOp const*) { return Kernel::kProvider; };
    GetInputTypeCount = [](OrtCustomOp const*) { return Kernel::kInputs; };
    GetOutputTypeCount = [](OrtCustomOp const*) { return Kernel::kOutputs; };
    GetInputType = [](OrtCustomOp const* op, size_t index) {
      return index == ShapeInput<Kernel>::kIndex ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : self(op)->type_;
    };
    GetOutputType = [](OrtCustomOp const* op, size_t) { return self(op)->type_; };
    GetInputCharacteristic = [](OrtCustomOp const*, size_t index) {
      return index < Kernel::kRequired ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
    };
    GetOutputCharacteristic = [](OrtCustomOp const*, size_t index) {
      return index == 0 ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
    };
    GetInputMemoryType = [](OrtCustomOp const*, size_t) { return OrtMemTypeDefault; };
    GetVariadicInputMinArity = [](OrtCustomOp const*) { return 0; };
    GetVariadicInputHomogeneity = [](OrtCustomOp const*) { return 1; };
    GetVariadicOutputMinArity = GetVariadicInputMinArity;
    GetVariadicOutputHomogeneity = GetVariadicInputHomogeneity;
    GetStartVersion = [](OrtCustomOp const*) { return 1; };
    GetEndVersion = GetStartVersion;
    CreateKernelV2 = &create;
    KernelComputeV2 = [](void* held, OrtKernelContext* context) {
      Held const* const kernel = static_cast<Held*>(held);
      return kernel->kernel.compute(Context(kernel->api, context));
    };
    KernelDestroy = [](void* held) { delete static_cast<Held*>(held); };
    InferOutputShapeFn = [](OrtCustomOp const* op, OrtShapeInferContext* context) {
      return Kernel::infer(Shapes(self(op)->api_, context));
    };
  }

  OrtStatus* add_to(OrtApi const* api, OrtCustomOpDomain* domain) {
    api_ = api;
    return api->CustomOpDomain_Add(domain, this);
  }

 private:
  struct Held {
    OrtApi const* api;
    Kernel kernel;
  };

  static CustomOp const* self(OrtCustomOp const* op) { return static_cast<CustomOp const*>(op); }

  static OrtStatus* create(OrtCustomOp const*, OrtApi const* api, OrtKernelInfo const* info, void** held) {
    Held* const made = new (std::nothrow) Held{api, Kernel()};
    if (made == nullptr) return error(api, "dinn360:%s: out of memory", Kernel::kName);
    if (OrtStatus* const status = made->kernel.load(Attributes(api, info))) {
      delete made;
      return status;
    }
    *held = made;
    return nullptr;
  }

  ONNXTensorElementDataType type_;
  OrtApi const* api_ = nullptr;
};

}  // namespace dinn360::ort
