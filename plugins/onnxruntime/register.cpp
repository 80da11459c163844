// What ONNX Runtime calls when the library is registered with a session's options.
#include "backends.h"
#include "fused_operators.h"
#include "operators.h"

namespace dinn360::ort {
namespace {

// One entry for each data type of each operator; the entries live as long as the library.
template <template <class> class Operator, class Backend>
OrtStatus* add(OrtApi const* api, OrtCustomOpDomain* domain) {
  static CustomOp<Operator<Backend>> wide(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  static CustomOp<Operator<Backend>> half(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16);
  DINN360_TRY(wide.add_to(api, domain));
  return half.add_to(api, domain);
}

template <class Operator>
OrtStatus* add_fused(OrtApi const* api, OrtCustomOpDomain* domain) {
  static CustomOp<Operator> entry(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  return entry.add_to(api, domain);
}

template <class Backend>
OrtStatus* add_all(OrtApi const* api, OrtCustomOpDomain* domain) {
  DINN360_TRY((add<DeformConv2d, Backend>(api, domain)));
  return add<DstAttention, Backend>(api, domain);
}

OrtStatus* fill_shared(OrtApi const* api, OrtCustomOpDomain* domain) {
  DINN360_TRY(add_all<CpuBackend>(api, domain));
#ifdef DINN360_WITH_CUDA
  DINN360_TRY(add_all<CudaBackend>(api, domain));
#endif
  return nullptr;
}

OrtStatus* fill_fused(OrtApi const* api, OrtCustomOpDomain* domain) {
  DINN360_TRY(add_fused<SphereConv2d>(api, domain));
  DINN360_TRY(add_fused<ChannelNorm>(api, domain));
  DINN360_TRY(add_fused<Haar>(api, domain));
  DINN360_TRY(add_fused<SphereSqueeze>(api, domain));
  return add_fused<SphereUnsqueeze>(api, domain);
}

// A domain must outlive every session that uses it, and nothing says when the last one ends: it is kept, once made.
using Fill = OrtStatus* (*)(OrtApi const* api, OrtCustomOpDomain* domain);

template <Fill fill>
OrtStatus* add_domain(OrtApi const* api, OrtSessionOptions* options, const char* name) {
  struct Made {
    OrtCustomOpDomain* domain = nullptr;
    OrtStatus* status = nullptr;
  };
  static Made const made = [&] {
    Made result;
    result.status = api->CreateCustomOpDomain(name, &result.domain);
    if (result.status == nullptr) result.status = fill(api, result.domain);
    return result;
  }();
  if (made.status != nullptr) return error(api, "%s: the operators cannot be registered", name);
  return api->AddCustomOpDomain(options, made.domain);
}

}  // namespace
}  // namespace dinn360::ort

extern "C" __attribute__((visibility("default"))) dinn360::ort::OrtStatus* RegisterCustomOps(
    dinn360::ort::OrtSessionOptions* options, dinn360::ort::OrtApiBase const* base) {
  using namespace dinn360::ort;
  OrtApi const* const api = base->GetApi(kApiVersion);
  if (api == nullptr) return nullptr;  // no way to make a status; sessions then say that the operators are unknown
  DINN360_TRY(add_domain<fill_shared>(api, options, "dinn360"));
  return add_domain<fill_fused>(api, options, "dinn360.cpu");
}
