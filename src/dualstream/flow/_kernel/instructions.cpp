// The kernel for one instruction set: compiled once for each, with DUALSTREAM_ISA its name.
#include "buffer.hpp"
#include "kernel.hpp"
#include "quantize.hpp"
#include "tvl1.hpp"
#include "tvl1_fast.hpp"

namespace dualstream::DUALSTREAM_ISA {
namespace {

void deliver(float* flow, std::size_t field, std::size_t pixels, const Target& target,
             const Outputs& outputs) {
  if (outputs.subtract_mean) {
    subtract_mean(flow, pixels);
    subtract_mean(flow + pixels, pixels);
  }
  if (target.bytes != nullptr) {
    quantize(flow, 2 * pixels, outputs.bound_px, target.bytes + field * 2 * pixels);
  }
}

// Both directions of every pair; what belongs to a frame is computed once for all of them.
template <typename Method, typename Options>
void run(const Frames& frames, const Options& options, const Outputs& outputs) {
  const std::size_t pixels = static_cast<std::size_t>(frames.height) * frames.width;
  Method method(options);
  typename Method::Frame slots[2];
  Buffer scratch;
  const auto solve = [&](const auto& from, const auto& to, std::size_t field,
                         const Target& target) {
    if (target.flow == nullptr && target.bytes == nullptr) return;
    float* flow = target.flow != nullptr ? target.flow + field * 2 * pixels
                                         : scratch.reserve(2 * pixels);
    method.solve(from, to, flow);
    deliver(flow, field, pixels, target, outputs);
  };
  method.set(slots[0], frames.pixels, frames.height, frames.width);
  for (std::size_t next = 1; next < frames.count; ++next) {
    method.set(slots[next % 2], frames.pixels + next * pixels, frames.height, frames.width);
    const auto &before = slots[(next - 1) % 2], &after = slots[next % 2];
    solve(before, after, next - 1, outputs.forward);
    solve(after, before, next - 1, outputs.backward);
  }
}

}  // namespace

void tvl1(const Frames& frames, const TVL1Options& options, const Outputs& outputs) {
  run<TVL1>(frames, options, outputs);
}

void tvl1_fast(const Frames& frames, const TVL1FastOptions& options, const Outputs& outputs) {
  run<TVL1Fast>(frames, options, outputs);
}

}  // namespace dualstream::DUALSTREAM_ISA
