// Vectors of floats as wide as the processor that this file is compiled for.
//
// Everything here lies in a namespace of its own for each instruction set (DUALSTREAM_ISA), so
// that the linker never hands code for one processor to another. For the same reason nothing
// here uses inline functions of the standard library.
#pragma once

#include <cstdint>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifndef DUALSTREAM_ISA
#error "compile with -DDUALSTREAM_ISA=<name of the instruction set>"
#endif

#define DUALSTREAM_INLINE inline __attribute__((always_inline))

namespace dualstream::DUALSTREAM_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::int32_t IntVec __attribute__((vector_size(kLanes * sizeof(float))));
// Four and eight floats, at any address.
typedef float Vec4 __attribute__((vector_size(16)));
typedef float Vec8 __attribute__((vector_size(32)));
typedef float LooseVec __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));
typedef float LooseVec4 __attribute__((vector_size(16), aligned(4)));
typedef float LooseVec8 __attribute__((vector_size(32), aligned(4)));

DUALSTREAM_INLINE Vec broadcast(float value) { return value - Vec{}; }
DUALSTREAM_INLINE Vec load(const float* from) { return *reinterpret_cast<const LooseVec*>(from); }
DUALSTREAM_INLINE void store(float* to, Vec value) { *reinterpret_cast<LooseVec*>(to) = value; }
DUALSTREAM_INLINE Vec8 load8(const float* from) {
  return *reinterpret_cast<const LooseVec8*>(from);
}
DUALSTREAM_INLINE void add8(float* to, Vec8 value) {
  *reinterpret_cast<LooseVec8*>(to) = load8(to) + value;
}

DUALSTREAM_INLINE Vec select(IntVec where, Vec yes, Vec no) { return where ? yes : no; }

#if defined(__AVX512F__)
DUALSTREAM_INLINE Vec minimum(Vec a, Vec b) { return _mm512_min_ps(a, b); }
DUALSTREAM_INLINE Vec maximum(Vec a, Vec b) { return _mm512_max_ps(a, b); }
DUALSTREAM_INLINE Vec square_root(Vec a) { return _mm512_sqrt_ps(a); }
DUALSTREAM_INLINE Vec near_reciprocal(Vec a) { return _mm512_rcp14_ps(a); }
DUALSTREAM_INLINE Vec near_inverse_root(Vec a) { return _mm512_rsqrt14_ps(a); }
DUALSTREAM_INLINE Vec floor(Vec a) { return _mm512_floor_ps(a); }
DUALSTREAM_INLINE IntVec to_int(Vec a) { return reinterpret_cast<IntVec>(_mm512_cvttps_epi32(a)); }
#elif defined(__AVX2__)
DUALSTREAM_INLINE Vec minimum(Vec a, Vec b) { return _mm256_min_ps(a, b); }
DUALSTREAM_INLINE Vec maximum(Vec a, Vec b) { return _mm256_max_ps(a, b); }
DUALSTREAM_INLINE Vec square_root(Vec a) { return _mm256_sqrt_ps(a); }
DUALSTREAM_INLINE Vec near_reciprocal(Vec a) { return _mm256_rcp_ps(a); }
DUALSTREAM_INLINE Vec near_inverse_root(Vec a) { return _mm256_rsqrt_ps(a); }
DUALSTREAM_INLINE Vec floor(Vec a) { return _mm256_floor_ps(a); }
DUALSTREAM_INLINE IntVec to_int(Vec a) { return reinterpret_cast<IntVec>(_mm256_cvttps_epi32(a)); }
#else
DUALSTREAM_INLINE Vec minimum(Vec a, Vec b) { return select(a < b, a, b); }
DUALSTREAM_INLINE Vec maximum(Vec a, Vec b) { return select(a > b, a, b); }
DUALSTREAM_INLINE Vec square_root(Vec a) {
  for (int lane = 0; lane < kLanes; ++lane) a[lane] = __builtin_sqrtf(a[lane]);
  return a;
}
DUALSTREAM_INLINE Vec near_reciprocal(Vec a) { return 1.0f / a; }
DUALSTREAM_INLINE Vec near_inverse_root(Vec a) { return 1.0f / square_root(a); }
DUALSTREAM_INLINE IntVec to_int(Vec a) { return __builtin_convertvector(a, IntVec); }
DUALSTREAM_INLINE Vec floor(Vec a) {
  const Vec truncated = __builtin_convertvector(to_int(a), Vec);
  return select(truncated > a, truncated - 1.0f, truncated);
}
#endif

