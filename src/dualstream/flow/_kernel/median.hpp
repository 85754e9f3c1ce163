// Median filter of the flow in a Field, 3x3 or 5x5, edges repeated.
//
// The columns of a window are sorted once for all windows that they belong to. For 5x5, two
// neighbouring windows share four columns, in two pairs that the windows before and after share
// too: the pairs are merged, of their 20 values the middle six are kept (the median of 25 has one
// of the ranks 8 to 13 among them), and each window adds its fifth column to those six.
#pragma once

#include "iterate.hpp"
#include "simd.hpp"
#include "striped.hpp"

namespace dualstream::DUALSTREAM_ISA {

DUALSTREAM_INLINE void order(Vec& a, Vec& b) {
  const Vec low = minimum(a, b);
  b = maximum(a, b);
  a = low;
}

template <int kCount>
struct Sorted {
  Vec v[kCount];
};

// Batcher's odd-even merge of two ascending lists; results that nobody reads cost nothing.
template <int kA, int kB>
DUALSTREAM_INLINE Sorted<kA + kB> merge(const Sorted<kA>& a, const Sorted<kB>& b) {
  if constexpr (kA == 0) {
    return b;
  } else if constexpr (kB == 0) {
    return a;
  } else if constexpr (kA == 1 && kB == 1) {
    return {{minimum(a.v[0], b.v[0]), maximum(a.v[0], b.v[0])}};
  } else {
    Sorted<(kA + 1) / 2> odd_a;
    Sorted<(kB + 1) / 2> odd_b;
    Sorted<kA / 2> even_a;
    Sorted<kB / 2> even_b;
#pragma GCC unroll 32
    for (int i = 0; i < kA; ++i) (i % 2 ? even_a.v[i / 2] : odd_a.v[i / 2]) = a.v[i];
#pragma GCC unroll 32
    for (int i = 0; i < kB; ++i) (i % 2 ? even_b.v[i / 2] : odd_b.v[i / 2]) = b.v[i];
    const auto odd = merge(odd_a, odd_b);
    const auto even = merge(even_a, even_b);
    constexpr int kOdd = (kA + 1) / 2 + (kB + 1) / 2, kEven = kA / 2 + kB / 2;
    Sorted<kA + kB> out;
    out.v[0] = odd.v[0];
#pragma GCC unroll 32
    for (int i = 0; i < kEven; ++i) {
      if (i + 1 < kOdd) {
        out.v[2 * i + 1] = minimum(even.v[i], odd.v[i + 1]);
        out.v[2 * i + 2] = maximum(even.v[i], odd.v[i + 1]);
      } else {
        out.v[2 * i + 1] = even.v[i];
      }
    }
    if constexpr (kOdd > kEven + 1) out.v[kA + kB - 1] = odd.v[kOdd - 1];
    return out;
  }
}

DUALSTREAM_INLINE Sorted<5> sort5(const float* const rows[5], int offset) {
  Sorted<5> s = {{load(rows[0] + offset), load(rows[1] + offset), load(rows[2] + offset),
                  load(rows[3] + offset), load(rows[4] + offset)}};
  order(s.v[0], s.v[1]);
  order(s.v[3], s.v[4]);
  order(s.v[2], s.v[4]);
  order(s.v[2], s.v[3]);
  order(s.v[1], s.v[4]);
  order(s.v[0], s.v[3]);
  order(s.v[0], s.v[2]);
  order(s.v[1], s.v[3]);
  order(s.v[1], s.v[2]);
  return s;
}

// Sixth smallest of eleven: ranks 8 to 13 of `shared`, and a column.
DUALSTREAM_INLINE Vec median_of_shared(const Sorted<20>& shared, const Sorted<5>& column) {
  Vec median = shared.v[12];
#pragma GCC unroll 8
  for (int i = 0; i < 5; ++i) median = minimum(median, maximum(shared.v[7 + i], column.v[4 - i]));
  return median;
}

// Rows of one variable of a Field, each `row_floats` long, with kMargin cells on either side.
class MedianRows {
 public:
  static constexpr int kMargin = 4;
  static constexpr int kRows = 5;

  MedianRows(const Grid& grid, float* memory) : grid_(grid), memory_(memory) {}

  static std::size_t floats(const Grid& grid) {
    return static_cast<std::size_t>(grid.cells + 2 * kMargin) * kLanes * kRows;
  }

  // Cell 0 of image row y.
  float* row(int y) const {
    const int place = y % kRows;
    return memory_ + (static_cast<std::size_t>(place) * (grid_.cells + 2 * kMargin) + kMargin) *
                         kLanes;
  }

