// Sampling an image between its pixels.
#pragma once

#include "image.hpp"
#include "simd.hpp"

namespace dualstream::DUALSTREAM_ISA {

// Brightness and gradient at kLanes places.
struct Samples {
  Vec value, along_x, along_y;
};

// (I, Ix, Iy, 0) of four pixels in every block of four lanes -> a vector each of I, Ix and Iy.
DUALSTREAM_INLINE Samples transposed(Vec a, Vec b, Vec c, Vec d) {
  const Vec ab = interleave_low(a, b), cd = interleave_low(c, d);
  return {pairs_low(ab, cd), pairs_high(ab, cd),
          pairs_low(interleave_high(a, b), interleave_high(c, d))};
}

// Pixels of one image row, and those to the right of them.
struct Neighbours {
  Samples left, right;
};

// Reads the pixels at offsets[lane] (in floats) after `base`, and their right neighbours.
DUALSTREAM_INLINE Neighbours neighbours(const float* base, const std::int32_t* offsets) {
#if defined(__AVX512F__)
  const auto two = [&](int lane) __attribute__((always_inline)) {
    return __builtin_shufflevector(load8(base + offsets[lane]), load8(base + offsets[lane + 4]), 0,
                                   1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  };
  // Blocks of four lanes: left 0-3, right 0-3, left 4-7, right 4-7; then the same of lanes 8-15.
  const Samples first = transposed(two(0), two(1), two(2), two(3));
  const Samples second = transposed(two(8), two(9), two(10), two(11));
  const auto left = [](Vec a, Vec b) __attribute__((always_inline)) {
    return static_cast<Vec>(_mm512_shuffle_f32x4(a, b, 0x88));
  };
  const auto right = [](Vec a, Vec b) __attribute__((always_inline)) {
    return static_cast<Vec>(_mm512_shuffle_f32x4(a, b, 0xdd));
  };
#elif defined(__AVX2__)
  const auto one = [&](int lane) __attribute__((always_inline)) {
    return load8(base + offsets[lane]);
  };
  const Samples first = transposed(one(0), one(1), one(2), one(3));
  const Samples second = transposed(one(4), one(5), one(6), one(7));
  const auto left = [](Vec a, Vec b) __attribute__((always_inline)) {
    return static_cast<Vec>(_mm256_permute2f128_ps(a, b, 0x20));
  };
  const auto right = [](Vec a, Vec b) __attribute__((always_inline)) {
    return static_cast<Vec>(_mm256_permute2f128_ps(a, b, 0x31));
  };
#else
  const auto at = [&](int lane, int pixel) __attribute__((always_inline)) {
    return load(base + offsets[lane] + pixel * Image::kPixelFloats);
  };
  return {transposed(at(0, 0), at(1, 0), at(2, 0), at(3, 0)),
          transposed(at(0, 1), at(1, 1), at(2, 1), at(3, 1))};
#endif
#if defined(__AVX2__)
  return {{left(first.value, second.value), left(first.along_x, second.along_x),
           left(first.along_y, second.along_y)},
          {right(first.value, second.value), right(first.along_x, second.along_x),
           right(first.along_y, second.along_y)}};
#endif
}

// Catmull-Rom interpolation between a and b, which are 1 apart and have slopes slope_a, slope_b.
DUALSTREAM_INLINE Vec cubic(Vec a, Vec b, Vec slope_a, Vec slope_b, Vec weight) {
  const Vec rise = b - a, rest = 1.0f - weight;
  const Vec bend = rest * (slope_a - rise) - weight * (slope_b - rise);
  return a + weight * (rise + rest * bend);
}

DUALSTREAM_INLINE Vec linear(Vec a, Vec b, Vec weight) { return a + weight * (b - a); }

// Samples of `image` at (x, y), which lie inside it: brightness by cubic interpolation with the
// slopes that every pixel carries, the gradient by linear interpolation.
DUALSTREAM_INLINE Samples sample(const Image& image, Vec x, Vec y) {
  const Vec left = floor(x), top = floor(y);
  const Vec wx = x - left, wy = y - top;
  const int row_floats = static_cast<int>(image.pixel_row_floats());
  const IntVec places = to_int(left) * Image::kPixelFloats + to_int(top) * row_floats;
  alignas(64) std::int32_t offsets[kLanes];
  __builtin_memcpy(offsets, &places, sizeof offsets);
  const Neighbours a = neighbours(image.pixel(0), offsets);
  const Neighbours b = neighbours(image.pixel(1), offsets);
  const auto between = [&](const Samples& above, const Samples& below)
                           __attribute__((always_inline)) {
    return Samples{cubic(above.value, below.value, above.along_y, below.along_y, wy),
                   linear(above.along_x, below.along_x, wy),
                   linear(above.along_y, below.along_y, wy)};
  };
  const Samples near = between(a.left, b.left), far = between(a.right, b.right);
  return {cubic(near.value, far.value, near.along_x, far.along_x, wx),
          linear(near.along_x, far.along_x, wx), linear(near.along_y, far.along_y, wx)};
}

}  // namespace dualstream::DUALSTREAM_ISA
