// Dense inverse search: flow of patches, coarse to fine, spread over the pixels that they cover.
//
// After Kroeger, Timofte, Dai & Van Gool 2016, sections 2.1 to 2.3. Neighbours are not asked in
// raster order: every patch descends on its own, then looks whether the flow that a neighbour
// found fits it better and descends from there, so that the order does not matter and a GPU gives
// the same flow.
#pragma once

#include "buffer.hpp"
#include "kernel.hpp"
#include "patch_image.hpp"
#include "simd.hpp"

namespace dualstream::DUALSTREAM_ISA {

// The pixels of a patch, row after row.
struct Patch {
  static constexpr int kVecs = kPatch * kPatch / kLanes;
  Vec v[kVecs];

  static DUALSTREAM_INLINE Patch read(const float* corner, std::size_t stride) {
    Patch patch;
#pragma GCC unroll 16
    for (int i = 0; i < kVecs; ++i) patch.v[i] = part(corner, stride, i);
    return patch;
  }

 private:
  static DUALSTREAM_INLINE Vec part(const float* corner, std::size_t stride, int i) {
#if defined(__AVX512F__)
    const float* rows = corner + 2 * i * stride;
    return __builtin_shufflevector(load8(rows), load8(rows + stride), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
                                   10, 11, 12, 13, 14, 15);
#else
    constexpr int kPerRow = kPatch / kLanes;
    return load(corner + i / kPerRow * stride + i % kPerRow * kLanes);
#endif
  }
};

DUALSTREAM_INLINE float sum(const Patch& patch) {
  Vec total = patch.v[0];
#pragma GCC unroll 16
  for (int i = 1; i < Patch::kVecs; ++i) total += patch.v[i];
  return sum(total);
}

DUALSTREAM_INLINE float product(const Patch& a, const Patch& b) {
  Vec total = a.v[0] * b.v[0];
#pragma GCC unroll 16
  for (int i = 1; i < Patch::kVecs; ++i) total += a.v[i] * b.v[i];
  return sum(total);
}

struct Vector2 {
  float x, y;
};

// Brightness of `image` over the patch whose corner lies at (x, y), between the pixels or not,
// less `reference`. Beyond the border it stays on the border.
DUALSTREAM_INLINE Patch difference(const PatchImage& image, float x, float y,
                                   const Patch& reference) {
  constexpr float kMargin = PatchImage::kBorder - 1;
  x = larger(-kMargin, smaller(x, image.width + kMargin - kPatch));
  y = larger(-kMargin, smaller(y, image.height + kMargin - kPatch));
  const float left = __builtin_floorf(x), top = __builtin_floorf(y);
  const float wx = x - left, wy = y - top;
  const std::size_t stride = image.stride();
  const float* corner = image.row(static_cast<int>(top)) + static_cast<int>(left);
  const Patch a = Patch::read(corner, stride), b = Patch::read(corner + 1, stride);
  const Patch c = Patch::read(corner + stride, stride);
  const Patch d = Patch::read(corner + stride + 1, stride);
  const float wa = (1 - wx) * (1 - wy), wb = wx * (1 - wy), wc = (1 - wx) * wy, wd = wx * wy;
  Patch out;
#pragma GCC unroll 16
  for (int i = 0; i < Patch::kVecs; ++i) {
    out.v[i] = (wa * a.v[i] + wb * b.v[i]) + (wc * c.v[i] + wd * d.v[i]) - reference.v[i];
  }
  return out;
}

struct Found {
  Vector2 flow;
  float error;
};

// A patch of the first image, ready to be found in the second.
class Template {
 public:
  Template(const PatchImage& first, int x, int y)
      : x_(x), y_(y), value_(Patch::read(first.row(y) + x, first.stride())),
        slope_x_(Patch::read(first.slope_x(y) + x, first.width)),
        slope_y_(Patch::read(first.slope_y(y) + x, first.width)) {
    constexpr float kPixels = kPatch * kPatch;
    mean_x_ = sum(slope_x_) / kPixels;
    mean_y_ = sum(slope_y_) / kPixels;
    const float xx = product(slope_x_, slope_x_) - kPixels * mean_x_ * mean_x_;
    const float xy = product(slope_x_, slope_y_) - kPixels * mean_x_ * mean_y_;
    const float yy = product(slope_y_, slope_y_) - kPixels * mean_y_ * mean_y_;
    const float determinant = larger(xx * yy - xy * xy, 1e-3f);
    inverse_xx_ = yy / determinant;
    inverse_xy_ = -xy / determinant;
    inverse_yy_ = xx / determinant;
  }

