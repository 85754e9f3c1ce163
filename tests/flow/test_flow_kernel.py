"""The compiled kernel: what any flow method owes, and that all its instruction sets agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dualstream.errors import MissingDependencyError, ShapeError, UnknownNameError
from dualstream.flow import kernel
from dualstream.flow.kernel import instruction_sets, kernel_flow
from dualstream.flow.methods.params import TVL1FastParams, TVL1Params
from dualstream.flow.quantize import quantize

pytestmark = pytest.mark.skipif(
    not kernel.is_available(), reason="dualstream was installed without a compiler"
)

METHODS = [TVL1Params(), TVL1FastParams()]
IDS = ["tvl1", "tvl1-fast"]
MARGIN = 16


def waves(height: int, width: int, *, x: float = 0, y: float = 0) -> NDArray[np.uint8]:
    """(H, W) smooth texture without period, moved right by `x` and down by `y` pixels."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    image = np.zeros((height, width))
    for _ in range(40):
        angle, wavelength = rng.uniform(0, np.pi), rng.uniform(7, 40)
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        image += np.cos(2 * np.pi * along / wavelength + rng.uniform(0, 6))
    return np.clip(np.rint(128 + 16 * image), 0, 255).astype(np.uint8)


def forward(frames: NDArray[np.uint8], params: TVL1Params | TVL1FastParams) -> NDArray[np.float32]:
    result = kernel_flow(frames, params=params)[0]
    assert result is not None
    return result


def inside(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    return flow[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


@pytest.mark.parametrize("params", METHODS, ids=IDS)
def test_no_motion_is_exactly_zero(params: TVL1Params | TVL1FastParams) -> None:
    frames = np.stack([waves(97, 130)] * 3)
    assert not forward(frames, params).any()


@pytest.mark.parametrize("params", METHODS, ids=IDS)
@pytest.mark.parametrize(
    ("x", "y"), [(1, 0), (0, -2), (3, 2), (-6, 4), (0.5, 0), (0, 0.5), (-0.5, 1.5), (2.25, -0.75)]
)
def test_a_translation_is_found(params: TVL1Params | TVL1FastParams, x: float, y: float) -> None:
    flow = forward(np.stack([waves(120, 160), waves(120, 160, x=x, y=y)]), params)
    error = inside(flow[0]) - np.array([x, y], np.float32)[:, None, None]
    assert np.abs(error).mean() < 0.02
    assert np.percentile(np.abs(error), 99) < 0.05


@pytest.mark.parametrize("params", METHODS, ids=IDS)
def test_mirrored_transposed_and_swapped_images(params: TVL1Params | TVL1FastParams) -> None:
    # Gradients look ahead and divergences back, patches lie on a grid that starts top left, and
    # rounding to bytes differs: hence a tolerance, of mean .02 px where the motion is 2.5 px.
    frames = np.stack([waves(128, 160), waves(128, 160, x=1.5, y=-2)])
    flow = inside(forward(frames, params))
    mirrored = inside(forward(frames[:, :, ::-1], params))[..., ::-1].copy()
    mirrored[:, 0] *= -1
    assert np.abs(mirrored - flow).mean() < 0.02
    upside_down = inside(forward(frames[:, ::-1], params))[..., ::-1, :].copy()
    upside_down[:, 1] *= -1
    assert np.abs(upside_down - flow).mean() < 0.02
    transposed = inside(forward(frames.transpose(0, 2, 1), params))
    assert np.abs(transposed.transpose(0, 1, 3, 2)[:, ::-1] - flow).mean() < 0.02
    swapped = inside(forward(frames[::-1], params))
    assert np.abs(swapped + flow).mean() < 0.02


def clip(count: int, height: int = 90, width: int = 117) -> NDArray[np.uint8]:
    """Frames of a pan that changes its pace."""
    return np.stack([waves(height, width, x=0.4 * t * t, y=-0.7 * t) for t in range(count)])


@pytest.mark.parametrize("params", METHODS, ids=IDS)
def test_a_field_does_not_depend_on_the_others(params: TVL1Params | TVL1FastParams) -> None:
    frames = clip(5)
    both = kernel_flow(frames, params=params, backward=True)
    for t in range(4):
        pair = kernel_flow(frames[t : t + 2], params=params, backward=True)
        for alone, together in zip(pair, both, strict=True):
            assert alone is not None
            assert together is not None
            np.testing.assert_array_equal(alone[0], together[t])
    np.testing.assert_array_equal(forward(frames[::-1], params)[::-1], both[1])


@pytest.mark.parametrize("params", METHODS, ids=IDS)
def test_threads_do_not_change_the_result(params: TVL1Params | TVL1FastParams) -> None:
    clips = [clip(3), clip(3, 64, 64), clip(2, 33, 150), clip(3)]
    alone = [forward(frames, params) for frames in clips]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda frames: forward(frames, params), clips * 3))
    for number, flow in enumerate(together):
        np.testing.assert_array_equal(flow, alone[number % len(clips)])


@pytest.mark.parametrize("params", METHODS, ids=IDS)
@pytest.mark.parametrize("arithmetic", ["exact", "approximate"])
def test_instruction_sets_agree(params: TVL1Params | TVL1FastParams, arithmetic: str) -> None:
    assert instruction_sets()[-1] == "plain"
    settings_ = replace(params, arithmetic=arithmetic)
    frames = clip(3)
    expected = forward(frames, replace(params, arithmetic="exact"))
    for name in instruction_sets():
        flow = kernel_flow(frames, params=settings_, instructions=name)[0]
        assert flow is not None
        # In exact arithmetic only the order of sums differs; measured 6e-6 px.
        assert np.abs(flow - expected).mean() < (1e-4 if arithmetic == "exact" else 2e-3), name


