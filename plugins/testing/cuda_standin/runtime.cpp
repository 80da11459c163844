#include <cuda_runtime_api.h>

#include <cstdlib>
#include <mutex>

namespace {

// What the functions saw. `plugins/testing/onnxruntime_emulated.py` has the same struct.
struct Counts {
  int held = 0, held_in_order = 0;  // allocations that are not freed: cudaMalloc, cudaMallocAsync
  int made = 0, made_in_order = 0;  // since the start
  int device = 0;                   // the current one
  int made_on = -1;                 // the current one at the last cudaMalloc
  int constants_on = 0;             // where pointers of the graph's constants lie
};
static_assert(sizeof(Counts) == 28, "as in plugins/testing/onnxruntime_emulated.py");

Counts counts;
std::mutex mutex;

cudaError_t allocate(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) Counts* dinn360_standin_counts() { return &counts; }

cudaError_t cudaGetDevice(int* device) {
  *device = counts.device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  counts.device = device;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, void const*) {
  *attributes = {cudaMemoryTypeDevice, counts.constants_on};
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  std::lock_guard const lock(mutex);
  ++counts.held, ++counts.made;
  counts.made_on = counts.device;
  return allocate(memory, bytes);
}

cudaError_t cudaFree(void* memory) {
  std::lock_guard const lock(mutex);
  --counts.held;
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  std::lock_guard const lock(mutex);
  ++counts.held_in_order, ++counts.made_in_order;
  return allocate(memory, bytes);
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t) {
  std::lock_guard const lock(mutex);
  --counts.held_in_order;
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
char const* cudaGetErrorString(cudaError_t status) { return status == cudaSuccess ? "no error" : "out of memory"; }