// 1 / sqrt(a) to about 22 bits.
DUALSTREAM_INLINE Vec inverse_root(Vec a) {
  const Vec guess = near_inverse_root(a);
  return guess * (1.5f - 0.5f * a * guess * guess);
}

DUALSTREAM_INLINE Vec clamp(Vec a, Vec low, Vec high) { return minimum(maximum(a, low), high); }

DUALSTREAM_INLINE Vec4 halved(Vec4 a) { return a; }
DUALSTREAM_INLINE Vec4 halved(Vec8 a) {
  return __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
}
#if defined(__AVX512F__)
DUALSTREAM_INLINE Vec4 halved(Vec a) {
  return halved(__builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7) +
                __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15));
}
#endif

// Sum of all lanes, halves added to halves.
DUALSTREAM_INLINE float sum(Vec a) {
  const Vec4 four = halved(a);
  const Vec4 two = four + __builtin_shufflevector(four, four, 2, 3, 0, 1);
  return two[0] + two[1];
}

// Lane l gets what lane l - 1 had; lane 0 gets `first`.
DUALSTREAM_INLINE Vec shift_up(Vec a, float first) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, broadcast(first), 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
                                 13, 14);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, broadcast(first), 8, 0, 1, 2, 3, 4, 5, 6);
#else
  return __builtin_shufflevector(a, broadcast(first), 4, 0, 1, 2);
#endif
}

// Lane l gets what lane l + 1 had; the last lane gets `last`.
DUALSTREAM_INLINE Vec shift_down(Vec a, float last) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, broadcast(last), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                                 15, 16);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, broadcast(last), 1, 2, 3, 4, 5, 6, 7, 8);
#else
  return __builtin_shufflevector(a, broadcast(last), 1, 2, 3, 4);
#endif
}

// Interleaving inside each block of four lanes: a0 b0 a1 b1, a2 b2 a3 b3, a0 a1 b0 b1, a2 a3 b2 b3.
#if defined(__AVX512F__)
DUALSTREAM_INLINE Vec interleave_low(Vec a, Vec b) { return _mm512_unpacklo_ps(a, b); }
DUALSTREAM_INLINE Vec interleave_high(Vec a, Vec b) { return _mm512_unpackhi_ps(a, b); }
DUALSTREAM_INLINE Vec pairs_low(Vec a, Vec b) { return _mm512_shuffle_ps(a, b, 0x44); }
DUALSTREAM_INLINE Vec pairs_high(Vec a, Vec b) { return _mm512_shuffle_ps(a, b, 0xee); }
#elif defined(__AVX2__)
DUALSTREAM_INLINE Vec interleave_low(Vec a, Vec b) { return _mm256_unpacklo_ps(a, b); }
DUALSTREAM_INLINE Vec interleave_high(Vec a, Vec b) { return _mm256_unpackhi_ps(a, b); }
DUALSTREAM_INLINE Vec pairs_low(Vec a, Vec b) { return _mm256_shuffle_ps(a, b, 0x44); }
DUALSTREAM_INLINE Vec pairs_high(Vec a, Vec b) { return _mm256_shuffle_ps(a, b, 0xee); }
#else
DUALSTREAM_INLINE Vec interleave_low(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
DUALSTREAM_INLINE Vec interleave_high(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
DUALSTREAM_INLINE Vec pairs_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 1, 4, 5); }
DUALSTREAM_INLINE Vec pairs_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, 2, 3, 6, 7); }
#endif

template <typename T>
DUALSTREAM_INLINE T smaller(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
DUALSTREAM_INLINE T larger(T a, T b) {
  return a > b ? a : b;
}

}  // namespace dualstream::DUALSTREAM_ISA
