"""Flow as bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dualstream.errors import InputError, ShapeError
from dualstream.flow import (
    dequantize,
    encoded,
    from_denseflow,
    pixels,
    quantize,
    quantize_denseflow,
)
from dualstream.types import Flow


def column(*values: float) -> np.ndarray:
    """(1, 2, 1, n) with the values in both channels."""
    return np.broadcast_to(np.array(values, np.float32), (1, 2, 1, len(values))).copy()


@pytest.mark.parametrize(
    ("d", "byte"),
    # round(d * 127.5 / 20) + 128 by hand: 1 px is 6.375 steps
    [(0, 128), (1, 134), (-1, 122), (10, 192), (-10, 64), (20, 255), (-20, 0), (99, 255), (-99, 0)],
)
def test_bytes_of_known_displacements(d, byte):
    assert quantize(column(d)).ravel().tolist() == [byte, byte]


@given(
    arrays(np.float32, (2, 2, 3, 4), elements=st.floats(-19.75, 19.75, width=32)),
    st.sampled_from([1.0, 5.5, 20.0, 64.0]),
)
def test_round_trip_is_off_by_half_a_step_at_most(flow, bound_px):
    flow = flow * np.float32(bound_px / 20)
    back = dequantize(quantize(flow, bound_px=bound_px), bound_px=bound_px)
    assert back.dtype == np.float32
    assert np.abs(back - flow).max() <= bound_px / 255 * 1.0001


@given(arrays(np.float32, (1, 2, 2, 3), elements=st.floats(-19.75, 19.75, width=32)))
def test_a_flip_turns_byte_b_into_256_minus_b(flow):
    there, back = quantize(flow).astype(int), quantize(-flow).astype(int)
    inside = (there > 0) & (back > 0)
    assert (there + back)[inside].tolist() == [256] * int(inside.sum())


def test_no_motion_is_exact_for_every_bound():
    for bound_px in (0.3, 1.0, 7.7, 20.0, 100.0):
        data = quantize(np.zeros((3, 2, 4, 5), np.float32), bound_px=bound_px)
        assert (data == 128).all()
        assert (dequantize(data, bound_px=bound_px) == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("encode", [quantize, quantize_denseflow])
def test_not_a_number_is_refused_with_its_place(encode, bad):
    flow = np.zeros((2, 2, 3, 4), np.float32)
    flow[1, 0, 2, 3] = bad
    with pytest.raises(InputError, match=r"\(1, 0, 2, 3\)"):
        encode(flow)


@pytest.mark.parametrize("bound_px", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_bounds_are_refused(bound_px):
    with pytest.raises(InputError, match="bound_px"):
        quantize(column(0), bound_px=bound_px)
    with pytest.raises(InputError, match="bound_px"):
        dequantize(np.zeros(3, np.uint8), bound_px=bound_px)


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"\(1, 3, 2, 2\)"):
        quantize(np.zeros((1, 3, 2, 2), np.float32))
    with pytest.raises(ShapeError, match="int64"):
        quantize(np.zeros((1, 2, 2, 2), np.int64))
    with pytest.raises(ShapeError, match="float32"):
        dequantize(np.zeros((1, 2, 2, 2), np.float32))


def test_the_input_is_left_alone():
    flow = column(3.3, -50)
    before = flow.copy()
    quantize(flow)
    quantize_denseflow(flow)
    assert (flow == before).all()


def test_denseflow_bytes():
    # cvRound(255 * (d + 20) / 40): 127.5 -> 128 (to even), 1 px -> 133.875 -> 134
    data = quantize_denseflow(column(0, 1, -1, 20, -20, 50, -50))
    assert data[0, 0, 0].tolist() == [128, 134, 121, 255, 0, 255, 0]


def test_denseflow_bytes_become_ours():
    data = np.array([0, 1, 126, 127, 128, 129, 254, 255], np.uint8)
    assert from_denseflow(data).tolist() == [1, 2, 127, 128, 128, 129, 254, 255]


@given(arrays(np.float32, (1, 2, 2, 3), elements=st.floats(-19.75, 19.75, width=32)))
def test_denseflow_round_trip_is_off_by_a_step_at_most(flow):
    back = dequantize(from_denseflow(quantize_denseflow(flow)))
    assert np.abs(back - flow).max() <= 20 / 127.5 * 1.0001


def test_flow_of_bytes_and_of_pixels():
    data = np.full((1, 2, 1, 3), [0.0, 1.0, -20.0], np.float32)
    flow = Flow(data, "dis")
    stored = Flow(encoded(flow), "dis", bound_px=20.0)
    assert stored.data[0, 0, 0].tolist() == [128, 134, 0]
    assert pixels(stored)[0, 0, 0] == pytest.approx([0, 0.941176, -20.07843], abs=1e-5)
    assert pixels(flow) is data
    assert encoded(stored) is stored.data
    # The same displacements with half the bound.
    assert encoded(stored, bound_px=10.0)[0, 0, 0].tolist() == [128, 140, 0]
    with pytest.raises(ShapeError, match="uint8"):
        Flow(data, "dis", bound_px=20.0)
    with pytest.raises(ShapeError, match="float32"):
        Flow(stored.data, "dis")
    with pytest.raises(InputError, match="bound_px"):
        Flow(stored.data, "dis", bound_px=0.0)
