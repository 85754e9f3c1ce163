// Linearising the data term around the flow so far.
#pragma once

#include "image.hpp"
#include "iterate.hpp"
#include "kernel.hpp"
#include "sample.hpp"
#include "simd.hpp"

namespace dualstream::DUALSTREAM_ISA {

// Sets n, rho and the limit of `field` from the images and its flow. `brightening`, striped like
// the field, is how much brighter the second image is expected to be; null means not at all. Where the flow leads out of
// the second image nothing is known of it but its smoothness: the limit is zero there.
//
// With kStart the dual variables begin at zero.
template <bool kStart>
void linearise(const Image& first, const Image& second, const Field& field,
                      const float* brightening, const Energy& energy) {
  const Grid& grid = field.grid;
  const float scale = energy.tau / energy.theta;
  const Vec right_edge = broadcast(static_cast<float>(grid.width - 1));
  const Vec bottom_edge = broadcast(static_cast<float>(grid.height - 1));
  const Vec zero = {};
  Vec strip_starts;
  for (int lane = 0; lane < kLanes; ++lane) strip_starts[lane] = lane * grid.cells;
  for (int y = 0; y < grid.height; ++y) {
    const float* source = first.striped_row(y);
    const float* brighter = brightening;
    if (brighter != nullptr) brighter += static_cast<std::size_t>(y) * grid.cells * kLanes;
    float* cell = field.at(y, kU1);
    for (int i = 0; i < grid.cells; ++i) {
      const Vec u1 = load(cell + kU1 * kLanes), u2 = load(cell + kU2 * kLanes);
      const Vec column = strip_starts + static_cast<float>(i);
      const Vec x = column + u1 * (1.0f / scale);
      const Vec y_there = static_cast<float>(y) + u2 * (1.0f / scale);
      const Vec x_inside = clamp(x, zero, right_edge), y_inside = clamp(y_there, zero, bottom_edge);
      const Samples there = sample(second, x_inside, y_inside);
      const Vec gx = 0.5f * (load(source + kLanes) + there.along_x);
      const Vec gy = 0.5f * (load(source + 2 * kLanes) + there.along_y);
      const Vec squared = gx * gx + gy * gy;
      const IntVec known = (squared > 1e-10f) & (x == x_inside) & (y_there == y_inside) &
                           (column <= right_edge);
      const Vec inverse = select(known, inverse_root(squared), zero);
      const Vec n1 = gx * inverse, n2 = gy * inverse;
      Vec difference = there.value - load(source);
      if (brighter != nullptr) difference -= load(brighter + i * kLanes);
      if constexpr (kStart) {
        for (int p = kP11; p <= kP22; ++p) store(cell + p * kLanes, zero);
      }
      store(cell + kN1 * kLanes, n1);
      store(cell + kN2 * kLanes, n2);
      store(cell + kRho * kLanes, difference * (scale * inverse) - (n1 * u1 + n2 * u2));
      store(cell + kLimit * kLanes, energy.tau * energy.lambda * (squared * inverse));
      cell += Field::kCellFloats;
      source += Image::kCellFloats;
    }
  }
}

}  // namespace dualstream::DUALSTREAM_ISA
