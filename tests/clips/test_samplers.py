"""Positions of snippets, as tables of literal cases.

The starts of `segment_starts_center` come from running TSN's published formula
int(tick / 2 + tick * x), tick = (F - L + 1) / float(S), in Python.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.clips.plan import (
    bidirectional_indices,
    evenly_spaced_starts,
    segment_starts_center,
    segment_starts_random,
    snippet_indices,
)
from dualstream.errors import InputError

# fmt: off
TICKS_OF_39_FIELDS = [
    0, 1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 21, 22, 23, 24, 25, 27, 28, 29,
]
TICKS_OF_250_FRAMES = [
    5, 15, 25, 35, 45, 55, 65, 75, 85, 95, 105, 115, 125, 135, 145, 155, 165, 175, 185, 195,
    205, 215, 225, 235, 245,
]
EVEN_OF_40_FRAMES = [
    0, 1, 3, 4, 6, 8, 9, 11, 13, 14, 16, 17, 19, 21, 22, 24, 26, 27, 29, 30, 32, 34, 35, 37, 39,
]
# fmt: on

counts = st.integers(1, 400)
small = st.integers(1, 40)


@pytest.mark.parametrize(
    ("num_frames", "segments", "length", "expected"),
    [
        (30, 3, 5, [4, 13, 21]),
        (10, 3, 1, [1, 5, 8]),
        (40, 3, 1, [6, 20, 33]),
        (39, 3, 10, [5, 15, 25]),
        (15, 7, 1, [1, 3, 5, 7, 9, 11, 13]),
        (12, 8, 5, [0, 1, 2, 3, 4, 5, 6, 7]),
        (7, 3, 5, [0, 1, 2]),
        (6, 3, 5, [0, 1, 1]),
        (5, 3, 5, [0, 0, 0]),
        (3, 3, 5, [0, 0, 0]),  # shorter than a snippet
        (399, 11, 10, [17, 53, 88, 124, 159, 194, 230, 265, 301, 336, 372]),  # exact: 195
        (
            39,
            25,
            10,
            TICKS_OF_39_FIELDS,
        ),
        (
            250,
            25,
            1,
            TICKS_OF_250_FRAMES,
        ),
    ],
)
def test_segment_centers(num_frames: int, segments: int, length: int, expected: list[int]) -> None:
    starts = segment_starts_center(num_frames, segments=segments, length=length)
    assert starts.tolist() == expected


@pytest.mark.parametrize(
    ("num_frames", "segments", "length", "low", "high"),
    [
        (30, 3, 5, [0, 8, 16], [7, 15, 23]),
        (10, 3, 1, [0, 3, 6], [2, 5, 8]),
        (7, 3, 5, [0, 1, 2], [0, 1, 2]),
        (40, 1, 10, [0], [30]),
        (2, 3, 1, [0, 0, 0], [0, 0, 0]),
        (5, 3, 10, [0, 0, 0], [0, 0, 0]),
    ],
)
def test_random_segments_reach_exactly_their_part(
    num_frames: int, segments: int, length: int, low: list[int], high: list[int]
) -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack(
        [
            segment_starts_random(num_frames, segments=segments, length=length, rng=rng)
            for _ in range(400)
        ]
    )
    assert drawn.min(axis=0).tolist() == low
    assert drawn.max(axis=0).tolist() == high


def test_random_segments_are_sorted_where_parts_are_empty() -> None:
    # 12 frames, snippets of 10: 3 starts for 5 segments, so they are drawn from all and sorted.
    rng = np.random.default_rng(0)
    drawn = [segment_starts_random(12, segments=5, length=10, rng=rng) for _ in range(50)]
    assert all(np.all(np.diff(starts) >= 0) for starts in drawn)
    assert {int(start) for starts in drawn for start in starts} == {0, 1, 2}


def test_random_segments_with_a_seed() -> None:
    # Kept from numpy's default_rng([seed, epoch, index]): a change would change every training.
    rng = np.random.default_rng([0, 1, 2])
    assert segment_starts_random(100, segments=3, length=5, rng=rng).tolist() == [17, 60, 73]


@pytest.mark.parametrize(
    ("num_frames", "count", "length", "expected"),
    [
        (100, 5, 10, [0, 22, 45, 67, 90]),
        (16, 10, 1, [0, 1, 3, 5, 6, 8, 10, 11, 13, 15]),
        (7, 1, 3, [2]),
        (10, 4, 10, [0, 0, 0, 0]),
        (4, 3, 10, [0, 0, 0]),
        (
            40,
            25,
            1,
            EVEN_OF_40_FRAMES,
        ),
        (250, 25, 10, list(range(0, 250, 10))),
    ],
)
def test_evenly_spaced(num_frames: int, count: int, length: int, expected: list[int]) -> None:
    assert evenly_spaced_starts(num_frames, count=count, length=length).tolist() == expected


@pytest.mark.parametrize(
    ("starts", "count", "stride", "num_frames", "expected"),
    [
        ([0, 7], 3, 2, 10, [[0, 2, 4], [7, 9, 9]]),
        ([4], 1, 5, 5, [[4]]),
        ([0, 0], 4, 1, 2, [[0, 1, 1, 1], [0, 1, 1, 1]]),
    ],
)
def test_snippet_indices(
    starts: list[int], count: int, stride: int, num_frames: int, expected: list[list[int]]
) -> None:
    indices = snippet_indices(np.array(starts), count=count, stride=stride, num_frames=num_frames)
    assert indices.tolist() == expected


@pytest.mark.parametrize(
    ("starts", "count", "stride", "num_frames", "expected"),
    [
        ([0, 7], 3, 2, 10, [[0, 2, 4], [7, 9, 1]]),
        ([0], 7, 1, 3, [[0, 1, 2, 0, 1, 2, 0]]),
        ([0], 3, 2, 1, [[0, 0, 0]]),
    ],
)
def test_snippet_indices_of_a_looped_video(
    starts: list[int], count: int, stride: int, num_frames: int, expected: list[list[int]]
) -> None:
    indices = snippet_indices(
        np.array(starts), count=count, stride=stride, num_frames=num_frames, beyond_end="loop"
    )
    assert indices.tolist() == expected


@given(num_frames=counts, segments=small, length=small, seed=st.integers(0, 5))
def test_every_sampler_stays_inside(num_frames: int, segments: int, length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    last = max(num_frames - length, 0)
    for starts in (
        segment_starts_random(num_frames, segments=segments, length=length, rng=rng),
        segment_starts_center(num_frames, segments=segments, length=length),
        evenly_spaced_starts(num_frames, count=segments, length=length),
    ):
        assert starts.dtype == np.int64
        assert starts.shape == (segments,)
        assert starts.min() >= 0
        assert starts.max() <= last


@pytest.mark.parametrize(
    "call",
    [
        lambda: segment_starts_center(0, segments=3, length=1),
        lambda: segment_starts_center(5, segments=0, length=1),
        lambda: segment_starts_random(5, segments=3, length=0, rng=np.random.default_rng(0)),
        lambda: evenly_spaced_starts(5, count=0, length=1),
        lambda: snippet_indices(np.zeros(1, np.int64), count=1, stride=0, num_frames=1),
    ],
)
def test_counts_below_one_are_named(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=r"must be at least 1, got 0"):
        call()


@pytest.mark.parametrize(
    ("start", "count", "stride", "num_fields", "forward", "backward"),
    [
        (10, 6, 1, 100, [13, 14, 15], [12, 11, 10]),
        (10, 4, 3, 100, [16, 19], [15, 12]),
        (0, 2, 1, 2, [1], [0]),
        (6, 4, 1, 9, [8, 8], [7, 6]),  # beyond the end: the last field
        (0, 6, 1, 2, [1, 1, 1], [1, 1, 0]),
    ],
)
def test_bidirectional(
    start: int,
    count: int,
    stride: int,
    num_fields: int,
    forward: list[int],
    backward: list[int],
) -> None:
    ahead, behind = bidirectional_indices(
        np.array([start]), count=count, stride=stride, num_fields=num_fields
    )
    assert ahead.tolist() == [forward]
    assert behind.tolist() == [backward]


def test_bidirectional_needs_an_even_count() -> None:
    with pytest.raises(InputError, match="even count, got 5"):
        bidirectional_indices(np.array([0]), count=5, stride=1, num_fields=9)
