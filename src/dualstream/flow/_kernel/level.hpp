// TV-L1 on one image size.
#pragma once

#include "buffer.hpp"
#include "image.hpp"
#include "iterate.hpp"
#include "kernel.hpp"
#include "median.hpp"
#include "warp.hpp"

namespace dualstream::DUALSTREAM_ISA {

// Row-major flow (2, height, width) in pixels.
DUALSTREAM_INLINE std::size_t area(const Grid& grid) {
  return static_cast<std::size_t>(grid.width) * grid.height;
}

// Minimises the energy of one image size after the other; its memory is reused.
class LevelSolver {
 public:
  // Improves `flow` in place. `brightening` (height, width) is how much brighter the second image
  // is expected to be along the flow; null means not at all.
  void solve(const Image& first, const Image& second, const float* brightening,
             const Energy& energy, const Schedule& schedule, float* flow) {
    const Grid& grid = first.grid;
    const Field field(grid, memory_.reserve(Field::floats(grid)));
    const float scale = energy.tau / energy.theta;
    for (int y = 0; y < grid.height; ++y) {
      const std::size_t start = static_cast<std::size_t>(y) * grid.width;
      stripe_row(grid, flow + start, field.at(y, kU1), Field::kCellFloats, scale);
      stripe_row(grid, flow + area(grid) + start, field.at(y, kU2), Field::kCellFloats, scale);
    }
    const float* striped = brightening == nullptr ? nullptr : stripe(brightening, grid);
    for (int warp = 0; warp < schedule.warps; ++warp) {
      if (warp == 0) {
        linearise<true>(first, second, field, striped, energy);
      } else {
        linearise<false>(first, second, field, striped, energy);
      }
      minimise(field, energy, schedule);
    }
    for (int y = 0; y < grid.height; ++y) {
      const std::size_t start = static_cast<std::size_t>(y) * grid.width;
      unstripe_row(grid, field.at(y, kU1), Field::kCellFloats, 1.0f / scale, flow + start);
      unstripe_row(grid, field.at(y, kU2), Field::kCellFloats, 1.0f / scale,
                   flow + area(grid) + start);
    }
  }

 private:
  // Iterations between two looks at how much the flow still changes.
  static constexpr int kBlock = 5;

  const float* stripe(const float* plane, const Grid& grid) {
    const std::size_t row_floats = static_cast<std::size_t>(grid.cells) * kLanes;
    float* striped = striped_.reserve(row_floats * grid.height);
    for (int y = 0; y < grid.height; ++y) {
      stripe_row(grid, plane + static_cast<std::size_t>(y) * grid.width, striped + y * row_floats,
                 kLanes, 1.0f);
    }
    return striped;
  }

  void minimise(const Field& field, const Energy& energy, const Schedule& schedule) {
    const float scale = energy.tau / energy.theta;
    const float still = schedule.epsilon * scale;
    const float enough = still * still * static_cast<float>(area(field.grid));
    const MedianRows rows(field.grid, rows_.reserve(MedianRows::floats(field.grid)));
    float last_change = 3e38f;
    for (int outer = 0; outer < schedule.outer_iterations; ++outer) {
      if (schedule.median_size > 1) {
        median_filter(field, kU1, schedule.median_size, rows);
        median_filter(field, kU2, schedule.median_size, rows);
      }
      float change = 0;
      for (int done = 0; done < schedule.inner_iterations; done += kBlock) {
        const int count = smaller(kBlock, schedule.inner_iterations - done);
        change = energy.exact ? iterate<true>(field, count, energy.tau)
                              : iterate<false>(field, count, energy.tau);
        if (change <= enough) return;
      }
      // Where filter and data term undo each other's work, more rounds settle nothing.
      if (schedule.epsilon > 0 && change >= last_change) return;
      last_change = change;
    }
  }

  Buffer memory_;
  Buffer rows_;
  Buffer striped_;
};

}  // namespace dualstream::DUALSTREAM_ISA
