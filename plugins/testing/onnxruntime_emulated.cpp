// The GPU's operators of plugins/onnxruntime as a library for ONNX Runtime's CPU provider: the same backend over the
// emulated kernels and the CUDA stand-in, whose device memory is host memory. Tests only.
#include "../onnxruntime/backends.h"
#include "../onnxruntime/operators.h"

namespace {

using namespace dinn360::ort;

template <class Operator>
OrtStatus* add(OrtApi const* api, OrtCustomOpDomain* domain) {
  static CustomOp<Operator> wide(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  static CustomOp<Operator> half(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16);
  DINN360_TRY(wide.add_to(api, domain));
  return half.add_to(api, domain);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               OrtApiBase const* base) {
  OrtApi const* const api = base->GetApi(kApiVersion);
  OrtCustomOpDomain* domain = nullptr;  // must outlive the sessions: it is never let go
  DINN360_TRY(api->CreateCustomOpDomain("dinn360", &domain));
  DINN360_TRY(add<DeformConv2d<CudaBackend>>(api, domain));
  DINN360_TRY(add<DstAttention<CudaBackend>>(api, domain));
  return api->AddCustomOpDomain(options, domain);
}
