#include "trajectories.hpp"

#include <algorithm>
#include <cmath>

namespace dualstream {
namespace {

constexpr float kVote = 32768.0f;    // a vote of 1
constexpr float kLongest = 500.0f;   // 16x16 of these are below 2^32 votes
constexpr float kEpsilon = 0.05f;
constexpr float kStillPx = 0.4f;
constexpr float kTurn = 6.28318531f;

// Direction of (x, y) in turns, 0 to 1, to 2e-6: Abramowitz & Stegun 1964, 4.4.49.
inline float turns(float x, float y) {
  const float wide = std::fabs(x), high = std::fabs(y);
  const float longer = wide > high ? wide : high, shorter = wide > high ? high : wide;
  const float a = shorter / (longer + 1e-30f), s = a * a;
  float angle = a * (0.9998660f + s * (-0.3302995f + s * (0.1801410f + s * (-0.0851330f +
                                                                          s * 0.0208351f))));
  angle = high > wide ? kTurn / 4 - angle : angle;
  angle = x < 0 ? kTurn / 2 - angle : angle;
  angle = y < 0 ? kTurn - angle : angle;
  return angle / kTurn;
}

int clamped(float value, int most) {
  return std::min(std::max(static_cast<int>(std::lrint(value)), 0), most);
}

// Differences of the neighbours on either side, 0 at the edges.
void slopes(const Plane& of, float* along_x, float* along_y) {
  const std::size_t width = of.width;
  for (int y = 0; y < of.height; ++y, along_x += width, along_y += width) {
    const float* here = of.data + y * width;
    along_x[0] = along_x[width - 1] = 0;
    for (std::size_t x = 1; x + 1 < width; ++x) along_x[x] = here[x + 1] - here[x - 1];
    const bool is_edge = y == 0 || y == of.height - 1;
    for (std::size_t x = 0; x < width; ++x) {
      along_y[x] = is_edge ? 0 : here[x + width] - here[x - width];
    }
  }
}

}  // namespace

void Histograms::build(const Plane& x, const Plane& y, int bins, float still_px) {
  const int width = x.width, around = still_px > 0 ? bins - 1 : bins;
  bins_ = bins;
  stride_ = static_cast<std::size_t>(width + 1) * bins;
  table_.resize(stride_ * (x.height + 1));
  std::fill(table_.begin(), table_.begin() + stride_, 0);
  lengths_.resize(width);
  places_.resize(width);
  for (int row = 0; row < x.height; ++row) {
    const float *along_x = x.data + static_cast<std::size_t>(row) * width,
                *along_y = y.data + static_cast<std::size_t>(row) * width;
    for (int i = 0; i < width; ++i) {
      const float length = std::sqrt(along_x[i] * along_x[i] + along_y[i] * along_y[i]);
      lengths_[i] = length < kLongest ? length : kLongest;
      places_[i] = around * turns(along_x[i], along_y[i]);
    }
    row_.assign(bins, 0);
    std::uint32_t* to = table_.data() + (row + 1) * stride_;
    std::fill(to, to + bins, 0);
    for (int i = 0; i < width; ++i) {
      if (lengths_[i] <= still_px) {
        row_[around] += static_cast<std::uint32_t>(kVote);
      } else {
        const int bin = static_cast<int>(places_[i]);
        const float all = lengths_[i] * kVote, upper = all * (places_[i] - bin);
        const auto votes = static_cast<std::uint32_t>(upper + 0.5f);
        row_[bin % around] += static_cast<std::uint32_t>(all + 0.5f) - votes;
        row_[(bin + 1) % around] += votes;
      }
      to += bins;
      const std::uint32_t* above = to - stride_;
      for (int k = 0; k < bins; ++k) to[k] = above[k] + row_[k];
    }
  }
}

void Histograms::sum(int left, int top, int side, float* to) const {
  const std::uint32_t* first = table_.data() + top * stride_ + static_cast<std::size_t>(left) * bins_;
  const std::uint32_t* last = first + side * stride_;
  const int across = side * bins_;
  for (int k = 0; k < bins_; ++k) {
    to[k] = (last[k + across] - last[k] - first[k + across] + first[k]) * (1 / kVote);
  }
}

void Tracker::sample(const Plane& corners, float threshold) {
  const int rows = height_ / step_, columns = width_ / step_;
  std::vector<bool> is_taken(static_cast<std::size_t>(rows) * columns);
  for (const Track& track : tracks_) {
    const float* last = track.numbers.data() + 2 * track.age;
    const int x = static_cast<int>(last[0]) / step_, y = static_cast<int>(last[1]) / step_;
    if (x < columns && y < rows) is_taken[static_cast<std::size_t>(y) * columns + x] = true;
  }
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      const int x = column * step_ + step_ / 2, y = row * step_ + step_ / 2;
      if (is_taken[static_cast<std::size_t>(row) * columns + column]) continue;
      if (!(corners.at(y, x) > threshold)) continue;
      Track track;
      track.numbers.assign(row_size(), 0.0f);
      track.numbers[0] = static_cast<float>(x);
      track.numbers[1] = static_cast<float>(y);
      tracks_.push_back(std::move(track));
    }
  }
}

