// Flow as bytes: round(d * 127.5 / bound) + 128, clipped to 0..255; halves go to the even side.
#pragma once

#include <cstddef>

#include "simd.hpp"

namespace dualstream::DUALSTREAM_ISA {

typedef std::uint8_t ByteVec __attribute__((vector_size(kLanes)));

DUALSTREAM_INLINE ByteVec quantized(Vec steps) {
  // Adding 1.5 * 2^23 leaves no bits after the point.
  constexpr float kRound = 12582912.0f;
  const Vec rounded = (clamp(steps, broadcast(-128.0f), broadcast(127.0f)) + kRound) - kRound;
  return __builtin_convertvector(to_int(rounded + 128.0f), ByteVec);
}

inline void quantize(const float* flow, std::size_t count, float bound_px, std::uint8_t* bytes) {
  const float scale = static_cast<float>(127.5 / static_cast<double>(bound_px));
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const ByteVec out = quantized(load(flow + i) * scale);
    __builtin_memcpy(bytes + i, &out, kLanes);
  }
  if (i == count) return;
  Vec rest = {};
  for (std::size_t j = i; j < count; ++j) rest[j - i] = flow[j] * scale;
  const ByteVec out = quantized(rest);
  __builtin_memcpy(bytes + i, &out, count - i);
}

// Moves the mean of `count` values to zero.
inline void subtract_mean(float* values, std::size_t count) {
  double total = 0;
  for (std::size_t i = 0; i < count; ++i) total += static_cast<double>(values[i]);
  const float mean = static_cast<float>(total / static_cast<double>(count));
  for (std::size_t i = 0; i < count; ++i) values[i] -= mean;
}

}  // namespace dualstream::DUALSTREAM_ISA
