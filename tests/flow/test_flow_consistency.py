"""Forward and backward flow: the criterion in closed form, and occlusion behind a moving square."""

import cv2
import numpy as np
import pytest

from dualstream.errors import FlowError, InputError, ShapeError
from dualstream.flow import FarnebackParams, optical_flow
from dualstream.flow.consistency import BidirectionalFlow, bidirectional_flow, check_consistency
from dualstream.types import Flow, Frames


def constant(x, y, *, size=(12, 16), count=1) -> Flow:
    data = np.empty((count, 2, *size), np.float32)
    data[:, 0], data[:, 1] = x, y
    return Flow(data, "constant")


def test_opposite_translations_agree_where_they_stay_in_the_image():
    both = check_consistency(constant(3, -2), constant(-3, 2))
    assert both.error_px.shape == both.consistent.shape == (1, 12, 16)
    assert both.error_px.dtype == np.float32
    assert (both.error_px == 0).all()
    assert both.consistent[0, 2:, :-3].all()
    assert not both.consistent[0, :2].any()
    assert not both.consistent[0, :, -3:].any()


@pytest.mark.parametrize(
    ("forward_x", "backward_x", "agrees"),
    [
        (0, 0, True),
        (0, 0.7, True),  # .49 < .01 (0 + .49) + .5 = .5049
        (0, 0.72, False),  # .5184 > .5052
        (4, -4, True),
        (4, -3.2, True),  # .64 < .01 (16 + 10.24) + .5 = .7624
        (4, -3.1, False),  # .81 > .7561
        (10, -8.6, True),  # 1.96 < .01 (100 + 73.96) + .5 = 2.2396
        (10, -8.5, False),  # 2.25 > 2.2225
    ],
)
def test_the_criterion(forward_x, backward_x, agrees):
    both = check_consistency(
        constant(forward_x, 0, size=(4, 40)), constant(backward_x, 0, size=(4, 40))
    )
    assert (both.consistent[0, :, :29] == agrees).all()
    assert np.allclose(both.error_px, abs(forward_x + backward_x))


def test_backward_flow_is_read_between_pixels_where_forward_flow_leads():
    # b(x) = -x / 2 and f(x) = x, so that f + b(x + f) = x + -(2 x) / 2 = 0
    x = np.arange(32, dtype=np.float32)
    forward = np.zeros((1, 2, 8, 32), np.float32)
    backward = np.zeros((1, 2, 8, 32), np.float32)
    forward[0, 0], backward[0, 0] = x, -x / 2
    both = check_consistency(Flow(forward, "a"), Flow(backward, "b"))
    assert np.abs(both.error_px[0, :, :16]).max() < 0.02
    assert both.consistent[0, :, :16].all()
    assert not both.consistent[0, :, 16:].any()
    # half a pixel to the right of x lies b = -(x + .5) / 2
    forward[0, 0] = 0.5
    both = check_consistency(Flow(forward, "a"), Flow(backward, "b"))
    expected = np.abs(0.5 - (x[:-1] + 0.5) / 2)
    assert np.allclose(both.error_px[0, :, :-1], expected, atol=0.01)


@pytest.mark.parametrize("axes", ["mirror", "transpose"])
def test_mirrored_and_transposed_fields_give_mirrored_and_transposed_maps(axes):
    rng = np.random.default_rng(2)
    smooth = [cv2.GaussianBlur(p, (0, 0), 2) for p in rng.normal(0, 8, (4, 20, 20))]
    forward, backward = np.float32(smooth).reshape(2, 1, 2, 20, 20)

    def turned(field):
        if axes == "transpose":
            return field[:, ::-1].swapaxes(2, 3).copy()
        return field[..., ::-1] * np.float32([-1, 1]).reshape(2, 1, 1)

    plain = check_consistency(Flow(forward, ""), Flow(backward, ""))
    other = check_consistency(Flow(turned(forward), ""), Flow(turned(backward), ""))
    back = (
        other.error_px.swapaxes(1, 2) if axes == "transpose" else other.error_px[..., ::-1],
        other.consistent.swapaxes(1, 2) if axes == "transpose" else other.consistent[..., ::-1],
    )
    assert np.allclose(plain.error_px, back[0], atol=0.05)
    assert (plain.consistent != back[1]).mean() < 0.01
    assert 0.05 < plain.consistent.mean() < 0.95


