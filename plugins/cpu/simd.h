// Vectors of floats for the instruction set that this file is compiled for, and what differs between them.
//
// kernels.cpp is compiled once for each instruction set, into a namespace of its own (DINN360_CPU_SET). What it
// includes uses no inline function of the standard library: the linker would keep one copy of it, perhaps the AVX-512
// one, for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(DINN360_CPU_PORTABLE)
#elif defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// A loop over registers must disappear, or the array it runs over goes to memory; a loop around such loops must stay,
// or loads of later turns take the registers.
#if defined(__clang__)
#define DINN360_UNROLL _Pragma("clang loop unroll(full)")
#define DINN360_ROLL _Pragma("clang loop unroll(disable)")
#else
#define DINN360_UNROLL _Pragma("GCC unroll 16")
#define DINN360_ROLL _Pragma("GCC unroll 1")
#endif

namespace dinn360::cpu::DINN360_CPU_SET {

// The tiles fit the registers: 32 of them, or 16 with AVX2 and in what a compiler makes of the portable form.
#if defined(DINN360_CPU_PORTABLE)
constexpr int kLanes = 4, kTilePixels = 4, kTileVectors = 2, kTileKeys = 4, kTileQueries = 2;
#elif defined(__AVX512F__)
constexpr int kLanes = 16, kTilePixels = 12, kTileVectors = 2, kTileKeys = 8, kTileQueries = 2;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kTilePixels = 6, kTileVectors = 2, kTileKeys = 4, kTileQueries = 2;
#else
constexpr int kLanes = 4, kTilePixels = 6, kTileVectors = 4, kTileKeys = 4, kTileQueries = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntVec __attribute__((vector_size(4 * kLanes)));
typedef float Vec4 __attribute__((vector_size(16)));
typedef float Vec8 __attribute__((vector_size(32)));
typedef int32_t IntVec8 __attribute__((vector_size(32)));

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

constexpr int64_t kLineFloats = 16;  // of a cache line

// How many bytes of its cache line come before `address`.
inline int64_t line_offset(void const* address) {
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(address) % (sizeof(float) * kLineFloats));
}

struct Half {
  uint16_t bits;
};

template <class V, class T>
inline V load_bits(T const* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof(V));
  return value;
}

template <class V, class T>
inline void store_bits(T* to, V value) {
  __builtin_memcpy(to, &value, sizeof(V));
}

inline float to_float(float value) { return value; }

inline float to_float(Half value) {
  uint32_t const sign = uint32_t{value.bits} >> 15 << 31, rest = value.bits & 0x7fffu;
  uint32_t const shifted = rest << 13;
  float const scaled = load_bits<float>(&shifted) * 0x1p112f;  // subnormals come right, too
  uint32_t const bits = load_bits<uint32_t>(&scaled) | (rest >= 0x7c00u ? 0x7f800000u : 0u) | sign;
  return load_bits<float>(&bits);
}

inline void convert(float value, float* to) { *to = value; }

inline void convert(float value, Half* to) {  // to nearest, ties to even
  uint32_t bits = load_bits<uint32_t>(&value);
  uint32_t const sign = bits >> 31 << 15;
  bits &= 0x7fffffffu;
  uint32_t half;
  if (bits > 0x7f800000u) {
    half = 0x7e00u;
  } else if (bits >= 0x477ff000u) {  // rounds to 65520 or more
    half = 0x7c00u;
  } else if (bits < 0x38800000u) {  // below 2^-14: the sum with 1/2 has half's subnormal step as its own
    float const sum = load_bits<float>(&bits) + 0.5f;
    half = load_bits<uint32_t>(&sum) - 0x3f000000u;
  } else {
    half = (bits - 0x38000000u + 0xfffu + (bits >> 13 & 1u)) >> 13;
  }
  to->bits = static_cast<uint16_t>(half | sign);
}

template <class V>
inline V widen(Half const* from) {
  V value;
  for (size_t i = 0; i < sizeof(V) / sizeof(float); ++i) value[i] = to_float(from[i]);
  return value;
}

template <class V>
inline void narrow(Half* to, V value) {
  for (size_t i = 0; i < sizeof(V) / sizeof(float); ++i) convert(value[i], to + i);
}

#if defined(DINN360_CPU_PORTABLE)

inline Vec broadcast(float value) { return Vec{value, value, value, value}; }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }

#elif defined(__AVX2__)

