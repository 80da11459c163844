// The vocabulary of the kernels beside CUDA's own words (threadIdx, __syncthreads, __shfl_*_sync).
//
// Under nvcc every name here is a plain pointer or one instruction. With DINN360_EMULATED the same names come from
// plugins/testing/emulator/simt_emulated.h, where pointers know their bounds, shared memory knows who wrote it since which
// barrier, and a warp's accesses are counted. Kernels therefore touch memory only through these names.
#pragma once

#ifdef DINN360_EMULATED
#include "simt_emulated.h"
#else

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

// A statically sized array in shared memory, 16-byte aligned: DINN360_SHARED(float, tile, 256);
#define DINN360_SHARED(T, name, count)            \
  __shared__ alignas(16) T name##_storage[count]; \
  dinn360::simt::Shared<T> name { name##_storage }
// One array of all dynamic shared memory of the launch, `count` elements of T.
#define DINN360_DYNAMIC_SHARED(T, name, count)                          \
  extern __shared__ alignas(16) unsigned char dinn360_dynamic_shared[]; \
  dinn360::simt::Shared<T> name { reinterpret_cast<T*>(dinn360_dynamic_shared) }
// DINN360_LAUNCH(kernel, grid, block, dynamic_bytes, stream, args...): a kernel launch; the kernel may be a template-id in ().
#define DINN360_LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...) \
  (kernel)<<<(grid), (block), (dynamic_bytes), static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)

namespace dinn360::simt {

// A pointer to global memory. Global<T const> is read-only. Index with 64 bits.
template <class T>
struct Global {
  T* pointer;
  __device__ __forceinline__ T load(int64_t index) const { return pointer[index]; }
  __device__ __forceinline__ void store(int64_t index, T value) const { pointer[index] = value; }
  // 16 bytes at once from element `index`, which lies on a 16-byte boundary.
  __device__ __forceinline__ uint4 load16(int64_t index) const {
    return *reinterpret_cast<uint4 const*>(pointer + index);
  }
  __device__ __forceinline__ void store16(int64_t index, uint4 value) const {
    *reinterpret_cast<uint4*>(const_cast<void*>(static_cast<void const*>(pointer + index))) = value;
  }
  __device__ __forceinline__ Global operator+(int64_t step) const { return {pointer + step}; }
  __device__ __forceinline__ bool is_null() const { return pointer == nullptr; }
};

// A pointer to shared memory.
template <class T>
struct Shared {
  T* pointer;
  __device__ __forceinline__ T load(int index) const { return pointer[index]; }
  __device__ __forceinline__ void store(int index, T value) const { pointer[index] = value; }
  __device__ __forceinline__ uint32_t load4(int index) const {  // 4 bytes, aligned
    return *reinterpret_cast<uint32_t const*>(pointer + index);
  }
  __device__ __forceinline__ void store4(int index, uint32_t value) const {
    *reinterpret_cast<uint32_t*>(pointer + index) = value;
  }
  __device__ __forceinline__ uint4 load16(int index) const { return *reinterpret_cast<uint4 const*>(pointer + index); }
  __device__ __forceinline__ void store16(int index, uint4 value) const {
    *reinterpret_cast<uint4*>(pointer + index) = value;
  }
  __device__ __forceinline__ Shared operator+(int step) const { return {pointer + step}; }
  // The same bytes seen as another element type (a carve of dynamic shared memory).
  template <class U>
  __device__ __forceinline__ Shared<U> as() const {
    return {reinterpret_cast<U*>(pointer)};
  }
};

// d += a b on one warp's tensor core: m16n8k16, fp16 operands (two a register), fp32 sums; fragments as in the PTX ISA
// (mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32). All 32 lanes must call it.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], uint32_t const (&a)[4], uint32_t const (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8x8 matrices of fp16 from shared memory into mma fragments: lane l gives the address (16-byte aligned element
// index) of row l%8 of matrix l/8. All 32 lanes must call it. `transposed` is ldmatrix.trans.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], Shared<__half> from, int index) {
  auto const address = static_cast<uint32_t>(__cvta_generic_to_shared(from.pointer + index));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_transposed(uint32_t (&r)[4], Shared<__half> from, int index) {
  auto const address = static_cast<uint32_t>(__cvta_generic_to_shared(from.pointer + index));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

}  // namespace dinn360::simt
#endif
