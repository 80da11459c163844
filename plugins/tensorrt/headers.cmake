# The target TensorRT::headers, of the folder DINN360_TENSORRT_INCLUDE (plugins/tensorrt/headers.py finds it), else of
# the SDK that TENSORRT_ROOT names or the compiler finds.
find_path(DINN360_TENSORRT_INCLUDE NvInferRuntime.h
  HINTS "${TENSORRT_ROOT}" "$ENV{TENSORRT_ROOT}" PATH_SUFFIXES include)
if(NOT EXISTS "${DINN360_TENSORRT_INCLUDE}/NvInferRuntime.h")
  message(FATAL_ERROR "DINN360_TENSORRT_INCLUDE: expected the folder of NvInferRuntime.h, found none; "
    "`python -m plugins build --tensorrt` fetches it")
endif()

# TensorRT's headers include CUDA's.
find_package(CUDAToolkit QUIET)
find_path(DINN360_CUDA_INCLUDE cuda_runtime_api.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
if(NOT DINN360_CUDA_INCLUDE)
  message(FATAL_ERROR "DINN360_TENSORRT: expected cuda_runtime_api.h of a CUDA toolkit, found none")
endif()
add_library(TensorRT::headers INTERFACE IMPORTED GLOBAL)
target_include_directories(TensorRT::headers INTERFACE ${DINN360_TENSORRT_INCLUDE} ${DINN360_CUDA_INCLUDE})
