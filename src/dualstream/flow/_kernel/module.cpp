// The Python module dualstream.flow._tvl1.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <vector>

#include "dispatch.hpp"
#include "kernel.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace dualstream {
namespace {

using FrameArray = nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using FlowArray = nb::ndarray<float, nb::shape<-1, 2, -1, -1>, nb::c_contig, nb::device::cpu>;
using ByteArray = nb::ndarray<std::uint8_t, nb::shape<-1, 2, -1, -1>, nb::c_contig,
                              nb::device::cpu>;

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernel& kernel : kernels()) names.emplace_back(kernel.name);
  return names;
}

const Kernel& kernel_named(const std::string& name) {
  for (const Kernel& kernel : kernels()) {
    if (name.empty() || name == kernel.name) return kernel;
  }
  throw nb::value_error(("this processor cannot run " + name).c_str());
}

template <typename Array>
auto* target(const std::optional<Array>& array, const FrameArray& frames) {
  using Pointer = decltype(array->data());
  if (!array) return Pointer{nullptr};
  if (array->shape(0) + 1 != frames.shape(0) || array->shape(2) != frames.shape(1) ||
      array->shape(3) != frames.shape(2)) {
    throw nb::value_error("an output must be (T-1, 2, H, W) for frames (T, H, W)");
  }
  return array->data();
}

// Python's view of Outputs: arrays to fill, or None.
struct Arrays {
  std::optional<FlowArray> forward, backward;
  std::optional<ByteArray> forward_bytes, backward_bytes;
  float bound_px;
  bool subtract_mean;

  Outputs outputs(const FrameArray& frames) const {
    return {{target(forward, frames), target(forward_bytes, frames)},
            {target(backward, frames), target(backward_bytes, frames)},
            bound_px,
            subtract_mean};
  }
};

template <typename Options>
void run(void (*Kernel::*method)(const Frames&, const Options&, const Outputs&),
         const FrameArray& array, const Options& options, const Arrays& arrays,
         const std::string& instructions) {
  const Kernel& kernel = kernel_named(instructions);
  const Outputs outputs = arrays.outputs(array);
  const Frames frames = {array.data(), array.shape(0), static_cast<int>(array.shape(1)),
                         static_cast<int>(array.shape(2))};
  nb::gil_scoped_release release;
  (kernel.*method)(frames, options, outputs);
}

}  // namespace

NB_MODULE(_tvl1, m) {
  m.attr("MOST_SCALES") = kMostScales;
  m.def("instruction_sets", &instruction_sets);

  nb::class_<Energy>(m, "Energy")
      .def("__init__",
           [](Energy* self, float tau, float lambda, float theta, bool exact) {
             new (self) Energy{tau, lambda, theta, exact};
           },
           nb::kw_only(), "tau"_a, "lambda_"_a, "theta"_a, "exact"_a);
  nb::class_<Schedule>(m, "Schedule")
      .def("__init__",
           [](Schedule* self, int warps, int inner, int outer, int median, float epsilon) {
             new (self) Schedule{warps, inner, outer, median, epsilon};
           },
           nb::kw_only(), "warps"_a, "inner_iterations"_a, "outer_iterations"_a, "median_size"_a,
           "epsilon"_a);
  nb::class_<TVL1Options>(m, "TVL1Options")
      .def("__init__",
           [](TVL1Options* self, const Energy& energy, const Schedule& schedule, int scales,
              float scale_step) {
             new (self) TVL1Options{energy, schedule, scales, scale_step};
           },
           nb::kw_only(), "energy"_a, "schedule"_a, "scales"_a, "scale_step"_a);
  nb::class_<TVL1FastOptions>(m, "TVL1FastOptions")
      .def("__init__",
           [](TVL1FastOptions* self, const Energy& energy, const Schedule& schedule,
              float coarse_lambda, const Schedule& coarse_schedule, int patch_stride,
              int descent_steps, int rounds, int smallest_px) {
             new (self) TVL1FastOptions{energy, schedule, coarse_lambda, coarse_schedule,
                                        {patch_stride, descent_steps, rounds, smallest_px}};
           },
           nb::kw_only(), "energy"_a, "schedule"_a, "coarse_lambda"_a, "coarse_schedule"_a,
           "patch_stride"_a, "descent_steps"_a, "rounds"_a, "smallest_px"_a);
  nb::class_<Arrays>(m, "Arrays")
      .def("__init__",
           [](Arrays* self, std::optional<FlowArray> forward, std::optional<FlowArray> backward,
              std::optional<ByteArray> forward_bytes, std::optional<ByteArray> backward_bytes,
              float bound_px, bool subtract_mean) {
             new (self) Arrays{std::move(forward), std::move(backward), std::move(forward_bytes),
                               std::move(backward_bytes), bound_px, subtract_mean};
           },
           nb::kw_only(), "forward"_a.none(), "backward"_a.none(), "forward_bytes"_a.none(),
           "backward_bytes"_a.none(), "bound_px"_a, "subtract_mean"_a);

  m.def(
      "tvl1",
      [](const FrameArray& frames, const TVL1Options& options, const Arrays& arrays,
         const std::string& instructions) {
        run(&Kernel::tvl1, frames, options, arrays, instructions);
      },
      "frames"_a, "options"_a, "arrays"_a, "instructions"_a = "");
  m.def(
      "tvl1_fast",
      [](const FrameArray& frames, const TVL1FastOptions& options, const Arrays& arrays,
         const std::string& instructions) {
        run(&Kernel::tvl1_fast, frames, options, arrays, instructions);
      },
      "frames"_a, "options"_a, "arrays"_a, "instructions"_a = "");
}

}  // namespace dualstream