def test_far_motion_leaves_the_image_and_stays_finite():
    both = check_consistency(constant(1e12, -1e9), constant(0, 0))
    assert np.allclose(both.error_px, 1e12)
    assert not both.consistent.any()


def covered_scene(num_frames=3, step_px=4):
    """A textured square that moves right over a still texture, and (T, H, W) where it is."""
    rng = np.random.default_rng(5)
    still, square = (
        np.clip(cv2.GaussianBlur(rng.normal(size=(*s, 3)), (0, 0), 1.5) * 250 + 128, 0, 255)
        for s in [(96, 128), (40, 40)]
    )
    data = np.repeat(still[None], num_frames, axis=0).astype(np.uint8)
    where = np.zeros(data.shape[:3], bool)
    for t in range(num_frames):
        left = 30 + step_px * t
        data[t, 28:68, left : left + 40] = square
        where[t, 28:68, left : left + 40] = True
    return Frames(data, np.arange(num_frames) / 25, "square"), where


def test_what_the_square_hides_next_is_inconsistent():
    frames, where = covered_scene(step_px=8)
    both = bidirectional_flow(frames, method="dis")
    for t in range(2):
        hidden = where[t + 1] & ~where[t]
        hidden[:31] = hidden[65:] = False  # away from the square's corners
        seen = ~cv2.dilate((where[t] | where[t + 1]).astype(np.uint8), np.ones((25, 25))).astype(
            bool
        )
        assert both.consistent[t][hidden].mean() < 0.35
        assert both.consistent[t][seen].mean() > 0.98
        assert both.consistent[t][36:60, 40 + 8 * t : 60 + 8 * t].mean() > 0.95


def test_both_directions_are_those_of_optical_flow():
    frames, _ = covered_scene()
    params = FarnebackParams(levels=2)
    both = bidirectional_flow(frames, method="farneback", params=params, short_side=48)
    for direction, flow in (("forward", both.forward), ("backward", both.backward)):
        alone = optical_flow(
            frames, method="farneback", params=params, short_side=48, direction=direction
        )
        assert (flow.data == alone.data).all()
        assert (flow.method, flow.source) == ("farneback", "square")
    assert both.error_px.shape == (2, 48, 64)


def test_still_frames_agree_everywhere():
    frames, _ = covered_scene(step_px=0)
    assert bidirectional_flow(frames, method="dis").consistent.all()


def test_bad_input_is_named():
    with pytest.raises(ShapeError, match=r"one shape, got \(1, 2, 12, 16\) and \(2, 2, 12, 16\)"):
        check_consistency(constant(0, 0), constant(0, 0, count=2))
    broken = constant(0, 0)
    broken.data[0, 1, 3, 4] = np.nan
    with pytest.raises(InputError, match="Backward flow of memory holds a NaN"):
        check_consistency(constant(0, 0), broken)
    frames, _ = covered_scene(1)
    with pytest.raises(FlowError, match="square has 1"):
        bidirectional_flow(frames, method="dis")
    flow = constant(0, 0)
    with pytest.raises(ShapeError, match=r"error_px must be \(1, 12, 16\)"):
        BidirectionalFlow(flow, flow, np.zeros((1, 3, 3), np.float32), np.zeros((1, 12, 16), bool))
    with pytest.raises(ShapeError, match="must have one shape"):
        BidirectionalFlow(
            flow,
            constant(0, 0, count=2),
            np.zeros((1, 12, 16), np.float32),
            np.zeros((1, 12, 16), bool),
        )