  // Takes over a row of the field, with repeated edges in padding and margins.
  void fill(const Field& field, Variable variable, int y) const {
    float* to = row(y);
    const float* from = field.at(y, variable);
    const int cells = grid_.cells;
    for (int i = 0; i < cells; ++i) store(to + i * kLanes, load(from + i * Field::kCellFloats));
    const float first = to[0], last = to[grid_.last_cell() * kLanes + grid_.last_lane()];
    for (int x = grid_.width; x < cells * kLanes; ++x) to[x % cells * kLanes + x / cells] = last;
    for (int i = 1; i <= 2; ++i) {
      store(to - i * kLanes, shift_up(load(to + (cells - i) * kLanes), first));
      store(to + (cells + i - 1) * kLanes, shift_down(load(to + (i - 1) * kLanes), last));
    }
    for (int i = 3; i <= kMargin; ++i) {
      store(to - i * kLanes, Vec{});
      store(to + (cells + i - 1) * kLanes, Vec{});
    }
  }

 private:
  Grid grid_;
  float* memory_;
};

inline void median5_row(const float* const rows[5], int cells, float* out) {
  constexpr int kCell = Field::kCellFloats;
  Sorted<5> before = sort5(rows, -3 * kLanes);
  Sorted<5> even = sort5(rows, -2 * kLanes), odd = sort5(rows, -1 * kLanes);
  Sorted<10> left = merge(even, odd);
  // Windows i - 1 and i; they share columns i - 2 to i + 1.
  for (int i = 0; i <= cells; i += 2) {
    even = sort5(rows, i * kLanes);
    const Sorted<5> last_odd = odd;
    odd = sort5(rows, (i + 1) * kLanes);
    const Sorted<5> after = sort5(rows, (i + 2) * kLanes);
    const Sorted<10> right = merge(even, odd);
    const Sorted<20> shared = merge(left, right);
    if (i > 0) store(out + (i - 1) * kCell, median_of_shared(shared, before));
    if (i < cells) store(out + i * kCell, median_of_shared(shared, after));
    left = right;
    before = last_odd;
  }
}

DUALSTREAM_INLINE Vec median3(Vec a, Vec b, Vec c) {
  return maximum(minimum(a, b), minimum(maximum(a, b), c));
}

DUALSTREAM_INLINE Sorted<3> sort3(const float* const rows[3], int offset) {
  Sorted<3> s = {{load(rows[0] + offset), load(rows[1] + offset), load(rows[2] + offset)}};
  order(s.v[0], s.v[1]);
  order(s.v[1], s.v[2]);
  order(s.v[0], s.v[1]);
  return s;
}

inline void median3_row(const float* const rows[3], int cells, float* out) {
  Sorted<3> left = sort3(rows, -kLanes), middle = sort3(rows, 0);
  for (int i = 0; i < cells; ++i) {
    const Sorted<3> right = sort3(rows, (i + 1) * kLanes);
    const Vec low = maximum(maximum(left.v[0], middle.v[0]), right.v[0]);
    const Vec high = minimum(minimum(left.v[2], middle.v[2]), right.v[2]);
    const Vec centre = median3(left.v[1], middle.v[1], right.v[1]);
    store(out + i * Field::kCellFloats, median3(low, centre, high));
    left = middle;
    middle = right;
  }
}

// Filters one variable in place; `size` is 3 or 5. Padding is set to zero again.
inline void median_filter(const Field& field, Variable variable, int size,
                          const MedianRows& buffer) {
  const Grid& grid = field.grid;
  const int half = size / 2;
  const auto clamped = [&](int y) { return larger(0, smaller(y, grid.height - 1)); };
  for (int y = 0; y < smaller(half, grid.height); ++y) buffer.fill(field, variable, y);
  for (int y = 0; y < grid.height; ++y) {
    if (y + half < grid.height) buffer.fill(field, variable, y + half);
    const float* rows[5];
    for (int i = 0; i < size; ++i) rows[i] = buffer.row(clamped(y + i - half));
    float* out = field.at(y, variable);
    if (size == 5) {
      median5_row(rows, grid.cells, out);
    } else {
      median3_row(rows, grid.cells, out);
    }
    for (int x = grid.width; x < grid.cells * kLanes; ++x) {
      out[x % grid.cells * Field::kCellFloats + x / grid.cells] = 0;
    }
  }
}

}  // namespace dualstream::DUALSTREAM_ISA
