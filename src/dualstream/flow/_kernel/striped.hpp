// The layout in which the solver keeps an image.
//
// A row of W pixels is cut into kLanes strips of `cells` pixels; cell i holds pixel
// lane * cells + i of each strip, so that the neighbours x - 1 and x + 1 of a whole vector are the
// cells before and after it and need no shuffles. Example, 4 lanes, W = 10, cells = 3:
//
//   cell 0: pixels 0 3 6 9    cell 1: pixels 1 4 7 (10)    cell 2: pixels 2 5 8 (11)
//
// where (10) and (11) are padding.
#pragma once

#include "simd.hpp"

namespace dualstream::DUALSTREAM_ISA {

struct Grid {
  int width;
  int height;
  int cells;  // vectors that hold a row

  Grid(int width_, int height_)
      : width(width_), height(height_), cells((width_ + kLanes - 1) / kLanes) {}

  // Where pixel x = width - 1 lies.
  int last_cell() const { return (width - 1) % cells; }
  int last_lane() const { return (width - 1) / cells; }
};

// Copies row-major pixels `from`, times `factor`, into the striped row `to`, whose cells are
// `cell_floats` apart; padding gets zeros.
DUALSTREAM_INLINE void stripe_row(const Grid& grid, const float* from, float* to, int cell_floats,
                                  float factor) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int start = lane * grid.cells;
    const int count = larger(0, smaller(grid.cells, grid.width - start));
    for (int i = 0; i < count; ++i) to[i * cell_floats + lane] = from[start + i] * factor;
    for (int i = count; i < grid.cells; ++i) to[i * cell_floats + lane] = 0;
  }
}

// The reverse: striped row `from` -> row-major pixels, times `factor`.
DUALSTREAM_INLINE void unstripe_row(const Grid& grid, const float* from, int cell_floats,
                                    float factor, float* to) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int start = lane * grid.cells;
    const int count = larger(0, smaller(grid.cells, grid.width - start));
    for (int i = 0; i < count; ++i) to[start + i] = from[i * cell_floats + lane] * factor;
  }
}

}  // namespace dualstream::DUALSTREAM_ISA
