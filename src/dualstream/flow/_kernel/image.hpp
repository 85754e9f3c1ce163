// One size of a frame, in the two forms that the solver reads it in.
#pragma once

#include "buffer.hpp"
#include "simd.hpp"
#include "striped.hpp"

namespace dualstream::DUALSTREAM_ISA {

// Brightness I in 0..255 and its centred gradient (Ix, Iy), edges repeated.
class Image {
 public:
  // Striped cells of (I, Ix, Iy): how the first image of a pair is read.
  static constexpr int kCellFloats = 3 * kLanes;
  // Row-major pixels of (I, Ix, Iy, 0): how the second is sampled anywhere.
  static constexpr int kPixelFloats = 4;

  Grid grid{1, 1};

  // Takes over brightness whose rows are `stride` floats apart.
  void set(const float* brightness, std::size_t stride, const Grid& size) {
    grid = size;
    const int width = grid.width, height = grid.height;
    striped_.reserve(static_cast<std::size_t>(height) * grid.cells * kCellFloats);
    packed_.reserve(static_cast<std::size_t>(height + 1) * (width + 1) * kPixelFloats);
    float* slopes = scratch_.reserve(2 * static_cast<std::size_t>(width));
    float *along_x = slopes, *along_y = slopes + width;
    for (int y = 0; y < height; ++y) {
      const auto at = [&](int other) {
        return brightness + larger(0, smaller(other, height - 1)) * stride;
      };
      const float *here = at(y), *above = at(y - 1), *below = at(y + 1);
      for (int x = 0; x < width; ++x) along_y[x] = 0.5f * (below[x] - above[x]);
      for (int x = 1; x < width - 1; ++x) along_x[x] = 0.5f * (here[x + 1] - here[x - 1]);
      along_x[0] = 0.5f * (here[smaller(1, width - 1)] - here[0]);
      along_x[width - 1] = 0.5f * (here[width - 1] - here[larger(0, width - 2)]);
      float* cells = striped_.data() + static_cast<std::size_t>(y) * grid.cells * kCellFloats;
      stripe_row(grid, here, cells, kCellFloats, 1.0f);
      stripe_row(grid, along_x, cells + kLanes, kCellFloats, 1.0f);
      stripe_row(grid, along_y, cells + 2 * kLanes, kCellFloats, 1.0f);
      pack_row(here, along_x, along_y, pixel(y));
    }
    // The margin below is read with weight 0.
    __builtin_memcpy(pixel(height), pixel(height - 1), pixel_row_floats() * sizeof(float));
  }

  const float* striped_row(int y) const {
    return striped_.data() + static_cast<std::size_t>(y) * grid.cells * kCellFloats;
  }
  // Pixel (0, y); rows are pixel_row_floats() apart and have one pixel of margin on the right.
  float* pixel(int y) const { return packed_.data() + y * pixel_row_floats(); }
  std::size_t pixel_row_floats() const {
    return static_cast<std::size_t>(grid.width + 1) * kPixelFloats;
  }

 private:
  void pack_row(const float* value, const float* along_x, const float* along_y, float* to) const {
    for (int x = 0; x < grid.width; ++x) {
      const Vec4 pixel = {value[x], along_x[x], along_y[x], 0.0f};
      *reinterpret_cast<LooseVec4*>(to + x * kPixelFloats) = pixel;
    }
    const float* last = to + (grid.width - 1) * kPixelFloats;
    __builtin_memcpy(to + grid.width * kPixelFloats, last, kPixelFloats * sizeof(float));
  }

  Buffer striped_;
  Buffer packed_;
  Buffer scratch_;
};

}  // namespace dualstream::DUALSTREAM_ISA
