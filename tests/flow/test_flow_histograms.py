"""Histograms of flow and of motion boundaries, against what follows from their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dualstream as ds
from dualstream.errors import InputError, ShapeError
from dualstream.flow.histograms import (
    HistogramGrid,
    boundary_histogram,
    flow_histogram,
    root_normalized,
)

ONE_CELL = HistogramGrid(rows=1, columns=1)


def constant(
    x: float, y: float, *, size: tuple[int, int] = (12, 16), length: int = 3
) -> np.ndarray:
    fields = np.empty((length, 2, *size), np.float32)
    fields[:, 0], fields[:, 1] = x, y
    return fields


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (2, 0, [2, 0, 0, 0, 0, 0, 0, 0, 0]),
        (0, 3, [0, 0, 3, 0, 0, 0, 0, 0, 0]),  # down
        (-1.5, 0, [0, 0, 0, 0, 1.5, 0, 0, 0, 0]),
        (0, -2, [0, 0, 0, 0, 0, 0, 2, 0, 0]),
        (3, 3, [0, 18**0.5, 0, 0, 0, 0, 0, 0, 0]),
        (0.3, 0, [0, 0, 0, 0, 0, 0, 0, 0, 1]),  # still
    ],
)
def test_motion_of_all_pixels_is_in_one_bin(x: float, y: float, expected: list[float]) -> None:
    histogram = flow_histogram(constant(x, y), ONE_CELL)
    assert histogram.shape == (1, 1, 1, 9)
    np.testing.assert_allclose(histogram[0, 0, 0], expected, atol=2e-3)


def test_direction_between_two_bins_is_shared_by_its_distance() -> None:
    angle = 2 * np.pi / 8 * 0.25  # a quarter of the way from right to right-down
    histogram = flow_histogram(constant(np.cos(angle), np.sin(angle)), ONE_CELL)[0, 0, 0]
    np.testing.assert_allclose(histogram[:3], [0.75, 0.25, 0], atol=2e-3)


def test_boundaries_of_constant_flow_are_zero() -> None:
    assert not boundary_histogram(constant(3, -7)).any()


def test_boundary_of_a_ramp_points_where_the_flow_grows() -> None:
    fields = constant(0, 0, size=(10, 12))
    fields[:, 0] += 0.5 * np.arange(12, dtype=np.float32)  # x grows to the right by .5 px a pixel
    fields[:, 1] -= 0.25 * np.arange(10, dtype=np.float32)[:, None]  # y falls downwards
    inner = boundary_histogram(fields[..., 1:-1, 1:-1], ONE_CELL)[0, 0, 0]
    # The border is mirrored, where the central difference of a ramp is zero: 8 of 10 columns.
    np.testing.assert_allclose(inner[0], [0.5 * 8 / 10, 0, 0, 0, 0, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(inner[1], [0, 0, 0, 0, 0, 0, 0.25 * 6 / 8, 0], atol=1e-3)


def test_cells_are_of_their_place_and_time() -> None:
    fields = constant(0, 0, size=(6, 9), length=5)
    fields[3:, 0, 4:, 5:] = 1  # the second half in time, low, right
    histogram = flow_histogram(fields, HistogramGrid(times=2, rows=2, columns=2))
    moving = histogram[..., 0]
    assert moving[0].max() == 0
    # Rows 3..5 and columns 5..8 of the picture are its last cell: 2 of 3 rows move.
    np.testing.assert_allclose(moving[1], [[0, 0], [0, 2 / 3]], atol=1e-6)
    np.testing.assert_allclose(histogram[1, 1, 1, -1], 1 / 3, atol=1e-6)


def test_flow_of_a_translating_pattern_is_in_the_bin_of_its_direction() -> None:
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(40, 220, (12, 16)), np.ones((6, 6))).astype(np.uint8)
    frames = np.stack([np.roll(texture, 2 * t, axis=1) for t in range(4)])
    fields = np.asarray(ds.optical_flow(frames).data, np.float32)[:, :, 12:-12, 12:-12]
    histogram = flow_histogram(fields, ONE_CELL)[0, 0, 0]
    assert histogram[0] == pytest.approx(2, abs=0.15)
    assert histogram[1:].sum() < 0.1 * histogram[0]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), turns=st.integers(1, 3))
def test_a_quarter_turn_moves_the_bins_by_a_quarter(seed: int, turns: int) -> None:
    fields = np.random.default_rng(seed).normal(0, 2, (2, 2, 6, 8)).astype(np.float32)
    turned = fields
    for _ in range(turns):  # right -> down -> left
        turned = np.stack((-turned[:, 1], turned[:, 0]), axis=1)
    before, after = flow_histogram(fields, ONE_CELL), flow_histogram(turned, ONE_CELL)
    expected = np.roll(before[..., :-1], 2 * turns, axis=-1)
    np.testing.assert_allclose(after[..., :-1], expected, atol=5e-3)
    np.testing.assert_allclose(after[..., -1], before[..., -1], atol=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_cells_of_equal_size_have_the_mean_of_the_whole(seed: int) -> None:
    fields = np.random.default_rng(seed).normal(0, 1, (4, 2, 8, 12)).astype(np.float32)
    whole = flow_histogram(fields, ONE_CELL)[0, 0, 0]
    parts = flow_histogram(fields, HistogramGrid(times=2, rows=2, columns=3))
    np.testing.assert_allclose(parts.mean(axis=(0, 1, 2)), whole, rtol=1e-4)


def test_root_normalized() -> None:
    found = root_normalized(np.array([[1, 3], [0, 0]], np.float32))
    np.testing.assert_allclose(found, [[0.5, 0.75**0.5], [0, 0]], rtol=1e-6)
    with pytest.raises(ShapeError, match="histograms must be"):
        root_normalized(np.ones(3, np.float32))


def test_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="too few for a grid of 4 x 1 x 1"):
        flow_histogram(constant(1, 0), HistogramGrid(times=4, rows=1, columns=1))
    with pytest.raises(ShapeError, match="fields must be"):
        flow_histogram(np.zeros((3, 12, 16), np.float32))
    with pytest.raises(InputError, match="bins must be at least 1"):
        HistogramGrid(bins=0)
