// What both kernels are made of: fp16 packing, eight channels at a time, sampling positions, warp reductions.
#pragma once

#include "simt.cuh"

namespace dinn360::pieces {

using simt::Global;

inline constexpr int kWarp = 32;
inline constexpr uint32_t kAllLanes = 0xffffffffu;

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// ---- element types: arithmetic is fp32 whatever is stored

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float value) {
  return __float2half_rn(value);
}

// Two halves in one register, the first in the low bits, as mma takes them.
__device__ __forceinline__ uint32_t pack(float low, float high) {
  __half2 const both = __floats2half2_rn(low, high);
  return *reinterpret_cast<uint32_t const*>(&both);
}
__device__ __forceinline__ float2 unpack(uint32_t both) {
  return __half22float2(*reinterpret_cast<__half2 const*>(&both));
}

// ---- eight channels: 16 bytes of fp16, 32 of fp32

struct Eight {
  float value[8];
};

__device__ __forceinline__ Eight unpack(uint4 halves) {
  float2 const a = unpack(halves.x), b = unpack(halves.y), c = unpack(halves.z), d = unpack(halves.w);
  return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}
__device__ __forceinline__ uint4 pack(Eight const& eight) {
  float const* const v = eight.value;
  return make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
}
__device__ __forceinline__ Eight as_floats(uint4 low, uint4 high) {
  return {{__uint_as_float(low.x), __uint_as_float(low.y), __uint_as_float(low.z), __uint_as_float(low.w),
           __uint_as_float(high.x), __uint_as_float(high.y), __uint_as_float(high.z), __uint_as_float(high.w)}};
}
__device__ __forceinline__ uint4 as_bits(float a, float b, float c, float d) {
  return make_uint4(__float_as_uint(a), __float_as_uint(b), __float_as_uint(c), __float_as_uint(d));
}

// `index` lies on a 16-byte boundary.
__device__ __forceinline__ Eight load_eight(Global<__half const> from, int64_t index) {
  return unpack(from.load16(index));
}
__device__ __forceinline__ Eight load_eight(Global<float const> from, int64_t index) {
  return as_floats(from.load16(index), from.load16(index + 4));
}
__device__ __forceinline__ void store_eight(Global<__half> to, int64_t index, Eight const& eight) {
  to.store16(index, pack(eight));
}
__device__ __forceinline__ void store_eight(Global<float> to, int64_t index, Eight const& eight) {
  float const* const v = eight.value;
  to.store16(index, as_bits(v[0], v[1], v[2], v[3]));
  to.store16(index + 4, as_bits(v[4], v[5], v[6], v[7]));
}

// ---- positions

// A position on one axis: floor and what is left, in [0,1]. Beyond 2^30 pixels it stays at 2^30, where sums with sizes
// and strides still fit an int. NaN and infinity have no place on the axis.
struct Place {
  int whole;
  float part;
  bool finite;
};
__device__ __forceinline__ Place place(float position) {
  float const down = floorf(position);
  return {__float2int_rz(fminf(fmaxf(down, -1073741824.0f), 1073741824.0f)), position - down,
          fabsf(position) <= 3.402823466e38f};
}

// column modulo width; one turn around the circle costs no division.
__device__ __forceinline__ int wrapped(int column, int width) {
  if (column < 0) column += width;
  if (column >= width) column -= width;
  if (static_cast<uint32_t>(column) >= static_cast<uint32_t>(width)) {
    column %= width;
    if (column < 0) column += width;
  }
  return column;
}

// ---- reductions over `width` neighbouring lanes, a power of two; every lane gets the result

template <int width = kWarp>
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int step = width / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}
template <int width = kWarp>
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int step = width / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

}  // namespace dinn360::pieces