  // Squared error of a flow, brightness taken relative to the patch's mean, and the Gauss-Newton
  // step from there.
  struct Fit {
    float error;
    Vector2 step;
  };

  DUALSTREAM_INLINE Fit fit(const PatchImage& second, Vector2 flow) const {
    constexpr float kPixels = kPatch * kPatch;
    const Patch off = difference(second, x_ + flow.x, y_ + flow.y, value_);
    const float total = sum(off);
    const float gx = product(off, slope_x_) - total * mean_x_;
    const float gy = product(off, slope_y_) - total * mean_y_;
    return {product(off, off) - total * total / kPixels,
            {-(inverse_xx_ * gx + inverse_xy_ * gy), -(inverse_xy_ * gx + inverse_yy_ * gy)}};
  }

  // Steps from `start` for as long as the error shrinks, `steps` times at most. A patch that
  // strays further than its own side is lost and stays where it was.
  Found descend(const PatchImage& second, Vector2 start, int steps) const {
    Fit fitted = fit(second, start);
    const Found unmoved = {start, fitted.error};
    Found best = unmoved;
    for (int i = 0; i < steps; ++i) {
      const Vector2 flow = {best.flow.x + fitted.step.x, best.flow.y + fitted.step.y};
      const float dx = flow.x - start.x, dy = flow.y - start.y;
      if (!(dx * dx + dy * dy <= kPatch * kPatch)) return unmoved;
      fitted = fit(second, flow);
      if (!(fitted.error < best.error)) break;
      best = {flow, fitted.error};
    }
    return best;
  }

 private:
  int x_, y_;
  Patch value_, slope_x_, slope_y_;
  float mean_x_, mean_y_;
  float inverse_xx_, inverse_xy_, inverse_yy_;
};

class InverseSearch {
 public:
  explicit InverseSearch(const DISOptions& options) : options_(options) {}

  // Flow (2, height, width) of every pixel of `first`, searched for around twice the flow of the
  // image of half the size, or around no motion where `coarser` is null; and how much brighter
  // (height, width) the patches of the second image are.
  void solve(const PatchImage& first, const PatchImage& second, const float* coarser, float* flow,
             float* brightening) {
    columns_ = count(first.width);
    rows_ = count(first.height);
    found_.reserve(2 * patches() * sizeof(Found) / sizeof(float));
    for (int j = 0; j < rows_; ++j) {
      for (int i = 0; i < columns_; ++i) {
        const int x = corner(i, first.width), y = corner(j, first.height);
        const Vector2 start = coarser ? twice(coarser, first, x, y) : Vector2{0, 0};
        *found(j, i) = Template(first, x, y).descend(second, start, options_.steps);
      }
    }
    for (int round = 0; round < options_.rounds; ++round) ask_neighbours(first, second);
    spread(first, second, flow, brightening);
  }

 private:
  // Patch corners along an axis: every `stride` pixels, the last one flush with the edge.
  int count(int size) const { return (size - kPatch + options_.stride - 1) / options_.stride + 1; }
  int corner(int index, int size) const { return smaller(index * options_.stride, size - kPatch); }

  std::size_t patches() const { return static_cast<std::size_t>(rows_) * columns_; }
  Found* found(int row, int column) const {
    return reinterpret_cast<Found*>(found_.data()) + row * columns_ + column;
  }

  // Neighbours whose flow is nearly the patch's own are not asked.
  static constexpr float kAlikePx = 0.1f;

