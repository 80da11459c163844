// Kernels for tests/test_emulator.py: each fault that the emulator must find, beside its clean twin (`broken` chooses),
// access patterns whose counts are known, and the matrix instructions.
#include <vector>

#include "../kernels/simt.cuh"
#include "machine.h"

namespace {

using dinn360::simt::Global;
using dinn360::simt::Shared;

struct Test {
  Global<float const> in;
  Global<float> out;
  Global<float> scratch;
  int count;    // elements of `in` and `out`
  bool broken;  // with the fault?
};

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
  if (t.broken) __syncwarp();
  else __syncthreads();
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
__global__ void large_dynamic(Test t) { t.out.store(threadIdx.x, 1.0f); }

// ---- patterns with known counts: one warp, or as said

__global__ void coalesced(Test t) { t.out.store(threadIdx.x, t.in.load(threadIdx.x)); }
__global__ void stride_two(Test t) { t.out.store(threadIdx.x, t.in.load(2 * threadIdx.x)); }
__global__ void one_element(Test t) { t.out.store(threadIdx.x, t.in.load(0)); }
__global__ void vectors(Test t) { t.out.store16(4 * threadIdx.x, t.in.load16(4 * threadIdx.x)); }
__global__ void scattered(Test t) { t.out.store(threadIdx.x, t.in.load(8 * threadIdx.x)); }
__global__ void loaded_twice(Test t) {
  float sum = 0.0f;
  for (int k = 0; k < 2; ++k) sum += t.in.load(threadIdx.x);  // both blocks load the same
  t.out.store(blockIdx.x * blockDim.x + threadIdx.x, sum);
}

// Only the shared load differs: its words are `factor` apart.
template <int factor>
__global__ void shared_stride(Test t) {
  DINN360_SHARED(float, tile, 32 * 32);
  for (int k = 0; k < 32; ++k) tile.store(32 * k + threadIdx.x, 1.0f);
  __syncwarp();
  t.out.store(threadIdx.x, tile.load(factor * threadIdx.x));
}

// 16 bytes a lane, rows of `words` words: 4 is dense, 32 has all rows in the same banks.
template <int words>
__global__ void shared_rows(Test t) {
  DINN360_SHARED(float, tile, 32 * 36);
  for (int k = 0; k < 36; ++k) tile.store(32 * k + threadIdx.x, 1.0f);
  __syncwarp();
  t.out.store(threadIdx.x, __uint_as_float(tile.load16(words * threadIdx.x).x));
}

// ldmatrix of four 8x8 matrices in rows of `halves` halves.
template <int halves>
__global__ void matrix_rows(Test t) {
  DINN360_SHARED(__half, tile, 32 * 72);
  for (int k = 0; k < 72; ++k) tile.store(32 * k + threadIdx.x, __float2half(1.0f));
  __syncwarp();
  uint32_t r[4];
  dinn360::simt::ldmatrix_x4(r, tile, halves * threadIdx.x);
  t.out.store(threadIdx.x, __half2float(__ushort_as_half(static_cast<uint16_t>(r[3]))));
}

// ---- arithmetic

// out (16,8) += in: a (16,16), b (16,8), as fp16, through ldmatrix: a as it lies, b transposed.
__global__ void matrix_product(Test t) {
  DINN360_SHARED(__half, a, 16 * 24);
  DINN360_SHARED(__half, b, 16 * 8 * 2);
  int const lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) a.store(i / 16 * 24 + i % 16, __float2half_rn(t.in.load(i)));
  for (int i = lane; i < 128; i += 32) {
    b.store(i, __float2half_rn(t.in.load(256 + i)));
    b.store(128 + i, __float2half_rn(0.0f));
  }
  __syncthreads();
  uint32_t fragment_a[4], fragments_b[4];
  dinn360::simt::ldmatrix_x4(fragment_a, a, lane % 16 * 24 + lane / 16 * 8);
  dinn360::simt::ldmatrix_x4_transposed(fragments_b, b, lane * 8);
  uint32_t const fragment_b[2] = {fragments_b[0], fragments_b[1]};
  int const row = lane / 4, column = lane % 4 * 2;
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = t.in.load(384 + (row + i / 2 * 8) * 8 + column + i % 2);
  dinn360::simt::mma_m16n8k16(d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) t.out.store((row + i / 2 * 8) * 8 + column + i % 2, d[i]);
}

// The same product with fragments filled by the PTX ISA's table, element by element.
__global__ void matrix_product_by_table(Test t) {
  int const group = threadIdx.x / 4, pair = threadIdx.x % 4;
  auto const halves = [&](int first, int second) {
    return static_cast<uint32_t>(__half_as_ushort(__float2half_rn(t.in.load(first)))) |
           static_cast<uint32_t>(__half_as_ushort(__float2half_rn(t.in.load(second)))) << 16;
  };
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) {  // a0 a1: (group, 2 pair); a2 a3: 8 rows down; a4 a5: 8 columns on; a6 a7: both
    int const at = (group + (i & 1) * 8) * 16 + pair * 2 + (i >> 1) * 8;
    a[i] = halves(at, at + 1);
  }
  for (int i = 0; i < 2; ++i) {  // b0 b1: (k = 2 pair, n = group); b2 b3: k + 8
    int const at = 256 + (pair * 2 + i * 8) * 8 + group;
    b[i] = halves(at, at + 8);
  }
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = t.in.load(384 + (group + i / 2 * 8) * 8 + pair * 2 + i % 2);
  dinn360::simt::mma_m16n8k16(d, a, b);
  for (int i = 0; i < 4; ++i) t.out.store((group + i / 2 * 8) * 8 + pair * 2 + i % 2, d[i]);
}

