// The Python module dualstream.flow._trajectories.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "trajectories.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace dualstream {
namespace {

using PlaneArray = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FieldArray = nb::ndarray<const float, nb::shape<2, -1, -1>, nb::c_contig, nb::device::cpu>;

Plane plane(const Tracker& tracker, const float* data, std::size_t height, std::size_t width) {
  if (static_cast<int>(height) != tracker.height() || static_cast<int>(width) != tracker.width()) {
    throw nb::value_error("a plane must have the tracker's height and width");
  }
  return {data, tracker.height(), tracker.width()};
}

// Finished tracks as an array (N, row_size) that owns its memory.
nb::ndarray<nb::numpy, float, nb::ndim<2>> as_array(std::vector<float>&& rows, int row_size) {
  auto* kept = new std::vector<float>(std::move(rows));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
  const auto size = static_cast<std::size_t>(row_size);
  return {kept->data(), {kept->size() / size, size}, owner};
}

}  // namespace

NB_MODULE(_trajectories, m) {
  m.attr("PATCH") = Tracker::kPatch;
  nb::class_<Tracker>(m, "Tracker")
      .def("__init__",
           [](Tracker* self, int height, int width, int length, int step) {
             if (height < Tracker::kPatch || width < Tracker::kPatch || step < 1 ||
                 length < Tracker::kTimes || length % Tracker::kTimes) {
               throw nb::value_error("sizes are at least a patch, lengths multiples of 3");
             }
             new (self) Tracker(height, width, length, step);
           },
           nb::kw_only(), "height"_a, "width"_a, "length"_a, "step"_a)
      .def("sample",
           [](Tracker& self, const PlaneArray& corners, float threshold) {
             self.sample(plane(self, corners.data(), corners.shape(0), corners.shape(1)),
                         threshold);
           },
           "corners"_a, "threshold"_a)
      .def("follow",
           [](Tracker& self, const PlaneArray& grey, const FieldArray& flow,
              const FieldArray& warped) {
             const Plane image = plane(self, grey.data(), grey.shape(0), grey.shape(1));
             Plane fields[2][2];
             for (int i = 0; i < 2; ++i) {
               const FieldArray& field = i == 0 ? flow : warped;
               for (int axis = 0; axis < 2; ++axis) {
                 fields[i][axis] = plane(self, field.data() + axis * field.shape(1) * field.shape(2),
                                         field.shape(1), field.shape(2));
               }
             }
             std::vector<float> rows;
             {
               nb::gil_scoped_release release;
               rows = self.follow(image, fields[0], fields[1]);
             }
             return as_array(std::move(rows), self.row_size());
           },
           "grey"_a, "flow"_a, "warped"_a);
}

}  // namespace dualstream
