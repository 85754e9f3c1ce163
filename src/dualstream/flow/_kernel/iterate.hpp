// The inner loop of TV-L1: one sweep over the image updates flow and dual variables together,
// and several sweeps follow each other down the image a row apart, so that rows stay in cache.
//
// With c = tau / theta the variables are kept as U = c u, so that no gradient needs a factor:
//
//   V = U - clamp(rho + n . U, -m, m) n      n = g / |g|,  m = tau lambda |g|,
//                                            rho = c (I1w - I0 - g . u0) / |g|
//   U = V + tau div p
//   p = (p + grad U) / (1 + |grad U|)
//
// Zach, Pock & Bischof 2007, equations 10 to 15.
#pragma once

#include "simd.hpp"
#include "striped.hpp"

namespace dualstream::DUALSTREAM_ISA {

// What a cell of the solver holds, one vector each.
enum Variable { kU1, kU2, kP11, kP12, kP21, kP22, kN1, kN2, kRho, kLimit, kVariables };

// Flow, dual variables and linearised data term of one image, in memory that its owner keeps.
// Padding holds no flow; row -1 is a margin of zeros.
class Field {
 public:
  static constexpr int kCellFloats = kVariables * kLanes;

  Field(const Grid& grid, float* memory) : grid(grid), memory_(memory) {
    __builtin_memset(memory, 0, static_cast<std::size_t>(grid.cells) * kCellFloats * sizeof(float));
  }

  static std::size_t floats(const Grid& grid) {
    return static_cast<std::size_t>(grid.height + 1) * grid.cells * kCellFloats;
  }

  // Variable of cell 0 in row y, -1 <= y < height.
  float* at(int y, Variable variable) const {
    return memory_ + static_cast<std::size_t>(y + 1) * grid.cells * kCellFloats +
           variable * kLanes;
  }

  Grid grid;

 private:
  float* memory_;
};

template <bool kExact>
DUALSTREAM_INLINE void step_dual(Vec& along_x, Vec& along_y, Vec dx, Vec dy) {
  if constexpr (kExact) {
    const Vec shrink = 1.0f / (square_root(dx * dx + dy * dy) + 1.0f);
    along_x = (along_x + dx) * shrink;
    along_y = (along_y + dy) * shrink;
  } else {
    const Vec squared = dx * dx + (dy * dy + 1e-20f);
    const Vec shrink = near_reciprocal(squared * near_inverse_root(squared) + 1.0f);
    along_x = (along_x + dx) * shrink;
    along_y = (along_y + dy) * shrink;
  }
}

// Row y of a sweep: U of row y, then p of row y - 1. Row 0 has no p before it, row `height` has
// no U and closes the image. Returns the sum of the squared changes of U, if it is measured.
template <bool kExact, bool kHasU, bool kHasP, bool kMeasure>
Vec sweep_row(const Field& field, int y, float tau) {
  constexpr int kCell = Field::kCellFloats;
  const int cells = field.grid.cells, last_cell = field.grid.last_cell();
  float* here = field.at(y, kU1);
  float* above = field.at(y - 1, kU1);
  const auto at = [](float* base, int i, Variable variable) {
    return base + i * kCell + variable * kLanes;
  };
  Vec change = {}, left11 = {}, left21 = {}, above1 = {}, above2 = {};
  if constexpr (kHasU) {
    left11 = shift_up(load(at(here, cells - 1, kP11)), 0.0f);
    left21 = shift_up(load(at(here, cells - 1, kP21)), 0.0f);
  }
  if constexpr (kHasP) {
    above1 = load(at(above, 0, kU1));
    above2 = load(at(above, 0, kU2));
  }
  const Vec first1 = above1, first2 = above2;

  const auto cell = [&]<bool kEdge>(int i) __attribute__((always_inline)) {
    Vec p12 = load(at(above, i, kP12)), p22 = load(at(above, i, kP22));
    Vec down1 = above1, down2 = above2;  // no gradient across the last row
    if constexpr (kHasU) {
      const Vec old1 = load(at(here, i, kU1)), old2 = load(at(here, i, kU2));
      const Vec n1 = load(at(here, i, kN1)), n2 = load(at(here, i, kN2));
      const Vec p11 = load(at(here, i, kP11)), p21 = load(at(here, i, kP21));
      const Vec limit = load(at(here, i, kLimit));
      const Vec excess = clamp(load(at(here, i, kRho)) + n1 * old1 + n2 * old2, -limit, limit);
      const Vec divergence1 = (p11 - left11) + (load(at(here, i, kP12)) - p12);
      const Vec divergence2 = (p21 - left21) + (load(at(here, i, kP22)) - p22);
      down1 = (old1 - excess * n1) + tau * divergence1;
      down2 = (old2 - excess * n2) + tau * divergence2;
      store(at(here, i, kU1), down1);
      store(at(here, i, kU2), down2);
      left11 = p11;
      left21 = p21;
      if constexpr (kMeasure) {
        const Vec d1 = down1 - old1, d2 = down2 - old2;
        change += d1 * d1 + d2 * d2;
      }
    }
    if constexpr (kHasP) {
      Vec next1, next2;
      if (kEdge && i == cells - 1) {
        next1 = shift_down(first1, 0.0f);
        next2 = shift_down(first2, 0.0f);
      } else {
        next1 = load(at(above, i + 1, kU1));
        next2 = load(at(above, i + 1, kU2));
      }
      Vec dx1 = next1 - above1, dx2 = next2 - above2;
      if (kEdge && i == last_cell) {  // no gradient across the last column
        dx1[field.grid.last_lane()] = 0;
        dx2[field.grid.last_lane()] = 0;
      }
      Vec p11 = load(at(above, i, kP11)), p21 = load(at(above, i, kP21));
      step_dual<kExact>(p11, p12, dx1, down1 - above1);
      step_dual<kExact>(p21, p22, dx2, down2 - above2);
      store(at(above, i, kP11), p11);
      store(at(above, i, kP12), p12);
      store(at(above, i, kP21), p21);
      store(at(above, i, kP22), p22);
      above1 = next1;
      above2 = next2;
    }
  };
  for (int i = 0; i < last_cell; ++i) cell.template operator()<false>(i);
  cell.template operator()<true>(last_cell);
  for (int i = last_cell + 1; i < cells - 1; ++i) cell.template operator()<false>(i);
  if (last_cell < cells - 1) cell.template operator()<true>(cells - 1);
  return change;
}

template <bool kExact, bool kMeasure>
Vec sweep_row(const Field& field, int y, float tau) {
  if (y == 0) return sweep_row<kExact, true, false, kMeasure>(field, y, tau);
  if (y == field.grid.height) return sweep_row<kExact, false, true, kMeasure>(field, y, tau);
  return sweep_row<kExact, true, true, kMeasure>(field, y, tau);
}

// Runs `count` iterations. Returns the sum of the squared changes of U in the last of them.
template <bool kExact>
float iterate(const Field& field, int count, float tau) {
  Vec change = {};
  for (int front = 0; front <= field.grid.height + count - 1; ++front) {
    for (int sweep = 0; sweep < count; ++sweep) {
      const int y = front - sweep;
      if (y < 0 || y > field.grid.height) continue;
      if (sweep < count - 1) {
        sweep_row<kExact, false>(field, y, tau);
      } else {
        change += sweep_row<kExact, true>(field, y, tau);
      }
    }
  }
  return sum(change);
}

}  // namespace dualstream::DUALSTREAM_ISA
