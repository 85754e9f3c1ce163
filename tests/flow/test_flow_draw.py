"""Flow as colours."""

import numpy as np
import pytest

from dualstream.errors import InputError, ShapeError
from dualstream.flow import flow_to_rgb


@pytest.mark.parametrize(
    ("vector", "colour"),
    # Printed by Middlebury's computeColor (colorcode.cpp, compiled with gcc 12, no optimisation);
    # it computes in float32, which moves a value by 1 where it lies on a whole byte.
    [
        ((1, 0), (255, 0, 0)),
        ((-1, 0), (0, 209, 255)),
        ((0, 1), (255, 229, 0)),
        ((0, -1), (87, 0, 255)),
        ((0, 0), (255, 255, 255)),
        ((2, 0), (191, 0, 0)),
        ((0.5, 0), (255, 127, 127)),
        ((-0.5, 0), (127, 232, 255)),
        ((0.3, 0.4), (255, 195, 127)),
        ((-0.6, -0.8), (0, 24, 255)),
        ((0.6, -0.3), (255, 83, 226)),
    ],
)
def test_colours_of_the_middlebury_wheel(vector, colour):
    flow = np.array(vector, np.float32).reshape(2, 1, 1)
    drawn = flow_to_rgb(flow, max_px=1.0)
    assert drawn.shape == (1, 1, 3)
    assert np.abs(drawn.ravel().astype(int) - colour).max() <= 1


def test_longest_motion_is_fully_saturated_by_default():
    flow = np.zeros((1, 2, 1, 3), np.float32)
    flow[0, 0, 0] = [0, 4, 8]
    assert flow_to_rgb(flow)[0, 0].tolist() == [[255, 255, 255], [255, 127, 127], [255, 0, 0]]


def test_no_motion_at_all_is_white():
    assert (flow_to_rgb(np.zeros((3, 2, 4, 5), np.float32)) == 255).all()


def test_unknown_flow_is_black_and_does_not_set_the_scale():
    flow = np.zeros((2, 1, 4), np.float32)
    flow[0, 0] = [1, 1e10, np.nan, np.inf]
    assert flow_to_rgb(flow)[0].tolist() == [[255, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_leading_dimensions_stay():
    assert flow_to_rgb(np.zeros((2, 3, 2, 4, 5), np.float32)).shape == (2, 3, 4, 5, 3)


def test_bad_input():
    with pytest.raises(ShapeError, match=r"\(3, 4, 5\)"):
        flow_to_rgb(np.zeros((3, 4, 5), np.float32))
    with pytest.raises(InputError, match="max_px"):
        flow_to_rgb(np.zeros((2, 4, 5), np.float32), max_px=0.0)
