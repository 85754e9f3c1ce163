// Points that are followed through one scale of a video, and the histograms around them.
//
// Sampling, tracking and descriptors of Wang & Schmid 2013 with the parameters of their release.
// All of one frame is done before the next, so that no table outlives its frame.
#pragma once

#include <cstdint>
#include <vector>

namespace dualstream {

// A plane of numbers, row by row.
struct Plane {
  const float* data;
  int height;
  int width;

  float at(int y, int x) const { return data[static_cast<std::size_t>(y) * width + x]; }
};

// Integral histograms of directions: votes of all pixels above and to the left of each corner.
//
// Votes are whole numbers that may wrap around: a sum over a box is exact, however large the image.
class Histograms {
 public:
  // Takes over directions (x, y) weighted by their length, shared between the two nearest bins.
  // With `still_px` above 0 the last bin counts the vectors of at most that length instead.
  void build(const Plane& x, const Plane& y, int bins, float still_px);

  // Votes in the box of `side` pixels whose corner is (left, top), one number a bin.
  void sum(int left, int top, int side, float* to) const;

 private:
  std::vector<std::uint32_t> table_;
  std::vector<std::uint32_t> row_;
  std::vector<float> lengths_, places_;
  std::size_t stride_ = 0;
  int bins_ = 0;
};

// Tracks on one scale.
class Tracker {
 public:
  static constexpr int kPatch = 32, kCells = 2, kTimes = 3;
  static constexpr int kBins[4] = {8, 9, 8, 8};  // HOG, HOF, MBHx, MBHy
  static constexpr int kDescriptor = (8 + 9 + 8 + 8) * kCells * kCells * kTimes;

  Tracker(int height, int width, int length, int step)
      : height_(height), width_(width), length_(length), step_(step) {}

  int height() const { return height_; }
  int width() const { return width_; }
  // Numbers of a finished track: points (length + 1, 2), displacements (length, 2), descriptors.
  int row_size() const { return 2 * (length_ + 1) + 2 * length_ + kDescriptor; }

  // Begins a track in the middle of each cell that holds none, where the corner is strong enough.
  void sample(const Plane& corners, float threshold);

  // Moves all tracks on to the next frame: points by `flow`, displacements and descriptors by
  // `warped`. Those that leave the picture end; returns the rows of those that are complete.
  std::vector<float> follow(const Plane& grey, const Plane flow[2], const Plane warped[2]);

 private:
  struct Track {
    std::vector<float> numbers;
    int age = 0;
    int left = 0, top = 0;  // of the patch around its last point
  };

  void move(Track& track, const Plane flow[2], const Plane warped[2], bool& is_inside) const;
  void describe(const Plane& x, const Plane& y, int which);

  int height_, width_, length_, step_;
  std::vector<Track> tracks_;
  Histograms histograms_;
  std::vector<float> slopes_;
};

}  // namespace dualstream