// Sum of all of a block, by shuffles and shared memory.
__global__ void block_sum(Test t) {
  DINN360_SHARED(float, sums, 32);
  int const i = threadIdx.x, warp = i / 32;
  float sum = t.in.load(blockIdx.x * blockDim.x + i);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
  if (i % 32 == 0) sums.store(warp, sum);
  __syncthreads();
  if (i == 0) {
    for (int other = 1; other < static_cast<int>(blockDim.x) / 32; ++other) sum += sums.load(other);
    t.out.store(blockIdx.x, sum);
  }
}

// out[i] = in[i] rounded to fp16; and every shuffle once: out is also what each returned, 32 lanes each.
__global__ void round_to_half(Test t) {
  int const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < t.count) t.out.store(i, __half2float(__float2half_rn(t.in.load(i))));
}
__global__ void shuffles(Test t) {
  int const lane = threadIdx.x;
  uint32_t const all = 0xffffffffu;
  int const results[8] = {
      __shfl_sync(all, lane, 5),         __shfl_sync(all, lane, lane + 1, 8), __shfl_xor_sync(all, lane, 3),
      __shfl_up_sync(all, lane, 2),      __shfl_down_sync(all, lane, 4),      __shfl_down_sync(all, lane, 1, 4),
      static_cast<int>(__ballot_sync(all, lane % 4 == 0) & 0xffffu),
      __any_sync(all, lane == 9) + __all_sync(all, lane < 31),
  };
  for (int k = 0; k < 8; ++k) t.out.store(32 * k + lane, static_cast<float>(results[k]));
}

struct Entry {
  char const* name;
  void (*kernel)(Test);
  int blocks, threads;
  size_t dynamic_bytes;
};

Entry const kEntries[] = {
#define DINN360_TEST(name, ...) {#name, name, __VA_ARGS__}
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
    DINN360_TEST(large_dynamic<false>, 1, 64, 64 * 1024),
    DINN360_TEST(coalesced, 1, 32, 0),
    DINN360_TEST(stride_two, 1, 32, 0),
    DINN360_TEST(one_element, 1, 32, 0),
    DINN360_TEST(vectors, 1, 32, 0),
    DINN360_TEST(scattered, 1, 32, 0),
    DINN360_TEST(loaded_twice, 2, 32, 0),
    DINN360_TEST(shared_stride<0>, 1, 32, 0),
    DINN360_TEST(shared_stride<1>, 1, 32, 0),
    DINN360_TEST(shared_stride<2>, 1, 32, 0),
    DINN360_TEST(shared_stride<31>, 1, 32, 0),
    DINN360_TEST(shared_stride<32>, 1, 32, 0),
    DINN360_TEST(shared_rows<4>, 1, 32, 0),
    DINN360_TEST(shared_rows<8>, 1, 32, 0),
    DINN360_TEST(shared_rows<32>, 1, 32, 0),
    DINN360_TEST(shared_rows<36>, 1, 32, 0),
    DINN360_TEST(matrix_rows<8>, 1, 32, 0),
    DINN360_TEST(matrix_rows<64>, 1, 32, 0),
    DINN360_TEST(matrix_rows<72>, 1, 32, 0),
    DINN360_TEST(matrix_product, 1, 32, 0),
    DINN360_TEST(matrix_product_by_table, 1, 32, 0),
    DINN360_TEST(block_sum, 4, 256, 0),
    DINN360_TEST(round_to_half, 0, 256, 0),
    DINN360_TEST(shuffles, 1, 32, 0),
#undef DINN360_TEST
};

}  // namespace

// Runs the kernel of that name on in (in_count), out (out_count) and a scratch of 1024 floats, and checks that out is
// wholly written if `whole`. Returns null, or a message if there is no such kernel.
extern "C" __attribute__((visibility("default"))) char const* dinn360_emulator_self_test(
    char const* name, int broken, float const* in, int in_count, float* out, int out_count, int whole,
    dinn360::EmulatorReport* report) {
  for (Entry const& entry : kEntries) {
    if (std::strcmp(entry.name, name) != 0) continue;
    std::vector<float> scratch(1024);
    dinn360::simt::begin_session(
        {
            {"in", const_cast<float*>(in), sizeof(float) * in_count, false},
            {"out", out, sizeof(float) * out_count, true},
            {"scratch", scratch.data(), sizeof(float) * scratch.size(), true},
        },
        report);
    Test const test{{in}, {out}, {scratch.data()}, out_count, broken != 0};
    int const blocks = entry.blocks > 0 ? entry.blocks : (out_count + entry.threads - 1) / entry.threads;
    auto kernel = entry.kernel;
    if (kernel == large_dynamic<false> && !broken) {
      kernel = large_dynamic<true>;
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(entry.dynamic_bytes));
    }
    dinn360::simt::launch(entry.name, kernel, blocks, entry.threads, entry.dynamic_bytes, test);
    dinn360::simt::end_session(whole ? "out" : nullptr);
    return nullptr;
  }
  return "no such kernel";
}
