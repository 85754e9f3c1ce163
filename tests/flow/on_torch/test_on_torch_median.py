"""Median filter of flow planes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualstream.flow.on_torch.iterate import median_by_selection, median_filter


def slow_median(plane: np.ndarray, size: int) -> np.ndarray:
    half = size // 2
    padded = np.pad(plane, half, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    return np.median(windows, axis=(-2, -1))


@given(st.integers(0, 2**32), st.sampled_from([3, 5]), st.integers(1, 9), st.integers(1, 9))
def test_both_ways_give_the_median(seed, size, height, width):
    planes = np.random.default_rng(seed).normal(size=(2, 2, height, width)).astype(np.float32)
    expected = [[slow_median(plane, size) for plane in pair] for pair in planes]
    batch = torch.from_numpy(planes)
    assert np.array_equal(median_filter(batch, size), np.array(expected, np.float32))
    assert np.array_equal(median_by_selection(batch, size), np.array(expected, np.float32))


def test_size_1_changes_nothing():
    planes = torch.randn(1, 2, 4, 4)
    assert median_filter(planes, 1) is planes


@pytest.mark.parametrize("filtered", [median_filter, median_by_selection])
def test_a_single_outlier_disappears(filtered):
    planes = torch.zeros(1, 1, 5, 5)
    planes[0, 0, 2, 2] = 100
    assert not filtered(planes, 3).any()
