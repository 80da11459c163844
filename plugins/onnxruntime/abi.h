// What this library uses of ONNX Runtime's C interface, declared here: no package for Python carries its header, and a
// download of 143 MB for 36 functions is no way to build. The runtime only ever appends to these tables, so a place in
// them is the same in every release from API 18 on; abi_check.cpp holds it against the header of an SDK.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dinn360::ort {

// The oldest API that has all that is declared here: ONNX Runtime 1.18 and later load the library.
constexpr uint32_t kApiVersion = 18;

struct OrtAllocator;
struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtMemoryInfo;
struct OrtSessionOptions;
struct OrtShapeInferContext;
struct OrtStatus;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;
struct OrtCustomOp;

enum OrtErrorCode : int { ORT_INVALID_ARGUMENT = 2 };
enum ONNXTensorElementDataType : int {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED = 0,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 = 10,
};
enum OrtAllocatorType : int { OrtArenaAllocator = 1 };
enum OrtMemType : int { OrtMemTypeDefault = 0 };
enum OrtCustomOpInputOutputCharacteristic : int { INPUT_OUTPUT_REQUIRED = 0, INPUT_OUTPUT_OPTIONAL = 1 };

using Slot = void (*)();  // a function that is not called here

struct OrtApi {
  OrtStatus* (*CreateStatus)(OrtErrorCode code, const char* message);
  Slot before_26[25];
  OrtStatus* (*CreateCustomOpDomain)(const char* name, OrtCustomOpDomain** domain);
  OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain* domain, OrtCustomOp const* op);
  OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions* options, OrtCustomOpDomain* domain);
  Slot before_51[22];
  OrtStatus* (*GetTensorMutableData)(OrtValue* value, void** data);
  Slot before_57[5];
  OrtStatus* (*CreateTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo** info);
  OrtStatus* (*SetTensorElementType)(OrtTensorTypeAndShapeInfo* info, ONNXTensorElementDataType type);
  OrtStatus* (*SetDimensions)(OrtTensorTypeAndShapeInfo* info, int64_t const* dimensions, size_t count);
  OrtStatus* (*GetTensorElementType)(OrtTensorTypeAndShapeInfo const* info, ONNXTensorElementDataType* type);
  OrtStatus* (*GetDimensionsCount)(OrtTensorTypeAndShapeInfo const* info, size_t* count);
  OrtStatus* (*GetDimensions)(OrtTensorTypeAndShapeInfo const* info, int64_t* dimensions, size_t count);
  OrtStatus* (*GetSymbolicDimensions)(OrtTensorTypeAndShapeInfo const* info, const char** names, size_t count);
  Slot before_65[1];
  OrtStatus* (*GetTensorTypeAndShape)(OrtValue const* value, OrtTensorTypeAndShapeInfo** info);
  Slot before_68[2];
  OrtStatus* (*CreateMemoryInfo)(const char* name, OrtAllocatorType allocator, int device, OrtMemType type,
                                 OrtMemoryInfo** info);
  OrtStatus* (*CreateCpuMemoryInfo)(OrtAllocatorType allocator, OrtMemType type, OrtMemoryInfo** info);
  Slot before_75[5];
  OrtStatus* (*AllocatorAlloc)(OrtAllocator* allocator, size_t bytes, void** memory);
  OrtStatus* (*AllocatorFree)(OrtAllocator* allocator, void* memory);
  Slot before_85[8];
  OrtStatus* (*KernelInfoGetAttribute_float)(OrtKernelInfo const* info, const char* name, float* value);
  OrtStatus* (*KernelInfoGetAttribute_int64)(OrtKernelInfo const* info, const char* name, int64_t* value);
  OrtStatus* (*KernelInfoGetAttribute_string)(OrtKernelInfo const* info, const char* name, char* text, size_t* size);
  OrtStatus* (*KernelContext_GetInputCount)(OrtKernelContext const* context, size_t* count);
  Slot before_90[1];
  OrtStatus* (*KernelContext_GetInput)(OrtKernelContext const* context, size_t index, OrtValue const** value);
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext* context, size_t index, int64_t const* shape, size_t rank,
                                        OrtValue** value);
  Slot before_93[1];
  void (*ReleaseStatus)(OrtStatus* status);
  void (*ReleaseMemoryInfo)(OrtMemoryInfo* info);
  Slot before_99[4];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo* info);
  Slot before_132[32];
  void (*ReleaseAllocator)(OrtAllocator* allocator);
  Slot before_163[30];
  OrtStatus* (*KernelInfoGetAttributeArray_int64)(OrtKernelInfo const* info, const char* name, int64_t* values,
                                                  size_t* count);
  Slot before_193[29];
  OrtStatus* (*KernelContext_GetGPUComputeStream)(OrtKernelContext const* context, void** stream);
  Slot before_231[37];
  OrtStatus* (*KernelInfo_GetOutputCount)(OrtKernelInfo const* info, size_t* count);
  Slot before_249[17];
  OrtStatus* (*KernelInfoGetConstantInput_tensor)(OrtKernelInfo const* info, size_t index, int* constant,
                                                  OrtValue const** value);
  Slot before_253[3];
  OrtStatus* (*KernelContext_GetAllocator)(OrtKernelContext const* context, OrtMemoryInfo const* memory,
                                           OrtAllocator** allocator);
  Slot before_268[14];
  OrtStatus* (*ShapeInferContext_GetInputTypeShape)(OrtShapeInferContext const* context, size_t index,
                                                    OrtTensorTypeAndShapeInfo** info);
  Slot before_270[1];
  OrtStatus* (*ShapeInferContext_SetOutputTypeShape)(OrtShapeInferContext const* context, size_t index,
                                                     OrtTensorTypeAndShapeInfo const* info);
  OrtStatus* (*SetSymbolicDimensions)(OrtTensorTypeAndShapeInfo* info, const char** names, size_t count);
  Slot before_274[2];
  OrtStatus* (*KernelContext_ParallelFor)(OrtKernelContext const* context, void (*task)(void* data, size_t index),
                                          size_t count, size_t batches, void* data);
};