void Tracker::move(Track& track, const Plane flow[2], const Plane warped[2],
                   bool& is_inside) const {
  float* point = track.numbers.data() + 2 * track.age;
  float* displacement = track.numbers.data() + 2 * (length_ + 1) + 2 * track.age;
  const int x = clamped(point[0], width_ - 1), y = clamped(point[1], height_ - 1);
  track.left = clamped(point[0] - kPatch / 2, width_ - kPatch);
  track.top = clamped(point[1] - kPatch / 2, height_ - kPatch);
  const int size[2] = {width_, height_};
  is_inside = true;
  for (int i = 0; i < 2; ++i) {
    point[2 + i] = point[i] + flow[i].at(y, x);
    displacement[i] = warped[i].at(y, x);
    is_inside = is_inside && point[2 + i] > 0 && point[2 + i] < size[i];
  }
}

void Tracker::describe(const Plane& x, const Plane& y, int which) {
  const int bins = kBins[which], numbers = kCells * kCells * bins, side = kPatch / kCells;
  histograms_.build(x, y, bins, which == 1 ? kStillPx : -1.0f);
  int start = 2 * (length_ + 1) + 2 * length_;
  for (int i = 0; i < which; ++i) start += kBins[i] * kCells * kCells * kTimes;
  const int frames = length_ / kTimes;
  for (Track& track : tracks_) {
    float values[kCells * kCells * 9];
    float* to = values;
    for (int column = 0; column < kCells; ++column) {
      for (int row = 0; row < kCells; ++row, to += bins) {
        histograms_.sum(track.left + column * side, track.top + row * side, side, to);
      }
    }
    float total = 0;
    for (int i = 0; i < numbers; ++i) total += values[i] += kEpsilon;
    float* mean = track.numbers.data() + start + track.age / frames * numbers;
    for (int i = 0; i < numbers; ++i) mean[i] += std::sqrt(values[i] / total) / frames;
  }
}

std::vector<float> Tracker::follow(const Plane& grey, const Plane flow[2],
                                   const Plane warped[2]) {
  std::erase_if(tracks_, [&](Track& track) {
    bool is_inside;
    move(track, flow, warped, is_inside);
    return !is_inside;
  });
  std::vector<float> finished;
  if (tracks_.empty()) return finished;
  const std::size_t pixels = static_cast<std::size_t>(height_) * width_;
  slopes_.resize(2 * pixels);
  const Plane along_x{slopes_.data(), height_, width_};
  const Plane along_y{slopes_.data() + pixels, height_, width_};
  const Plane* sources[] = {&grey, &warped[0], &warped[1]};
  const int descriptors[] = {0, 2, 3};
  describe(warped[0], warped[1], 1);
  for (int i = 0; i < 3; ++i) {
    slopes(*sources[i], slopes_.data(), slopes_.data() + pixels);
    describe(along_x, along_y, descriptors[i]);
  }
  std::erase_if(tracks_, [&](Track& track) {
    if (++track.age < length_) return false;
    finished.insert(finished.end(), track.numbers.begin(), track.numbers.end());
    return true;
  });
  return finished;
}

}  // namespace dualstream
