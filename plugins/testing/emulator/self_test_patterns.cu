// Access patterns whose counts are known, and arithmetic: the matrix instructions, sums, roundings, shuffles.
#include "self_test.h"

namespace dinn360::self_test {
namespace {

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
      __shfl_sync(all, lane, 5),
      __shfl_sync(all, lane, lane + 1, 8),
      __shfl_xor_sync(all, lane, 3),
      __shfl_up_sync(all, lane, 2),
      __shfl_down_sync(all, lane, 4),
      __shfl_down_sync(all, lane, 1, 4),
      static_cast<int>(__ballot_sync(all, lane % 4 == 0) & 0xffffu),
      __any_sync(all, lane == 9) + __all_sync(all, lane < 31),
  };
  for (int k = 0; k < 8; ++k) t.out.store(32 * k + lane, static_cast<float>(results[k]));
}

Entry const kEntries[] = {
    DINN360_TEST(coalesced, 1, 32, 0),         DINN360_TEST(stride_two, 1, 32, 0),
    DINN360_TEST(one_element, 1, 32, 0),       DINN360_TEST(vectors, 1, 32, 0),
    DINN360_TEST(scattered, 1, 32, 0),         DINN360_TEST(loaded_twice, 2, 32, 0),
    DINN360_TEST(shared_stride<0>, 1, 32, 0),  DINN360_TEST(shared_stride<1>, 1, 32, 0),
    DINN360_TEST(shared_stride<2>, 1, 32, 0),  DINN360_TEST(shared_stride<31>, 1, 32, 0),
    DINN360_TEST(shared_stride<32>, 1, 32, 0), DINN360_TEST(shared_rows<4>, 1, 32, 0),
    DINN360_TEST(shared_rows<8>, 1, 32, 0),    DINN360_TEST(shared_rows<32>, 1, 32, 0),
    DINN360_TEST(shared_rows<36>, 1, 32, 0),   DINN360_TEST(matrix_rows<8>, 1, 32, 0),
    DINN360_TEST(matrix_rows<64>, 1, 32, 0),   DINN360_TEST(matrix_rows<72>, 1, 32, 0),
    DINN360_TEST(matrix_product, 1, 32, 0),    DINN360_TEST(matrix_product_by_table, 1, 32, 0),
    DINN360_TEST(block_sum, 4, 256, 0),        DINN360_TEST(round_to_half, 0, 256, 0),
    DINN360_TEST(shuffles, 1, 32, 0),
};

}  // namespace

std::span<Entry const> patterns() { return kEntries; }

}  // namespace dinn360::self_test
