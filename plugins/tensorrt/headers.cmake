# The target TensorRT::headers: of the SDK that TENSORRT_ROOT names or the compiler finds, else of the wheel that
# headers.txt pins.
find_path(DINN360_TENSORRT_INCLUDE NvInferRuntime.h
  HINTS "${TENSORRT_ROOT}" "$ENV{TENSORRT_ROOT}" PATH_SUFFIXES include)
set(headers ${DINN360_TENSORRT_INCLUDE})

if(NOT headers)
  find_package(Python3 COMPONENTS Interpreter QUIET)
  set(wheel ${CMAKE_CURRENT_BINARY_DIR}/headers)
  set(headers ${wheel}/kernel_lens/include/tensorrt)
  if(Python3_FOUND AND NOT EXISTS ${headers}/NvInferRuntime.h)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all:
              --dest ${wheel} --requirement ${CMAKE_CURRENT_SOURCE_DIR}/headers.txt
      OUTPUT_QUIET ERROR_VARIABLE error)
    file(GLOB archive ${wheel}/kernel_lens-*.whl)
    if(archive)
      file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${wheel} PATTERNS "kernel_lens/include/tensorrt/*")
    endif()
  endif()
endif()

# TensorRT's headers include CUDA's.
find_package(CUDAToolkit QUIET)
find_path(DINN360_CUDA_INCLUDE cuda_runtime_api.h HINTS ${CUDAToolkit_INCLUDE_DIRS})

if(NOT EXISTS ${headers}/NvInferRuntime.h)
  string(REGEX MATCH "ERROR: [^\n]*" error "${error}")
  message(FATAL_ERROR "DINN360_TENSORRT: expected TensorRT's headers in TENSORRT_ROOT or by pip, found none. ${error}")
endif()
if(NOT DINN360_CUDA_INCLUDE)
  message(FATAL_ERROR "DINN360_TENSORRT: expected cuda_runtime_api.h of a CUDA toolkit, found none")
endif()
add_library(TensorRT::headers INTERFACE IMPORTED GLOBAL)
target_include_directories(TensorRT::headers INTERFACE ${headers} ${DINN360_CUDA_INCLUDE})