template <>
inline Vec4 widen<Vec4>(Half const* from) {
  return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<__m128i const*>(from)));
}
template <>
inline Vec8 widen<Vec8>(Half const* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<__m128i const*>(from)));
}
template <>
inline void narrow<Vec4>(Half* to, Vec4 value) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}
template <>
inline void narrow<Vec8>(Half* to, Vec8 value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

#if defined(__AVX512F__)  // masks of ones: GCC 12 warns of its own unmasked forms
template <>
inline Vec widen<Vec>(Half const* from) {
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<__m256i const*>(from)));
}
template <>
inline void narrow<Vec>(Half* to, Vec value) {
  __m256i const halves = _mm512_maskz_cvtps_ph(0xffff, value, _MM_FROUND_TO_NEAREST_INT);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves);
}
inline Vec broadcast(float value) { return _mm512_set1_ps(value); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
#else
inline Vec broadcast(float value) { return _mm256_set1_ps(value); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
#endif

#else  // NEON

template <>
inline Vec4 widen<Vec4>(Half const* from) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&from->bits)));
}
template <>
inline void narrow<Vec4>(Half* to, Vec4 value) {
  vst1_u16(&to->bits, vreinterpret_u16_f16(vcvt_f16_f32(value)));
}
inline Vec broadcast(float value) { return vdupq_n_f32(value); }
inline Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }

#endif

template <class V>
inline V load(float const* from) {
  return load_bits<V>(from);
}
template <class V>
inline V load(Half const* from) {
  return widen<V>(from);
}
template <class V>
inline void store(float* to, V value) {
  store_bits(to, value);
}
template <class V>
inline void store(Half* to, V value) {
  narrow(to, value);
}

#if !defined(DINN360_CPU_PORTABLE) && defined(__AVX2__)
constexpr bool kHasStreams = true;
#else
constexpr bool kHasStreams = false;
#endif

// Past the caches, where there is an instruction for it: for whole cache lines that are not read again soon. `to` is as
// aligned as a Vec is long. Before another thread may read them, this one calls finish_streams().
inline void stream(float* to, Vec value) {
#if !defined(DINN360_CPU_PORTABLE) && defined(__AVX512F__)
  _mm512_stream_ps(to, value);
#elif !defined(DINN360_CPU_PORTABLE) && defined(__AVX2__)
  _mm256_stream_ps(to, value);
#else
  store(to, value);
#endif
}
inline void stream(Half* to, Vec value) { store(to, value); }

// Whether `count` results, `floats` of them in rows of `width`, are written so: no cache would hold them until they are
// read, and their rows are whole lines.
inline bool no_cache_holds(float* const* results, int64_t count, int64_t width, int64_t floats) {
  constexpr int64_t kCachedFloats = 4 << 20;
  if (!kHasStreams || width % kLineFloats != 0 || floats <= kCachedFloats) return false;
  for (int64_t i = 0; i < count; ++i) {
    if (line_offset(results[i]) != 0) return false;
  }
  return true;
}

inline void finish_streams() {
#if !defined(DINN360_CPU_PORTABLE) && defined(__AVX2__)
  _mm_sfence();
#endif
}

// `count` elements, zeros beyond them.
template <class V, class T>
inline V load_first(T const* from, int64_t count) {
  constexpr int64_t kSize = sizeof(V) / sizeof(float);
  if (count >= kSize) return load<V>(from);
  V value{};
  for (int64_t i = 0; i < count; ++i) value[i] = to_float(from[i]);
  return value;
}

template <class V, class T>
inline void store_first(T* to, V value, int64_t count) {
  constexpr int64_t kSize = sizeof(V) / sizeof(float);
  if (count >= kSize) return store(to, value);
  for (int64_t i = 0; i < count; ++i) convert(value[i], to + i);
}