  void ask_neighbours(const PatchImage& first, const PatchImage& second) {
    const Found* before = found(0, 0) + patches();
    __builtin_memcpy(found(0, 0) + patches(), found(0, 0), patches() * sizeof(Found));
    for (int j = 0; j < rows_; ++j) {
      for (int i = 0; i < columns_; ++i) {
        const Found* own = before + j * columns_ + i;
        const Found* asked[4];
        int count = 0;
        const auto consider = [&](const Found* neighbour) {
          const float dx = neighbour->flow.x - own->flow.x, dy = neighbour->flow.y - own->flow.y;
          if (dx * dx + dy * dy > kAlikePx * kAlikePx) asked[count++] = neighbour;
        };
        if (i > 0) consider(own - 1);
        if (i + 1 < columns_) consider(own + 1);
        if (j > 0) consider(own - columns_);
        if (j + 1 < rows_) consider(own + columns_);
        if (count == 0) continue;
        const Template patch(first, corner(i, first.width), corner(j, first.height));
        Found best = *own;
        for (int k = 0; k < count; ++k) {
          const float error = patch.fit(second, asked[k]->flow).error;
          if (error < best.error) best = {asked[k]->flow, error};
        }
        if (best.error < own->error) {
          *found(j, i) = patch.descend(second, best.flow, options_.steps);
        }
      }
    }
  }

  // Twice the flow that the image of half the size has under the centre of the patch at (x, y).
  static Vector2 twice(const float* flow, const PatchImage& size, int x, int y) {
    const int width = size.width / 2, height = size.height / 2;
    const int column = smaller((x + kPatch / 2) / 2, width - 1);
    const int row = smaller((y + kPatch / 2) / 2, height - 1);
    const std::size_t at = static_cast<std::size_t>(row) * width + column;
    return {2 * flow[at], 2 * flow[static_cast<std::size_t>(height) * width + at]};
  }

  // Every pixel gets the means of the flows and of the brightening of its patches, weighted by how
  // well each fits there: by 1 / d^2, for differences d in brightness above 1.
  void spread(const PatchImage& first, const PatchImage& second, float* flow,
              float* brightening) {
    const std::size_t area = static_cast<std::size_t>(first.width) * first.height;
    float* weights = weights_.reserve(area);
    __builtin_memset(flow, 0, 2 * area * sizeof(float));
    __builtin_memset(brightening, 0, area * sizeof(float));
    __builtin_memset(weights, 0, area * sizeof(float));
    for (int j = 0; j < rows_; ++j) {
      for (int i = 0; i < columns_; ++i) {
        const int x = corner(i, first.width), y = corner(j, first.height);
        const Vector2 here = found(j, i)->flow;
        const Patch off = difference(second, x + here.x, y + here.y,
                                     Patch::read(first.row(y) + x, first.stride()));
        const float brighter = sum(off) / (kPatch * kPatch);
        alignas(64) float weight[kPatch * kPatch];
        for (int k = 0; k < Patch::kVecs; ++k) {
          store(weight + k * kLanes, 1.0f / maximum(off.v[k] * off.v[k], broadcast(1.0f)));
        }
        for (int row = 0; row < kPatch; ++row) {
          const std::size_t at = static_cast<std::size_t>(y + row) * first.width + x;
          const Vec8 w = load8(weight + row * kPatch);
          add8(flow + at, w * here.x);
          add8(flow + area + at, w * here.y);
          add8(brightening + at, w * brighter);
          add8(weights + at, w);
        }
      }
    }
    for (std::size_t i = 0; i < area; ++i) {
      const float inverse = 1.0f / weights[i];
      flow[i] *= inverse;
      flow[area + i] *= inverse;
      brightening[i] *= inverse;
    }
  }

  DISOptions options_;
  int columns_ = 0;
  int rows_ = 0;
  Buffer found_;
  Buffer weights_;
};

}  // namespace dualstream::DUALSTREAM_ISA
