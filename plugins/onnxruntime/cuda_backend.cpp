// The kernels of plugins/cuda on the stream of ONNX Runtime's CUDA provider, with its allocator for their workspace.
#include "../cuda/launch.h"
#include "backends.h"

namespace dinn360::ort {
namespace {

template <class Params>
OrtStatus* launch_on_stream(const char* name, Params const& params, Context const& context) {
  OrtApi const* const api = context.api();
  if (const char* const why = check(params)) return error(api, "dinn360:%s: %s", name, why);
  void* stream = nullptr;
  DINN360_TRY(api->KernelContext_GetGPUComputeStream(context.native(), &stream));
  size_t const bytes = workspace_size(params);
  if (bytes == 0) {
    const char* const why = launch(params, nullptr, stream);
    return why == nullptr ? nullptr : error(api, "dinn360:%s: %s", name, why);
  }
  OrtMemoryInfo* device = nullptr;
  DINN360_TRY(api->CreateMemoryInfo("Cuda", OrtArenaAllocator, 0, OrtMemTypeDefault, &device));
  OrtAllocator* allocator = nullptr;
  OrtStatus* status = api->KernelContext_GetAllocator(context.native(), device, &allocator);
  api->ReleaseMemoryInfo(device);
  DINN360_TRY(status);
  void* workspace = nullptr;
  status = api->AllocatorAlloc(allocator, bytes, &workspace);
  if (status == nullptr) {
    if (const char* const why = launch(params, workspace, stream)) status = error(api, "dinn360:%s: %s", name, why);
    // Freed in the order of the stream: the arena gives it to a later node of this stream only.
    if (OrtStatus* const freed = api->AllocatorFree(allocator, workspace)) {
      status == nullptr ? void(status = freed) : api->ReleaseStatus(freed);
    }
  }
  api->ReleaseAllocator(allocator);
  return status;
}

}  // namespace

OrtStatus* CudaBackend::run(DeformConvParams const& params, Context const& context) {
  return launch_on_stream("DeformConv2d", params, context);
}

OrtStatus* CudaBackend::run(DstAttentionParams const& params, Context const& context) {
  return launch_on_stream("DSTAttention", params, context);
}

}  // namespace dinn360::ort
