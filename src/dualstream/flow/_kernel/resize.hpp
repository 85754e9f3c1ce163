// Bilinear resizing of row-major planes, pixel centres at half-integers, edges repeated.
#pragma once

#include "buffer.hpp"
#include "simd.hpp"

namespace dualstream::DUALSTREAM_ISA {

// Where an output pixel reads: between source pixels low and low + 1 (or low again at the edge).
struct Tap {
  int low;
  int high;
  float weight;  // of `high`
};

// Output pixel `at` of an axis on which one output pixel spans `ratio` source pixels.
inline Tap tap(int at, float ratio, int source_size) {
  float position = (static_cast<float>(at) + 0.5f) * ratio - 0.5f;
  position = smaller(larger(position, 0.0f), static_cast<float>(source_size - 1));
  const int low = static_cast<int>(position);
  return {low, smaller(low + 1, source_size - 1), position - static_cast<float>(low)};
}

template <typename T>
struct Plane {
  T* pixels;
  int height;
  int width;
};

// Resizes `from` to the size of `to`, values times `factor`; one output pixel spans `ratio_y` by
// `ratio_x` source pixels.
inline void resize(Plane<const float> from, float ratio_y, float ratio_x, float factor,
                   Plane<float> to, Buffer& scratch) {
  // The two source rows mixed, and for each output pixel where it reads that row.
  const std::size_t taps = static_cast<std::size_t>(to.width);
  float* mixed = scratch.reserve(from.width + 3 * taps);
  float* weights = mixed + from.width;
  std::int32_t* lows = reinterpret_cast<std::int32_t*>(weights + taps);
  std::int32_t* highs = lows + taps;
  for (int x = 0; x < to.width; ++x) {
    const Tap t = tap(x, ratio_x, from.width);
    lows[x] = t.low;
    highs[x] = t.high;
    weights[x] = t.weight;
  }
  for (int y = 0; y < to.height; ++y) {
    const Tap t = tap(y, ratio_y, from.height);
    const float* low = from.pixels + static_cast<std::size_t>(t.low) * from.width;
    const float* high = from.pixels + static_cast<std::size_t>(t.high) * from.width;
    for (int x = 0; x < from.width; ++x) {
      mixed[x] = (low[x] + t.weight * (high[x] - low[x])) * factor;
    }
    float* out = to.pixels + y * taps;
    for (int x = 0; x < to.width; ++x) {
      const float left = mixed[lows[x]];
      out[x] = left + weights[x] * (mixed[highs[x]] - left);
    }
  }
}

// Twice the size of `from` (or one more, where edges repeat), values times `factor`: resize() with
// ratios of 1/2, whose weights are 1/4 and 3/4.
inline void double_size(Plane<const float> from, float factor, Plane<float> to, Buffer& scratch) {
  float* mixed = scratch.reserve(static_cast<std::size_t>(from.width) + 2) + 1;
  for (int y = 0; y < to.height; ++y) {
    const int near = smaller(y / 2, from.height - 1);
    const int far = larger(0, smaller(y % 2 ? y / 2 + 1 : y / 2 - 1, from.height - 1));
    const float* here = from.pixels + static_cast<std::size_t>(near) * from.width;
    const float* there = from.pixels + static_cast<std::size_t>(far) * from.width;
    for (int x = 0; x < from.width; ++x) {
      mixed[x] = (0.75f * here[x] + 0.25f * there[x]) * factor;
    }
    mixed[-1] = mixed[0];
    mixed[from.width] = mixed[from.width - 1];
    float* out = to.pixels + static_cast<std::size_t>(y) * to.width;
    for (int x = 0; x < from.width; ++x) {
      out[2 * x] = 0.75f * mixed[x] + 0.25f * mixed[x - 1];
      out[2 * x + 1] = 0.75f * mixed[x] + 0.25f * mixed[x + 1];
    }
    if (to.width > 2 * from.width) out[to.width - 1] = mixed[from.width];
  }
}

}  // namespace dualstream::DUALSTREAM_ISA
