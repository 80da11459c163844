// The kernels of plugins/cuda on the device and the stream of ONNX Runtime's CUDA provider.
//
// During a run the provider's device is the current one, and the stream is the run's: runs of one session from several
// threads have streams of their own. What they share is the packed weights, which nothing writes after `prepare`.
#include <cuda_runtime_api.h>

#include "../cuda/launch.h"
#include "backends.h"

namespace dinn360::ort {
namespace {

constexpr const char* kConvolution = "DeformConv2d";

OrtStatus* failure(OrtApi const* api, const char* name, const char* why) {
  return why == nullptr ? nullptr : error(api, "dinn360:%s: %s", name, why);
}

OrtStatus* failure(OrtApi const* api, const char* name, cudaError_t status) {
  return status == cudaSuccess ? nullptr : failure(api, name, cudaGetErrorString(status));
}

OrtStatus* stream_of(Context const& context, void** stream) {
  return context.api()->KernelContext_GetGPUComputeStream(context.native(), stream);
}

// Makes a device current while it lives.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    status = cudaGetDevice(&before_);
    if (status == cudaSuccess && device != before_) status = cudaSetDevice(device);
  }
  ~OnDevice() { cudaSetDevice(before_); }
  cudaError_t status;

 private:
  int before_ = 0;
};

// Packs into new memory of the current device and waits until that is done.
cudaError_t pack_now(DeformConvParams const& weights, void** packed, const char** why) {
  cudaError_t status = cudaMalloc(packed, workspace_size(weights));
  if (status != cudaSuccess) return status;
  cudaStream_t stream = nullptr;
  status = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (status == cudaSuccess) {
    *why = pack(weights, *packed, stream);
    status = cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
  return status;
}

}  // namespace

CudaBackend::~CudaBackend() {
  if (packed_ != nullptr) cudaFree(packed_);
}

OrtStatus* CudaBackend::prepare(Attributes const& attributes, DeformConvParams const& weights) {
  if (weights.weight == nullptr || weights.bias == nullptr) return nullptr;  // results of other nodes
  cudaPointerAttributes where{};
  DINN360_TRY(failure(attributes.api(), kConvolution, cudaPointerGetAttributes(&where, weights.weight)));
  if (where.type != cudaMemoryTypeDevice) return nullptr;
  OnDevice const current(where.device);
  DINN360_TRY(failure(attributes.api(), kConvolution, current.status));
  const char* why = nullptr;
  DINN360_TRY(failure(attributes.api(), kConvolution, pack_now(weights, &packed_, &why)));
  return failure(attributes.api(), kConvolution, why);
}

OrtStatus* CudaBackend::run(DeformConvParams const& params, Context const& context) const {
  OrtApi const* const api = context.api();
  void* stream = nullptr;
  DINN360_TRY(stream_of(context, &stream));
  if (packed_ != nullptr) return failure(api, kConvolution, launch_packed(params, packed_, stream));
  DINN360_TRY(failure(api, kConvolution, check(params)));
  // Out of the pool of the stream's device, in the stream's order: no other run can have it before this one is done.
  void* workspace = nullptr;
  auto const native = static_cast<cudaStream_t>(stream);
  DINN360_TRY(failure(api, kConvolution, cudaMallocAsync(&workspace, workspace_size(params), native)));
  const char* const why = launch(params, workspace, stream);
  cudaError_t const freed = cudaFreeAsync(workspace, native);
  return why != nullptr ? failure(api, kConvolution, why) : failure(api, kConvolution, freed);
}

OrtStatus* CudaBackend::run(DstAttentionParams const& params, Context const& context) const {
  void* stream = nullptr;
  DINN360_TRY(stream_of(context, &stream));
  return failure(context.api(), "DSTAttention", launch(params, nullptr, stream));
}

}  // namespace dinn360::ort
