// TV-L1 at full size, started from dense inverse search on halves of it. At every size that is
// searched a few iterations of TV-L1 smooth what the patches found before the next size starts.
// The patches also tell how much brighter the second image became, which the data term allows for.
#pragma once

#include "dis.hpp"
#include "kernel.hpp"
#include "level.hpp"
#include "resize.hpp"

namespace dualstream::DUALSTREAM_ISA {

class TVL1Fast {
 public:
  // A frame at full size and at halves of it, for both methods.
  struct Frame {
    int levels = 0;
    PatchImage patches[kMostScales];
    Image images[kMostScales];
  };

  explicit TVL1Fast(const TVL1FastOptions& options) : options_(options), search_(options.dis) {}

  void set(Frame& frame, const std::uint8_t* pixels, int height, int width) {
    frame.patches[0].set(pixels, height, width);
    frame.levels = 1;
    const int smallest = larger(options_.dis.smallest_px, kPatch);
    while (frame.levels < kMostScales && smaller(height, width) / 2 >= smallest) {
      PatchImage& half = frame.patches[frame.levels];
      half.set_half(frame.patches[frame.levels - 1]);
      height = half.height;
      width = half.width;
      ++frame.levels;
    }
    for (int level = 0; level < frame.levels; ++level) {
      const PatchImage& source = frame.patches[level];
      frame.images[level].set(source.row(0), source.stride(), Grid(source.width, source.height));
    }
  }

  // flow: (2, height, width) pixels.
  void solve(const Frame& first, const Frame& second, float* flow) {
    Energy coarse_energy = options_.energy;
    coarse_energy.lambda = options_.coarse_lambda;
    const float* coarser = nullptr;
    for (int level = first.levels - 1; level > 0; --level) {
      const std::size_t pixels = area(first.images[level].grid);
      float* found = flows_[level % 2].reserve(3 * pixels);
      float* brightening = found + 2 * pixels;
      search_.solve(first.patches[level], second.patches[level], coarser, found, brightening);
      solver_.solve(first.images[level], second.images[level], brightening, coarse_energy,
                    options_.coarse_schedule, found);
      coarser = found;
    }
    const Grid& grid = first.images[0].grid;
    const float* brightening = nullptr;
    if (coarser == nullptr) {
      __builtin_memset(flow, 0, 2 * area(grid) * sizeof(float));
    } else {
      const Grid& half = first.images[1].grid;
      for (int c = 0; c < 2; ++c) {
        enlarge(coarser + c * area(half), half, 2.0f, flow + c * area(grid), grid);
      }
      float* fine = brightening_.reserve(area(grid));
      enlarge(coarser + 2 * area(half), half, 1.0f, fine, grid);
      brightening = fine;
    }
    solver_.solve(first.images[0], second.images[0], brightening, options_.energy,
                  options_.schedule, flow);
  }

 private:
  // Doubles the size of a plane, values times `factor`.
  void enlarge(const float* from, const Grid& from_size, float factor, float* to,
               const Grid& to_size) {
    double_size({from, from_size.height, from_size.width}, factor,
                {to, to_size.height, to_size.width}, scratch_);
  }

  TVL1FastOptions options_;
  InverseSearch search_;
  LevelSolver solver_;
  Buffer flows_[2];  // of two sizes: flow (2, height, width), then brightening (height, width)
  Buffer brightening_;
  Buffer scratch_;
};

}  // namespace dualstream::DUALSTREAM_ISA
