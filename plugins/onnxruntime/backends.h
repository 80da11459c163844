// Where the operators run: CPU cores, or a GPU through ONNX Runtime's CUDA provider.
#pragma once

#include "../params.h"
#include "api.h"

namespace dinn360::ort {

struct CpuBackend {
  static constexpr const char* kProvider = nullptr;
  static OrtStatus* run(DeformConvParams const& params, Context const& context);
  static OrtStatus* run(DstAttentionParams const& params, Context const& context);
};

struct CudaBackend {
  static constexpr const char* kProvider = "CUDAExecutionProvider";
  static OrtStatus* run(DeformConvParams const& params, Context const& context);
  static OrtStatus* run(DstAttentionParams const& params, Context const& context);
};

}  // namespace dinn360::ort
