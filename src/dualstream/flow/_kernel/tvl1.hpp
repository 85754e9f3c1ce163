// TV-L1 on an image pyramid, coarse to fine.
#pragma once

#include "buffer.hpp"
#include "image.hpp"
#include "kernel.hpp"
#include "level.hpp"
#include "resize.hpp"

namespace dualstream::DUALSTREAM_ISA {

constexpr int kSmallestLevelPx = 16;

class TVL1 {
 public:
  // A frame at every size of the pyramid.
  struct Frame {
    int levels = 0;
    Image images[kMostScales];
  };

  explicit TVL1(const TVL1Options& options) : options_(options) {}

  void set(Frame& frame, const std::uint8_t* pixels, int height, int width) {
    float* finest = planes_[0].reserve(static_cast<std::size_t>(height) * width);
    for (std::size_t i = 0; i < static_cast<std::size_t>(height) * width; ++i) {
      finest[i] = pixels[i];
    }
    frame.images[0].set(finest, width, Grid(width, height));
    frame.levels = 1;
    // The ratio is that of the step, not of the rounded sizes: pixel centres lie 1 / step apart.
    const float ratio = 1.0f / options_.scale_step;
    const float* larger_plane = finest;
    while (frame.levels < options_.scales) {
      const Grid size(scaled(width), scaled(height));
      if (smaller(size.width, size.height) < kSmallestLevelPx) break;
      float* plane = planes_[frame.levels % 2].reserve(area(size));
      resize({larger_plane, height, width}, ratio, ratio, 1.0f, {plane, size.height, size.width},
             scratch_);
      frame.images[frame.levels++].set(plane, size.width, size);
      larger_plane = plane;
      height = size.height;
      width = size.width;
    }
  }

  // flow: (2, height, width) pixels.
  void solve(const Frame& first, const Frame& second, float* flow) {
    const float* coarser = nullptr;
    for (int level = first.levels - 1; level >= 0; --level) {
      const Grid& grid = first.images[level].grid;
      float* fine = level == 0 ? flow : flows_[level % 2].reserve(2 * area(grid));
      if (coarser == nullptr) {
        __builtin_memset(fine, 0, 2 * area(grid) * sizeof(float));
      } else {
        enlarge_flow(coarser, first.images[level + 1].grid, 1.0f / options_.scale_step, fine, grid);
      }
      solver_.solve(first.images[level], second.images[level], nullptr, options_.energy,
                    options_.schedule, fine);
      coarser = fine;
    }
  }

 private:
  // Rounded, halves to the even neighbour.
  int scaled(int size) const {
    return static_cast<int>(
        __builtin_nearbyintf(static_cast<float>(size) * options_.scale_step));
  }

  void enlarge_flow(const float* from, const Grid& from_size, float factor, float* to,
                    const Grid& to_size) {
    const float ratio_y = static_cast<float>(from_size.height) / to_size.height;
    const float ratio_x = static_cast<float>(from_size.width) / to_size.width;
    for (int c = 0; c < 2; ++c) {
      resize({from + c * area(from_size), from_size.height, from_size.width}, ratio_y, ratio_x,
             factor, {to + c * area(to_size), to_size.height, to_size.width}, scratch_);
    }
  }

  TVL1Options options_;
  LevelSolver solver_;
  Buffer planes_[2];
  Buffer flows_[2];
  Buffer scratch_;
};

}  // namespace dualstream::DUALSTREAM_ISA
