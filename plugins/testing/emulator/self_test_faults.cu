// Each fault that the emulator must find, beside its clean twin: `broken` chooses.
#include "self_test.h"

namespace dinn360::self_test {
namespace {

__global__ void copy_bounds(Test t) {
  int const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < t.count || t.broken) t.out.store(i, t.in.load(i));
}

__global__ void load_before_begin(Test t) {
  int const i = threadIdx.x;
  if (i < t.count) t.out.store(i, t.in.load(t.broken ? i - 1 : i));
}

// Steps from one tensor into the bytes of another, which lie in bounds of something.
__global__ void other_tensor(Test t) {
  int const i = threadIdx.x;
  int64_t const step = t.broken ? t.scratch.pointer - t.out.pointer : 0;
  if (i < t.count) (t.out + step).store(i, t.in.load(i));
}

__global__ void store_to_input(Test t) {
  int const i = threadIdx.x;
  Global<float> const in{const_cast<float*>(t.in.pointer)};
  if (i < t.count) (t.broken ? in : t.out).store(i, 1.0f);
}

__global__ void null_pointer(Test t) {
  int const i = threadIdx.x;
  Global<float const> const from{t.broken ? nullptr : t.in.pointer};
  if (i < t.count) t.out.store(i, from.load(i));
}

__global__ void misaligned_16(Test t) {
  int const i = threadIdx.x;
  if (4 * i + 4 < t.count) t.out.store16(4 * i, t.in.load16(t.broken ? 4 * i + 1 : 4 * i));
}

__global__ void misaligned_shared(Test t) {
  DINN360_SHARED(float, tile, 256);
  int const i = threadIdx.x;
  for (int k = 0; k < 4; ++k) tile.store(4 * i + k, 1.0f);
  uint4 const value = tile.load16(t.broken && i == 3 ? 4 * i - 2 : 4 * i);
  t.out.store(i, __uint_as_float(value.x));
}

__global__ void unwritten_scratch(Test t) {
  int const i = threadIdx.x;
  if (i < t.count) {
    if (!t.broken || i != 5) t.scratch.store(i, 1.0f);
    t.out.store(i, t.scratch.load(i));
  }
}

__global__ void shared_bounds(Test t) {
  DINN360_SHARED(float, tile, 32);
  int const i = threadIdx.x;
  tile.store(t.broken ? i + 1 : i, 1.0f);
  t.out.store(i, tile.load(t.broken ? i + 1 : i));
}

__global__ void dynamic_bounds(Test t) {
  DINN360_DYNAMIC_SHARED(float, tile, 64);
  auto const second = tile + 32;
  int const i = threadIdx.x;
  second.store(t.broken ? i + 1 : i, 1.0f);
  t.out.store(i, second.load(t.broken ? i + 1 : i));
}

__global__ void shared_uninitialised(Test t) {
  DINN360_SHARED(float, tile, 64);
  int const i = threadIdx.x;
  if (!t.broken || i != 7) tile.store(i, 1.0f);
  __syncthreads();
  t.out.store(i, tile.load(63 - i));
}

// The first block writes what the second only reads: shared memory does not outlive its block.
__global__ void shared_from_the_last_block(Test t) {
  DINN360_SHARED(float, tile, 32);
  if (blockIdx.x == 0 || !t.broken) tile.store(threadIdx.x, 1.0f);
  t.out.store(blockIdx.x * 32 + threadIdx.x, tile.load(threadIdx.x));
}

__global__ void read_after_write(Test t) {
  DINN360_SHARED(float, tile, 64);
  int const i = threadIdx.x;
  tile.store(i, 1.0f);
  if (!t.broken) __syncthreads();
  t.out.store(i, tile.load(max(i - 1, 0)));
}

__global__ void write_after_read(Test t) {
  DINN360_SHARED(float, tile, 64);
  int const i = threadIdx.x;
  tile.store(i, 1.0f);
  __syncthreads();
  float const value = tile.load(min(i + 1, 63));
  if (!t.broken) __syncthreads();
  tile.store(i, value);
  __syncthreads();
  t.out.store(i, tile.load(i));
}

__global__ void write_after_many_reads(Test t) {
  DINN360_SHARED(float, tile, 64);
  int const i = threadIdx.x;
  tile.store(i, 1.0f);
  __syncthreads();
  t.out.store(i, tile.load(0));
  if (!t.broken) __syncthreads();
  if (i == 63) tile.store(0, 2.0f);
}

__global__ void write_after_write(Test t) {
  DINN360_SHARED(float, tile, 64);
  int const i = threadIdx.x;
  tile.store(t.broken ? i / 2 : i, 1.0f);
  __syncthreads();
  t.out.store(i, tile.load(t.broken ? i / 2 : i));
}

// Half a word each: no bytes in common, so no race.
__global__ void neighbours_in_a_word(Test t) {
  DINN360_SHARED(__half, tile, 64);
  int const i = threadIdx.x;
  tile.store(i, __float2half(1.0f));
  if (t.broken) tile.store(i ^ 1, __float2half(1.0f));
  t.out.store(i, __half2float(tile.load(i)));
}

__global__ void warp_order(Test t) {
  DINN360_SHARED(float, tile, 64);
  int const i = threadIdx.x;
  tile.store(i, 1.0f);
  if (!t.broken) __syncwarp();
  t.out.store(i, tile.load(i & ~1));
}

// __syncwarp orders a warp, not the block.
__global__ void warp_order_across_warps(Test t) {
  DINN360_SHARED(float, tile, 64);
  int const i = threadIdx.x;
  tile.store(i, 1.0f);
  if (t.broken)
    __syncwarp();
  else
    __syncthreads();
  t.out.store(i, tile.load(i % 32));
}

// A shuffle exchanges registers; it does not order memory.
__global__ void shuffle_is_no_fence(Test t) {
  DINN360_SHARED(float, tile, 64);
  int const i = threadIdx.x;
  tile.store(i, 1.0f);
  float const sum = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
  if (!t.broken) __syncwarp();
  t.out.store(i, tile.load(i & ~1) + sum);
}

__global__ void half_warp_order(Test t) {
  DINN360_SHARED(float, tile, 64);
  int const i = threadIdx.x;
  uint32_t const mine = i % 32 < 16 ? 0xffffu : 0xffff0000u;
  tile.store(i, 1.0f);
  __syncwarp(mine);
  t.out.store(i, tile.load(t.broken ? i & ~16 : i & ~1));
}

__global__ void barrier_after_exit(Test t) {
  int const i = threadIdx.x;
  t.out.store(i, 1.0f);
  if (t.broken && i == 40) return;
  __syncthreads();
}

__global__ void divergent_barriers(Test t) {
  int const i = threadIdx.x;
  if (t.broken && i >= 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  t.out.store(i, 1.0f);
}

__global__ void divergent_barrier_in_warp(Test t) {
  int const i = threadIdx.x;
  if (!t.broken || i % 2 == 0) __syncthreads();
  t.out.store(i, 1.0f);
  if (t.broken && i % 2 == 1) __syncthreads();
}

__global__ void shuffle_missing_lanes(Test t) {
  int const i = threadIdx.x;
  float value = 1.0f;
  if (!t.broken || i % 32 < 16) value = __shfl_down_sync(0xffffffffu, value, 1);
  t.out.store(i, value);
}

__global__ void shuffle_from_outside_the_mask(Test t) {
  int const i = threadIdx.x;
  float value = 1.0f;
  if (i % 32 < 16) value = __shfl_sync(0xffffu, value, t.broken ? 20 : 3);
  t.out.store(i, value);
}

__global__ void syncwarp_missing_lanes(Test t) {
  int const i = threadIdx.x;
  t.out.store(i, 1.0f);
  if (t.broken && i == 33) return;
  __syncwarp();
}

__global__ void mma_missing_lanes(Test t) {
  int const i = threadIdx.x;
  float d[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  uint32_t const a[4] = {}, b[2] = {};
  if (!t.broken || i % 32 != 31) dinn360::simt::mma_m16n8k16(d, a, b);
  t.out.store(i, d[0]);
}

__global__ void ldmatrix_race(Test t) {
  DINN360_SHARED(__half, tile, 2 * 32 * 8);
  int const i = threadIdx.x;
  for (int k = 0; k < 8; ++k) tile.store(i * 8 + k, __float2half(1.0f));
  if (!t.broken) __syncwarp();
  uint32_t r[4];
  dinn360::simt::ldmatrix_x4(r, tile, i * 8);
  t.out.store(i, __half2float(__ushort_as_half(static_cast<uint16_t>(r[0]))));
}

__global__ void float_to_int(Test t) {
  float const value = t.in.load(threadIdx.x) * (t.broken && threadIdx.x == 2 ? 1e12f : 1.0f);
  t.out.store(threadIdx.x, static_cast<float>(static_cast<int>(value)));
}

__global__ void integer_overflow(Test t) {
  int const i = static_cast<int>(t.in.load(threadIdx.x)) * (t.broken ? 1 << 26 : 2);
  t.out.store(threadIdx.x, static_cast<float>(i));
}

__global__ void local_bounds(Test t) {
  float registers[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  t.out.store(threadIdx.x, registers[t.broken ? static_cast<int>(t.in.load(threadIdx.x)) : 3]);
}

// Two blocks write the same element.
__global__ void blocks_collide(Test t) {
  t.out.store(threadIdx.x + (t.broken ? 0 : 32 * blockIdx.x), 1.0f);
  if (t.broken) t.out.store(32 + threadIdx.x, 1.0f);
}

__global__ void partly_written(Test t) {
  int const i = threadIdx.x;
  if (!t.broken || i != 9) t.out.store(i, 1.0f);
}

// Dynamic shared memory beyond 48 KiB wants an attribute of the kernel; the clean twin is <true>, which gets it.
template <bool allowed>
__global__ void large_dynamic(Test t) {
  t.out.store(threadIdx.x, 1.0f);
}

Entry const kEntries[] = {
    DINN360_TEST(copy_bounds, 2, 64, 0),
    DINN360_TEST(load_before_begin, 1, 64, 0),
    DINN360_TEST(other_tensor, 1, 64, 0),
    DINN360_TEST(store_to_input, 1, 64, 0),
    DINN360_TEST(null_pointer, 1, 64, 0),
    DINN360_TEST(misaligned_16, 1, 64, 0),
    DINN360_TEST(misaligned_shared, 1, 64, 0),
    DINN360_TEST(unwritten_scratch, 1, 64, 0),
    DINN360_TEST(shared_bounds, 1, 32, 0),
    DINN360_TEST(dynamic_bounds, 1, 32, 256),
    DINN360_TEST(shared_uninitialised, 1, 64, 0),
    DINN360_TEST(shared_from_the_last_block, 2, 32, 0),
    DINN360_TEST(read_after_write, 1, 64, 0),
    DINN360_TEST(write_after_read, 1, 64, 0),
    DINN360_TEST(write_after_many_reads, 1, 64, 0),
    DINN360_TEST(write_after_write, 1, 64, 0),
    DINN360_TEST(neighbours_in_a_word, 1, 64, 0),
    DINN360_TEST(warp_order, 1, 64, 0),
    DINN360_TEST(warp_order_across_warps, 1, 64, 0),
    DINN360_TEST(shuffle_is_no_fence, 1, 64, 0),
    DINN360_TEST(half_warp_order, 1, 64, 0),
    DINN360_TEST(barrier_after_exit, 1, 64, 0),
    DINN360_TEST(divergent_barriers, 1, 64, 0),
    DINN360_TEST(divergent_barrier_in_warp, 1, 64, 0),
    DINN360_TEST(shuffle_missing_lanes, 1, 64, 0),
    DINN360_TEST(shuffle_from_outside_the_mask, 1, 64, 0),
    DINN360_TEST(syncwarp_missing_lanes, 1, 64, 0),
    DINN360_TEST(mma_missing_lanes, 1, 64, 0),
    DINN360_TEST(ldmatrix_race, 1, 64, 0),
    DINN360_TEST(float_to_int, 1, 64, 0),
    DINN360_TEST(integer_overflow, 1, 64, 0),
    DINN360_TEST(local_bounds, 1, 64, 0),
    DINN360_TEST(blocks_collide, 2, 32, 0),
    DINN360_TEST(partly_written, 1, 64, 0),
    DINN360_TEST(large_dynamic<false>, 1, 64, 64 * 1024, large_dynamic<true>),
};

}  // namespace

std::span<Entry const> faults() { return kEntries; }

}  // namespace dinn360::self_test
