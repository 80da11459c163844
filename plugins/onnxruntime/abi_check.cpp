// Holds abi.h against the header of an ONNX Runtime SDK: places, arities and constants. Compiled where CMake is told of
// one (DINN360_ORT_INCLUDE); nothing of it is linked.
#include <onnxruntime_c_api.h>

#include "abi.h"

namespace {

template <class Result, class... Arguments>
constexpr size_t arity(Result (*)(Arguments...)) {
  return sizeof...(Arguments);
}
template <class Result, class... Arguments>
constexpr size_t arity(Result (*)(Arguments...) noexcept) {
  return sizeof...(Arguments);
}

#define SAME(table, name)                                                                             \
  static_assert(offsetof(::table, name) == offsetof(dinn360::ort::table, name), #name ": its place"); \
  static_assert(arity(decltype(::table::name){}) == arity(decltype(dinn360::ort::table::name){}), #name ": its arity");
#define SAME_IN_API(name) SAME(OrtApi, name)
#define SAME_IN_OP(name) SAME(OrtCustomOp, name)

// clang-format off: it takes the lists for declarations
#define FUNCTIONS(F) \
    F(CreateStatus) F(CreateCustomOpDomain) F(CustomOpDomain_Add) F(AddCustomOpDomain) F(GetTensorMutableData) \
    F(CreateTensorTypeAndShapeInfo) F(SetTensorElementType) F(SetDimensions) F(GetTensorElementType) \
    F(GetDimensionsCount) F(GetDimensions) F(GetSymbolicDimensions) F(GetTensorTypeAndShape) F(CreateMemoryInfo) \
    F(CreateCpuMemoryInfo) F(AllocatorAlloc) F(AllocatorFree) F(KernelInfoGetAttribute_float) \
    F(KernelInfoGetAttribute_int64) F(KernelInfoGetAttribute_string) F(KernelContext_GetInputCount) \
    F(KernelContext_GetInput) F(KernelContext_GetOutput) F(ReleaseStatus) F(ReleaseMemoryInfo) \
    F(ReleaseTensorTypeAndShapeInfo) F(ReleaseAllocator) F(KernelInfoGetAttributeArray_int64) \
    F(KernelContext_GetGPUComputeStream) F(KernelInfo_GetOutputCount) F(KernelInfoGetConstantInput_tensor) \
    F(KernelContext_GetAllocator) \
    F(ShapeInferContext_GetInputTypeShape) F(ShapeInferContext_SetOutputTypeShape) F(SetSymbolicDimensions) \
    F(KernelContext_ParallelFor)
FUNCTIONS(SAME_IN_API)

#define CALLBACKS(F) \
    F(GetName) F(GetExecutionProviderType) F(GetInputType) F(GetInputTypeCount) F(GetOutputType) \
    F(GetOutputTypeCount) F(KernelDestroy) F(GetInputCharacteristic) F(GetOutputCharacteristic) \
    F(GetInputMemoryType) F(GetVariadicInputMinArity) F(GetVariadicInputHomogeneity) F(GetVariadicOutputMinArity) \
    F(GetVariadicOutputHomogeneity) F(CreateKernelV2) F(KernelComputeV2) F(InferOutputShapeFn) F(GetStartVersion) \
    F(GetEndVersion)
CALLBACKS(SAME_IN_OP)
// clang-format on

SAME(OrtApiBase, GetApi)
static_assert(sizeof(dinn360::ort::OrtCustomOp) <= sizeof(::OrtCustomOp), "OrtCustomOp: its size");
static_assert(dinn360::ort::kApiVersion <= ORT_API_VERSION, "the SDK is older than ONNX Runtime 1.18");

#define SAME_VALUE(name) static_assert(int{::name} == int{dinn360::ort::name}, #name);
SAME_VALUE(ORT_INVALID_ARGUMENT)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16)
SAME_VALUE(OrtArenaAllocator)
SAME_VALUE(OrtMemTypeDefault)
SAME_VALUE(INPUT_OUTPUT_REQUIRED)
SAME_VALUE(INPUT_OUTPUT_OPTIONAL)

}  // namespace
