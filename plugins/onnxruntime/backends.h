// Where the operators run: CPU cores, or a GPU through ONNX Runtime's CUDA provider.
//
// A backend lives as long as a node's kernel: `prepare` is called once when it is made, `run` from any thread.
#pragma once

#include "../params.h"
#include "api.h"

#ifndef DINN360_GPU_PROVIDER
#define DINN360_GPU_PROVIDER "CUDAExecutionProvider"
#endif

namespace dinn360::ort {

struct CpuBackend {
  static constexpr const char* kProvider = nullptr;
  static OrtStatus* prepare(Attributes const&, DeformConvParams const&) { return nullptr; }
  static OrtStatus* run(DeformConvParams const& params, Context const& context);
  static OrtStatus* run(DstAttentionParams const& params, Context const& context);
};

class CudaBackend {
 public:
  static constexpr const char* kProvider = DINN360_GPU_PROVIDER;

  CudaBackend() = default;
  CudaBackend(CudaBackend const&) = delete;
  CudaBackend& operator=(CudaBackend const&) = delete;
  ~CudaBackend();

  // Packs weight and bias for the kernels, where the graph has them as constants: they lie on the provider's device.
  OrtStatus* prepare(Attributes const& attributes, DeformConvParams const& weights);
  OrtStatus* run(DeformConvParams const& params, Context const& context) const;
  OrtStatus* run(DstAttentionParams const& params, Context const& context) const;

 private:
  void* packed_ = nullptr;
};

}  // namespace dinn360::ort
