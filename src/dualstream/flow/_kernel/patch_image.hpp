// A frame as dense inverse search reads it.
#pragma once

#include "buffer.hpp"
#include "simd.hpp"

namespace dualstream::DUALSTREAM_ISA {

// Side of a patch in pixels.
constexpr int kPatch = 8;

// One size of a frame with a border of repeated edges, and its gradient (without border).
class PatchImage {
 public:
  static constexpr int kBorder = 2 * kPatch;

  int width = 0;
  int height = 0;

  // Takes over bytes (height, width), for set_half() only: without border and gradient.
  void set(const std::uint8_t* pixels, int height_, int width_) {
    reserve(height_, width_);
    for (int y = 0; y < height; ++y) {
      float* out = row(y);
      for (int x = 0; x < width; ++x) out[x] = *pixels++;
    }
  }

  // Half the size of `finer`: each pixel is the mean of four. An odd last row or column is left
  // out.
  void set_half(const PatchImage& finer) {
    reserve(finer.height / 2, finer.width / 2);
    for (int y = 0; y < height; ++y) {
      const float *above = finer.row(2 * y), *below = finer.row(2 * y + 1);
      float* out = row(y);
      for (int x = 0; x < width; ++x) {
        out[x] = 0.25f * ((above[2 * x] + above[2 * x + 1]) + (below[2 * x] + below[2 * x + 1]));
      }
    }
    extend();
    differentiate();
  }

  float* row(int y) const {
    return brightness_.data() + static_cast<std::size_t>(y + kBorder) * stride() + kBorder;
  }
  std::size_t stride() const { return static_cast<std::size_t>(width) + 2 * kBorder; }
  const float* slope_x(int y) const { return slopes_.data() + static_cast<std::size_t>(y) * width; }
  const float* slope_y(int y) const { return slope_x(y + height); }

 private:
  void reserve(int height_, int width_) {
    height = height_;
    width = width_;
    brightness_.reserve((height + 2 * static_cast<std::size_t>(kBorder)) * stride());
    slopes_.reserve(2 * static_cast<std::size_t>(height) * width);
  }

  void extend() {
    for (int y = 0; y < height; ++y) {
      float* line = row(y);
      for (int x = 1; x <= kBorder; ++x) {
        line[-x] = line[0];
        line[width - 1 + x] = line[width - 1];
      }
    }
    const std::size_t bytes = stride() * sizeof(float);
    for (int y = 1; y <= kBorder; ++y) {
      __builtin_memcpy(row(-y) - kBorder, row(0) - kBorder, bytes);
      __builtin_memcpy(row(height - 1 + y) - kBorder, row(height - 1) - kBorder, bytes);
    }
  }

  // Sobel: differences of the neighbours on either side, smoothed across by (1, 2, 1) / 4.
  void differentiate() {
    for (int y = 0; y < height; ++y) {
      const float *here = row(y), *above = row(y - 1), *below = row(y + 1);
      float* along_x = slopes_.data() + static_cast<std::size_t>(y) * width;
      float* along_y = along_x + static_cast<std::size_t>(height) * width;
      for (int x = 0; x < width; ++x) {
        along_x[x] = 0.25f * (here[x + 1] - here[x - 1]) +
                     0.125f * ((above[x + 1] - above[x - 1]) + (below[x + 1] - below[x - 1]));
        along_y[x] = 0.25f * (below[x] - above[x]) +
                     0.125f * ((below[x - 1] - above[x - 1]) + (below[x + 1] - above[x + 1]));
      }
    }
  }

  Buffer brightness_;
  Buffer slopes_;
};

}  // namespace dualstream::DUALSTREAM_ISA