@pytest.mark.parametrize("median_size", [1, 3, 5])
def test_median_sizes_run_alike_on_every_instruction_set(median_size: int) -> None:
    # A speck in textureless surroundings, which a median takes away and its absence leaves.
    frames = np.full((2, 40, 52), 90, np.uint8)
    frames[0, 20:22, 20:22] = 200
    frames[1, 20:22, 22:24] = 200
    params = TVL1Params(scales=1, median_size=median_size)
    flows = [
        kernel_flow(frames, params=params, instructions=name)[0] for name in instruction_sets()
    ]
    for flow in flows:
        assert flow is not None
        np.testing.assert_allclose(flow, flows[-1], atol=1e-3)


def test_bytes_are_those_of_quantize() -> None:
    frames = clip(4) * np.uint8(1)
    flows = kernel_flow(frames, params=TVL1FastParams(), backward=True)
    for bound_px in (20.0, 1.0, 0.3):
        pair = kernel_flow(frames, params=TVL1FastParams(), backward=True, bound_px=bound_px)
        for flow, data in zip(flows, pair, strict=True):
            assert flow is not None
            np.testing.assert_array_equal(data, quantize(flow, bound_px=bound_px))
    there, back = kernel_flow(
        frames, params=TVL1FastParams(), forward=False, backward=True, bound_px=20.0
    )
    assert there is None
    np.testing.assert_array_equal(back, quantize(flows[1]))


def test_subtracted_means() -> None:
    frames = clip(3)
    plain = forward(frames, TVL1FastParams())
    flow, _ = kernel_flow(frames, params=TVL1FastParams(), subtract_mean=True)
    expected = plain - plain.mean(axis=(2, 3), keepdims=True)
    assert flow is not None
    np.testing.assert_allclose(flow, expected, atol=1e-5)
    data, _ = kernel_flow(frames, params=TVL1FastParams(), subtract_mean=True, bound_px=20.0)
    np.testing.assert_array_equal(data, quantize(flow))


@settings(max_examples=60)
@given(
    height=st.integers(1, 45),
    width=st.integers(1, 75),
    seed=st.integers(0, 2**16),
    kind=st.sampled_from(["noise", "constant", "cut"]),
    is_fast=st.booleans(),
)
def test_any_size_and_content_gives_finite_flow_on_every_instruction_set(
    height: int, width: int, seed: int, kind: str, is_fast: bool
) -> None:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (2, height, width)).astype(np.uint8)
    if kind == "constant":
        frames[:] = frames[0, 0, 0]
    elif kind == "cut":
        frames[1] = 255 - frames[0] // 4
    params = TVL1FastParams(smallest_px=8) if is_fast else TVL1Params(warps=2, outer_iterations=2)
    flows = []
    for name in instruction_sets():
        flow = kernel_flow(frames, params=params, instructions=name)[0]
        assert flow is not None
        assert np.isfinite(flow).all()
        flows.append(flow)
    if kind == "constant":
        assert not flows[0].any()


def test_a_single_pixel_and_a_single_row() -> None:
    for shape in ((2, 1, 1), (2, 1, 60), (3, 60, 1), (2, 15, 15)):
        for params in METHODS:
            flow = forward(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), params)
            assert flow.shape == (shape[0] - 1, 2, *shape[1:])
            assert np.isfinite(flow).all()


def test_strided_and_read_only_frames() -> None:
    frames = clip(3)
    wide = np.zeros((3, frames.shape[1], 2 * frames.shape[2]), np.uint8)
    wide[:, :, ::2] = frames
    strided = wide[:, :, ::2]
    assert not strided.flags.c_contiguous
    strided.flags.writeable = False
    params = TVL1FastParams()
    np.testing.assert_array_equal(forward(strided, params), forward(frames, params))
    frames.flags.writeable = False
    np.testing.assert_array_equal(forward(strided, params), forward(frames, params))


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 8, 8), np.float64),
        np.full((2, 8, 8), np.nan, np.float32),
        np.zeros((2, 8, 8), np.uint16),
        np.zeros((1, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((2, 0, 8), np.uint8),
    ],
)
def test_other_arrays_are_refused(frames: NDArray[np.uint8]) -> None:
    with pytest.raises(ShapeError, match=r"two or more grey frames \(T, H, W\) uint8, got"):
        kernel_flow(frames, params=TVL1Params())


def test_unknown_instructions_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="instruction set"):
        kernel_flow(clip(2), params=TVL1Params(), instructions="avx9")


def test_without_the_kernel_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_tvl1", None)
    assert not kernel.is_available()
    assert instruction_sets() == ()
    with pytest.raises(MissingDependencyError, match="installed without a C\\+\\+ compiler"):
        kernel_flow(clip(2), params=TVL1Params())


def test_the_first_flow_of_a_thread_is_that_of_the_next() -> None:
    # Memory is used again from call to call: what was in it must not show.
    large, small = clip(2, 120, 150), clip(2, 40, 41)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(forward, small, TVL1FastParams()).result()
        pool.submit(forward, large, TVL1Params()).result()
        again = pool.submit(forward, small, TVL1FastParams()).result()
    np.testing.assert_array_equal(first, again)
