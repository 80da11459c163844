# The target TensorRT::headers: of the SDK that TENSORRT_ROOT names or the compiler finds, else of the wheel that
# headers.txt pins. Left out, with one line, where neither can be had.
find_path(DINN360_TENSORRT_INCLUDE NvInferRuntime.h HINTS "${TENSORRT_ROOT}" "$ENV{TENSORRT_ROOT}" PATH_SUFFIXES include)

if(NOT DINN360_TENSORRT_INCLUDE)
  find_package(Python3 COMPONENTS Interpreter)
  set(wheel ${CMAKE_CURRENT_BINARY_DIR}/headers)
  if(Python3_FOUND AND NOT EXISTS ${wheel}/kernel_lens/include/tensorrt/NvInferRuntime.h)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all:
              --dest ${wheel} --requirement ${CMAKE_CURRENT_SOURCE_DIR}/headers.txt
      OUTPUT_QUIET ERROR_VARIABLE error)
    file(GLOB archive ${wheel}/*.whl)
    if(archive)
      file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${wheel} PATTERNS "kernel_lens/include/tensorrt/*")
    endif()
  endif()
  find_path(DINN360_TENSORRT_INCLUDE NvInferRuntime.h PATHS ${wheel}/kernel_lens/include/tensorrt NO_DEFAULT_PATH)
endif()

# TensorRT's headers include CUDA's.
find_package(CUDAToolkit QUIET)
find_path(DINN360_CUDA_INCLUDE cuda_runtime_api.h HINTS ${CUDAToolkit_INCLUDE_DIRS})

if(NOT DINN360_TENSORRT_INCLUDE)
  string(REGEX REPLACE "[ \n]+" " " error "${error}")
  message(STATUS "TensorRT plugins left out: no TensorRT headers; set TENSORRT_ROOT to an SDK (pip download: ${error})")
elseif(NOT DINN360_CUDA_INCLUDE)
  message(STATUS "TensorRT plugins left out: no cuda_runtime_api.h; install a CUDA toolkit")
else()
  add_library(TensorRT::headers INTERFACE IMPORTED)
  target_include_directories(TensorRT::headers INTERFACE ${DINN360_TENSORRT_INCLUDE} ${DINN360_CUDA_INCLUDE})
endif()