// The larger one; b where they cannot be compared.
inline Vec larger(Vec a, Vec b) {
#if !defined(DINN360_CPU_PORTABLE) && defined(__AVX512F__)
  return _mm512_mask_max_ps(a, 0xffff, a, b);
#elif !defined(DINN360_CPU_PORTABLE) && defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// Whether a comparison is true anywhere.
inline bool any(IntVec comparison) {
#if defined(DINN360_CPU_PORTABLE)
  return (comparison[0] | comparison[1] | comparison[2] | comparison[3]) != 0;
#elif defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)comparison, (__m512i)comparison) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)comparison) != 0;
#else
  return vmaxvq_u32((uint32x4_t)comparison) != 0;
#endif
}

// The sum of all lanes.
#if defined(DINN360_CPU_PORTABLE) || !defined(__AVX2__)
inline float sum_of(Vec4 value) { return (value[0] + value[2]) + (value[1] + value[3]); }
#else
inline float sum_of(Vec8 value) {
  Vec4 const four = _mm256_castps256_ps128(value) + _mm256_extractf128_ps(value, 1);
  return (four[0] + four[2]) + (four[1] + four[3]);
}
#if defined(__AVX512F__)
inline float sum_of(Vec value) {
  return sum_of(_mm512_maskz_extractf32x8_ps(0xff, value, 0) + _mm512_maskz_extractf32x8_ps(0xff, value, 1));
}
#endif
#endif

// |value| < 2^31.
inline IntVec floor_to_int(Vec value) {
  IntVec const toward_zero = __builtin_convertvector(value, IntVec);
  return toward_zero + (__builtin_convertvector(toward_zero, Vec) > value);  // a true comparison is -1
}

// 2^x for x <= 0 to 1e-7 of its value, not below 2^-126; NaN stays NaN.
inline Vec exp2_of_negative(Vec x) {
  Vec const kRound = broadcast(0x1.8p23f);  // in its binade the last bit is 1
  x = larger(broadcast(-126.f), x);
  Vec const shifted = x + kRound;
  Vec const rest = x - (shifted - kRound);
  Vec power = broadcast(0.001327647196000662f);
  power = fma(power, rest, broadcast(0.00967554150263839f));
  power = fma(power, rest, broadcast(0.05550713275064813f));
  power = fma(power, rest, broadcast(0.24022119720751314f));
  power = fma(power, rest, broadcast(0.6931469670628843f));
  power = fma(power, rest, broadcast(1.000000071655301f));
  IntVec const exponent = (load_bits<IntVec>(&shifted) << 23) + 0x3f800000;
  return power * load_bits<Vec>(&exponent);
}

// table[index] of 16 floats, index in [0, 16).
template <class T>
inline Vec8 lookup(T const* table, IntVec8 index) {
#if defined(DINN360_CPU_PORTABLE)
  Vec8 found;
  for (int i = 0; i < 8; ++i) found[i] = to_float(table[index[i]]);
  return found;
#elif defined(__AVX512F__)
  return _mm256_permutex2var_ps(load<Vec8>(table), (__m256i)index, load<Vec8>(table + 8));
#elif defined(__AVX2__)
  __m256i const lane = (__m256i)index;
  __m256 const low = _mm256_permutevar8x32_ps(load<Vec8>(table), lane);
  __m256 const high = _mm256_permutevar8x32_ps(load<Vec8>(table + 8), lane);
  return _mm256_blendv_ps(low, high, (__m256)(index << 28));  // bit 3 becomes the sign
#else
  uint8x16x4_t bytes;
  for (int i = 0; i < 4; ++i) bytes.val[i] = vreinterpretq_u8_f32(load<Vec4>(table + 4 * i));
  IntVec8 const place = index * 0x04040404 + 0x03020100;
  Vec4 const first = vreinterpretq_f32_u8(vqtbl4q_u8(bytes, load_bits<uint8x16_t>(&place)));
  Vec4 const second =
      vreinterpretq_f32_u8(vqtbl4q_u8(bytes, load_bits<uint8x16_t>(reinterpret_cast<int32_t const*>(&place) + 4)));
  return Vec8{first[0], first[1], first[2], first[3], second[0], second[1], second[2], second[3]};
#endif
}

#if defined(__clang__)
#define DINN360_SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t IntVec4 __attribute__((vector_size(16)));
#define DINN360_SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, IntVec4{i, j, k, l})
#endif

// Rows become columns.
inline void transpose(Vec4 (&block)[4]) {
  Vec4 const a = DINN360_SHUFFLE4(block[0], block[1], 0, 4, 1, 5), b = DINN360_SHUFFLE4(block[0], block[1], 2, 6, 3, 7);
  Vec4 const c = DINN360_SHUFFLE4(block[2], block[3], 0, 4, 1, 5), d = DINN360_SHUFFLE4(block[2], block[3], 2, 6, 3, 7);
  block[0] = DINN360_SHUFFLE4(a, c, 0, 1, 4, 5);
  block[1] = DINN360_SHUFFLE4(a, c, 2, 3, 6, 7);
  block[2] = DINN360_SHUFFLE4(b, d, 0, 1, 4, 5);
  block[3] = DINN360_SHUFFLE4(b, d, 2, 3, 6, 7);
}

// The same in each quarter (AVX-512) or half (AVX2) of a Vec, four lanes each.
inline void transpose_quarters(Vec (&block)[4]) {
#if !defined(DINN360_CPU_PORTABLE) && defined(__AVX512F__)
  Vec const a = _mm512_maskz_unpacklo_ps(0xffff, block[0], block[1]);
  Vec const b = _mm512_maskz_unpackhi_ps(0xffff, block[0], block[1]);
  Vec const c = _mm512_maskz_unpacklo_ps(0xffff, block[2], block[3]);
  Vec const d = _mm512_maskz_unpackhi_ps(0xffff, block[2], block[3]);
  block[0] = _mm512_maskz_shuffle_ps(0xffff, a, c, 0x44);
  block[1] = _mm512_maskz_shuffle_ps(0xffff, a, c, 0xee);
  block[2] = _mm512_maskz_shuffle_ps(0xffff, b, d, 0x44);
  block[3] = _mm512_maskz_shuffle_ps(0xffff, b, d, 0xee);
#elif !defined(DINN360_CPU_PORTABLE) && defined(__AVX2__)
  Vec const a = _mm256_unpacklo_ps(block[0], block[1]), b = _mm256_unpackhi_ps(block[0], block[1]);
  Vec const c = _mm256_unpacklo_ps(block[2], block[3]), d = _mm256_unpackhi_ps(block[2], block[3]);
  block[0] = _mm256_shuffle_ps(a, c, 0x44);
  block[1] = _mm256_shuffle_ps(a, c, 0xee);
  block[2] = _mm256_shuffle_ps(b, d, 0x44);
  block[3] = _mm256_shuffle_ps(b, d, 0xee);
#else
  transpose(block);
#endif
}

// Lane i of vector k becomes float 4i + k of the four vectors in a row; and the way back.
inline void interleave(Vec (&block)[4]) {
#if !defined(DINN360_CPU_PORTABLE) && defined(__AVX512F__)
  __m512i const low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  __m512i const high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  __m512i const low_pairs = _mm512_setr_epi32(0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
  __m512i const high_pairs = _mm512_add_epi32(low_pairs, _mm512_set1_epi32(8));
  Vec const a = _mm512_permutex2var_ps(block[0], low, block[1]), b = _mm512_permutex2var_ps(block[2], low, block[3]);
  Vec const c = _mm512_permutex2var_ps(block[0], high, block[1]), d = _mm512_permutex2var_ps(block[2], high, block[3]);
  block[0] = _mm512_permutex2var_ps(a, low_pairs, b);
  block[1] = _mm512_permutex2var_ps(a, high_pairs, b);
  block[2] = _mm512_permutex2var_ps(c, low_pairs, d);
  block[3] = _mm512_permutex2var_ps(c, high_pairs, d);
#elif !defined(DINN360_CPU_PORTABLE) && defined(__AVX2__)
  transpose_quarters(block);
  Vec const a = block[0], b = block[1], c = block[2], d = block[3];
  block[0] = _mm256_permute2f128_ps(a, b, 0x20);
  block[1] = _mm256_permute2f128_ps(c, d, 0x20);
  block[2] = _mm256_permute2f128_ps(a, b, 0x31);
  block[3] = _mm256_permute2f128_ps(c, d, 0x31);
#else
  transpose(block);
#endif
}

inline void deinterleave(Vec (&block)[4]) {
#if !defined(DINN360_CPU_PORTABLE) && defined(__AVX512F__)
  __m512i const even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  __m512i const odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  Vec const a = _mm512_permutex2var_ps(block[0], even, block[1]), b = _mm512_permutex2var_ps(block[2], even, block[3]);
  Vec const c = _mm512_permutex2var_ps(block[0], odd, block[1]), d = _mm512_permutex2var_ps(block[2], odd, block[3]);
  block[0] = _mm512_permutex2var_ps(a, even, b);
  block[1] = _mm512_permutex2var_ps(c, even, d);
  block[2] = _mm512_permutex2var_ps(a, odd, b);
  block[3] = _mm512_permutex2var_ps(c, odd, d);
#elif !defined(DINN360_CPU_PORTABLE) && defined(__AVX2__)
  Vec const a = block[0], b = block[1], c = block[2], d = block[3];
  block[0] = _mm256_permute2f128_ps(a, c, 0x20);
  block[1] = _mm256_permute2f128_ps(a, c, 0x31);
  block[2] = _mm256_permute2f128_ps(b, d, 0x20);
  block[3] = _mm256_permute2f128_ps(b, d, 0x31);
  transpose_quarters(block);
#else
  transpose(block);
#endif
}

// Four lanes after the other, `distance` floats apart.
inline void store_quarters(float* to, [[maybe_unused]] int64_t distance, Vec value) {
#if !defined(DINN360_CPU_PORTABLE) && defined(__AVX512F__)
  store<Vec4>(to, _mm512_maskz_extractf32x4_ps(0xf, value, 0));
  store<Vec4>(to + distance, _mm512_maskz_extractf32x4_ps(0xf, value, 1));
  store<Vec4>(to + 2 * distance, _mm512_maskz_extractf32x4_ps(0xf, value, 2));
  store<Vec4>(to + 3 * distance, _mm512_maskz_extractf32x4_ps(0xf, value, 3));
#elif !defined(DINN360_CPU_PORTABLE) && defined(__AVX2__)
  store<Vec4>(to, _mm256_castps256_ps128(value));
  store<Vec4>(to + distance, _mm256_extractf128_ps(value, 1));
#else
  store(to, value);
#endif
}

}  // namespace dinn360::cpu::DINN360_CPU_SET