struct OrtApiBase {
  OrtApi const* (*GetApi)(uint32_t version);
};

// An operator as the runtime asks for it; a null function takes the default.
struct OrtCustomOp {
  uint32_t version;
  Slot CreateKernel;  // before API 16; see CreateKernelV2
  const char* (*GetName)(OrtCustomOp const* op);
  const char* (*GetExecutionProviderType)(OrtCustomOp const* op);  // null: CPU
  ONNXTensorElementDataType (*GetInputType)(OrtCustomOp const* op, size_t index);
  size_t (*GetInputTypeCount)(OrtCustomOp const* op);
  ONNXTensorElementDataType (*GetOutputType)(OrtCustomOp const* op, size_t index);
  size_t (*GetOutputTypeCount)(OrtCustomOp const* op);
  Slot KernelCompute;  // before API 16; see KernelComputeV2
  void (*KernelDestroy)(void* kernel);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(OrtCustomOp const* op, size_t index);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(OrtCustomOp const* op, size_t index);
  OrtMemType (*GetInputMemoryType)(OrtCustomOp const* op, size_t index);
  int (*GetVariadicInputMinArity)(OrtCustomOp const* op);
  int (*GetVariadicInputHomogeneity)(OrtCustomOp const* op);
  int (*GetVariadicOutputMinArity)(OrtCustomOp const* op);
  int (*GetVariadicOutputHomogeneity)(OrtCustomOp const* op);
  OrtStatus* (*CreateKernelV2)(OrtCustomOp const* op, OrtApi const* api, OrtKernelInfo const* info, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext* context);
  OrtStatus* (*InferOutputShapeFn)(OrtCustomOp const* op, OrtShapeInferContext* context);
  int (*GetStartVersion)(OrtCustomOp const* op);
  int (*GetEndVersion)(OrtCustomOp const* op);
  Slot GetMayInplace, ReleaseMayInplace, GetAliasMap, ReleaseAliasMap;
};

}  // namespace dinn360::ort
