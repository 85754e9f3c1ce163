"""TV-L1 in torch: what any flow method owes, and that it gives the kernel's flow."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dualstream.flow import kernel, read_flo
from dualstream.flow.methods.params import TVL1FastParams, TVL1Params
from dualstream.flow.on_torch import tvl1
from dualstream.flow.on_torch.tvl1 import count_halves, level_sizes, tvl1_flow
from dualstream.video import read_video

METHODS = pytest.mark.parametrize(
    "params", [TVL1Params(), TVL1FastParams(smallest_px=16)], ids=["tvl1", "tvl1-fast"]
)
NEEDS_KERNEL = pytest.mark.skipif(
    not kernel.is_available(), reason="dualstream was installed without a compiler"
)


def flow_of(frames, params, **directions):
    return tvl1_flow(frames, params=params, **directions)


def texture(height=64, width=80, *, x=0.0, y=0.0, seed=1) -> np.ndarray:
    """(H, W) smooth noise, moved right by x and down by y."""
    noise = np.random.default_rng(seed).normal(size=(height + 40, width + 40)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2) * 300 + 128
    matrix = np.array([[1, 0, x - 20], [0, 1, y - 20]], np.float64)
    moved = cv2.warpAffine(smooth, matrix, (width, height), flags=cv2.INTER_CUBIC)
    return np.clip(moved.round(), 0, 255).astype(np.uint8)


def difference(a, b) -> np.ndarray:
    """Lengths in px of the differences of two fields (N, 2, H, W)."""
    return np.hypot(*(a - b).transpose(1, 0, 2, 3))


@pytest.mark.parametrize(
    ("size", "scales", "step", "expected"),
    [
        ((100, 40), 5, 0.5, [(100, 40), (50, 20)]),
        ((64, 64), 3, 0.5, [(64, 64), (32, 32), (16, 16)]),
        ((64, 64), 4, 0.5, [(64, 64), (32, 32), (16, 16)]),
        ((240, 320), 5, 0.8, [(240, 320), (192, 256), (154, 205), (123, 164), (98, 131)]),
        ((10, 300), 5, 0.8, [(10, 300)]),
        ((50, 50), 1, 0.8, [(50, 50)]),
    ],
)
def test_level_sizes(size, scales, step, expected):
    assert level_sizes(*size, scales=scales, scale_step=step) == expected


@pytest.mark.parametrize(
    ("size", "smallest_px", "expected"),
    [
        ((240, 320), 32, 2),
        ((60, 80), 32, 0),
        ((64, 80), 32, 1),
        ((65, 400), 16, 2),
        ((16, 16), 1, 1),  # a patch is 8 pixels wide
        ((15, 16), 1, 0),
    ],
)
def test_count_halves(size, smallest_px, expected):
    assert count_halves(*size, smallest_px=smallest_px) == expected


@METHODS
@pytest.mark.parametrize(("x", "y"), [(2.0, -1.0), (-0.6, 3.3)])
def test_a_translation_is_found(params, x, y):
    frames = np.stack([texture(), texture(x=x, y=y), texture(x=2 * x, y=2 * y)])
    forward, backward = flow_of(frames, params, backward=True)
    assert forward.shape == backward.shape == (2, 2, 64, 80)
    assert forward.dtype == np.float32
    for flow, sign in ((forward, 1), (backward, -1)):
        inside = flow[:, :, 8:-8, 8:-8]
        assert inside.mean((0, 2, 3)) == pytest.approx((sign * x, sign * y), abs=0.04)


@METHODS
def test_no_motion_is_exactly_zero(params):
    forward, backward = flow_of(np.stack([texture()] * 2), params, backward=True)
    assert not forward.any()
    assert not backward.any()


@METHODS
def test_directions_that_are_not_wanted_are_left_out(params):
    frames = np.stack([texture(32, 40, x=x) for x in (0, 1.5, 3)])
    both = flow_of(frames, params, backward=True)
    forward, nothing = flow_of(frames, params)
    assert nothing is None
    assert np.array_equal(forward, both[0])
    nothing, backward = flow_of(frames, params, forward=False, backward=True)
    assert nothing is None
    assert np.array_equal(backward, both[1])
    reverse, _ = flow_of(frames[::-1], params)
    assert np.allclose(reverse[::-1], backward, atol=1e-4)


@METHODS
@pytest.mark.parametrize("epsilon", [0.0, 0.01])
def test_a_pair_does_not_depend_on_the_others(monkeypatch, params, epsilon):
    # Still, moving and unrelated pairs stop after very different numbers of iterations.
    frames = np.stack([texture(x=x, seed=seed) for x, seed in ((0, 1), (0, 1), (3, 1), (0, 2))])
    params = replace(params, epsilon=epsilon, warps=2)
    if isinstance(params, TVL1Params):
        params = replace(params, outer_iterations=2)
    together = flow_of(frames, params, backward=True)
    monkeypatch.setattr(tvl1, "_CPU_PIXELS", 1)
    monkeypatch.setattr(tvl1, "_CPU_KEPT_PIXELS", 2 * 64 * 80)
    alone = flow_of(frames, params, backward=True)
    for field, alone_field in zip(together, alone, strict=True):
        assert np.allclose(field, alone_field, atol=1e-3)
    assert not together[0][0].any()
    assert np.median(together[0][1, 0]) == pytest.approx(3, abs=0.1)


@METHODS
def test_transposed_frames_have_the_transposed_flow(params):
    frames = np.stack([texture(48, 60), texture(48, 60, x=1.2, y=-0.7)])
    flow, _ = flow_of(frames, params)
    transposed, _ = flow_of(frames.transpose(0, 2, 1), params)
    assert np.median(difference(transposed.transpose(0, 1, 3, 2)[:, ::-1], flow)) < 5e-3


@METHODS
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (7, 40), (33, 17)])
def test_small_sizes_and_unrelated_frames_stay_finite(params, size):
    frames = np.random.default_rng(1).integers(0, 256, (3, *size), dtype=np.uint8)
    forward, _ = flow_of(frames, params)
    assert forward.shape == (2, 2, *size)
    assert np.isfinite(forward).all()


@METHODS
def test_strided_and_read_only_frames(params):
    frames = np.stack([texture(32, 40, x=x) for x in (0, 1.5)])
    expected, _ = flow_of(frames, params)
    wide = np.zeros((2, 32, 80), np.uint8)
    wide[..., ::2] = frames
    assert np.array_equal(flow_of(wide[..., ::2], params)[0], expected)
    frames.setflags(write=False)
    assert np.array_equal(flow_of(frames, params)[0], expected)


@METHODS
def test_error_is_about_opencvs(shared, params):
    # Mean end-point error in px over the known pixels of
    # cv2.optflow.DualTVL1OpticalFlow_create() (opencv-contrib-python-headless 5.0.0.93) on the
    # same grey images: 0.1568.
    images = [cv2.imread(str(shared / "flow" / f"rubberwhale{n}.png"), 0) for n in (1, 2)]
    truth = read_flo(shared / "flow" / "rubberwhale_gt.flo")
    known = np.abs(truth).max(0) < 1e9
    flow = flow_of(np.stack(images), params)[0][0]
    assert np.hypot(*(flow - truth))[known].mean() == pytest.approx(0.1568, rel=0.1)


def clip_frames(shared, name) -> np.ndarray:
    """Three frames of a real clip, 120 px high, grey."""
    frames = read_video(shared / "clips" / name, indices=[10, 12, 14]).data
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack([cv2.resize(g, (161, 120), interpolation=cv2.INTER_AREA) for g in grey])


@NEEDS_KERNEL
@pytest.mark.parametrize(
    "params",
    [
        TVL1Params(),
        TVL1Params(epsilon=0, outer_iterations=1, median_size=3, scales=3, scale_step=0.5),
        TVL1FastParams(),
        TVL1FastParams(warps=3, median_size=5, patch_stride=5, descent_steps=12, smallest_px=8),
    ],
    ids=["tvl1", "tvl1-short", "tvl1-fast", "tvl1-fast-long"],
)
@pytest.mark.parametrize("name", ["v_SoccerJuggling_g23_c01.avi", "arm_wrestling.mp4"])
def test_real_frames_have_the_kernels_flow(shared, params, name):
    frames = clip_frames(shared, name)
    expected = kernel.kernel_flow(frames, params=replace(params, arithmetic="exact"), backward=True)
    forward, backward = flow_of(frames, params, backward=True)
    for flow, kernel_flow in ((forward, expected[0]), (backward, expected[1])):
        apart = difference(flow, kernel_flow)
        # Where a pixel has no match, TV-L1 with many warps turns rounding into pixels; the
        # kernel's own instruction sets are then as far apart.
        assert np.median(apart) < 1e-3
        assert apart.mean() < (1e-3 if isinstance(params, TVL1FastParams) else 0.02)


@NEEDS_KERNEL
@METHODS
@pytest.mark.parametrize("size", [(64, 80), (51, 67), (20, 33), (2, 9)])
def test_generated_frames_have_the_kernels_flow(params, size):
    frames = np.stack([texture(*size, x=1.3 * t, y=-0.4 * t) for t in range(3)])
    frames[2] = np.minimum(frames[2].astype(int) + 6, 255)  # a brighter one
    expected = kernel.kernel_flow(frames, params=replace(params, arithmetic="exact"), backward=True)
    forward, backward = flow_of(frames, params, backward=True)
    assert difference(forward, expected[0]).mean() < 1e-3
    assert difference(backward, expected[1]).mean() < 1e-3
