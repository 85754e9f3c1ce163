// What the kernel offers: one table of functions for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dualstream {

// Sizes of an image pyramid, the frame itself included, at most.
constexpr int kMostScales = 32;

// Zach, Pock & Bischof 2007.
struct Energy {
  float tau;
  float lambda;
  float theta;
  bool exact;  // square roots and divisions to the last bit, else to 12 or 14 bits
};

// How the energy is minimised on one image size; the names are OpenCV's.
struct Schedule {
  int warps;
  int inner_iterations;
  int outer_iterations;
  int median_size;  // 1 (none), 3 or 5
  float epsilon;
};

struct TVL1Options {
  Energy energy;
  Schedule schedule;
  int scales;
  float scale_step;
};

// Dense inverse search with patches of 8x8 pixels.
struct DISOptions {
  int stride;       // pixels between patches
  int steps;        // of descent, at most
  int rounds;       // in which neighbours are asked
  int smallest_px;  // short side of the coarsest size, at least
};

struct TVL1FastOptions {
  Energy energy;
  Schedule schedule;         // at full size
  float coarse_lambda;       // at the sizes where patches are searched
  Schedule coarse_schedule;
  DISOptions dis;
};

// Grey frames (count, height, width), contiguous.
struct Frames {
  const std::uint8_t* pixels;
  std::size_t count;
  int height;
  int width;
};

// Where the flow of one direction goes, (count - 1, 2, height, width) each. Null: not wanted.
struct Target {
  float* flow;
  std::uint8_t* bytes;
};

struct Outputs {
  Target forward;   // from frame t to t + 1
  Target backward;  // from frame t + 1 to t
  float bound_px;   // of the bytes
  bool subtract_mean;
};

struct Kernel {
  const char* name;
  void (*tvl1)(const Frames&, const TVL1Options&, const Outputs&);
  void (*tvl1_fast)(const Frames&, const TVL1FastOptions&, const Outputs&);
};

}  // namespace dualstream
