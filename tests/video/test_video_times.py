"""Presentation times, and windows of frames as they pass by."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.errors import InputError
from dualstream.video.times import (
    collect,
    cut_windows,
    evenly_spaced,
    frame_indices_at_rate,
    frames_between,
    frames_shown_at,
    mended_seconds,
    num_samples,
    resample,
)

NONE = float("nan")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([5.0, 6.0, 9.0], [5.0, 6.0, 9.0]),
        ([0.0, 2.0, 2.0, 4.0], [0.0, 2.0, 3.0, 4.0]),
        ([0.0, 0.3, 0.1, 0.2, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4]),
        ([0.0, 0.2, 0.2, 0.1, 0.8], [0.0, 0.1, 0.2, 0.5, 0.8]),
        ([0.0, 0.1, 0.2, 0.2], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 1.0, NONE, NONE], [0.0, 1.0, 2.0, 3.0]),
        ([NONE, 0.5, NONE, 1.5], [0.0, 0.5, 1.0, 1.5]),
        ([NONE, NONE, NONE], [0.0, 0.04, 0.08]),
        ([7.0], [7.0]),
        ([7.0, 7.0], [7.0, 7.04]),
        # The clock starts anew after 9 s (two recordings in one stream).
        ([8.0, 9.0, 0.0, 1.0, 2.0], [8.0, 9.0, 9.04, 10.04, 11.04]),
    ],
)
def test_mended_seconds(seconds, expected):
    assert mended_seconds(np.array(seconds), step=0.04).tolist() == pytest.approx(expected)


@given(st.lists(st.one_of(st.none(), st.integers(-50, 50)), min_size=1, max_size=40))
def test_mended_seconds_always_rise(ticks):
    seconds = np.array([NONE if tick is None else tick / 10 for tick in ticks])
    assert (np.diff(mended_seconds(seconds, step=0.04)) > 0).all()


@pytest.mark.parametrize(
    ("num_frames", "count", "expected"),
    [
        (10, 4, [1, 3, 6, 8]),
        (280, 3, [46, 140, 233]),
        (3, 5, [0, 0, 1, 2, 2]),
        (1, 2, [0, 0]),
        (5, 5, [0, 1, 2, 3, 4]),
    ],
)
def test_evenly_spaced(num_frames, count, expected):
    assert evenly_spaced(num_frames, count) == expected


@given(st.integers(1, 10_000), st.integers(1, 100))
def test_evenly_spaced_is_the_documented_formula(num_frames, count):
    expected = [int((i + Fraction(1, 2)) * num_frames / count) for i in range(count)]
    assert evenly_spaced(num_frames, count) == expected


@pytest.mark.parametrize(
    ("seconds", "frame"),
    [(-1.0, 0), (0.0, 0), (0.099, 1), (0.098, 0), (0.1, 1), (0.25, 1), (0.4, 2), (9.0, 2)],
)
def test_frames_shown_at(seconds, frame):
    pts = np.array([0.0, 0.1, 0.4])
    assert frames_shown_at(pts, np.array([seconds])).tolist() == [frame]


@pytest.mark.parametrize(
    ("num_frames", "from_fps", "to_fps", "expected"),
    [
        (4, 10, 25, [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]),
        (6, 30, 25, [0, 1, 2, 3, 4]),
        (6, 30, 15, [0, 2, 4]),
        (6, 30, 60, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (5, 25, 25, [0, 1, 2, 3, 4]),
        (8, 25, 10, [0, 2, 5, 7]),
        (1, 25, 10, [0]),
        (3, 30, 1, [0]),
    ],
)
def test_frame_indices_at_rate(num_frames, from_fps, to_fps, expected):
    pts = 3.5 + np.arange(num_frames) / from_fps
    assert frame_indices_at_rate(pts, to_fps).tolist() == expected


@pytest.mark.parametrize("fps", [23.976, 24, 25, 29.97, 30, 50, 59.94, 60])
def test_a_millisecond_clock_gives_every_frame_once_at_its_own_rate(fps):
    rounded = np.round(np.arange(500) / fps, 3)
    assert frame_indices_at_rate(rounded, fps).tolist() == list(range(500))


def test_frame_indices_at_rate_of_variable_rate():
    # Shown for 0.1, 0.5, 0.1 s and, as the last one, for their mean (0.7 / 3 s): 0.933 s in all.
    pts = np.array([0.0, 0.1, 0.6, 0.7])
    assert frame_indices_at_rate(pts, 10).tolist() == [0, 1, 1, 1, 1, 1, 2, 3, 3, 3]


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_rates_that_are_none(fps):
    with pytest.raises(InputError, match="fps must be a number above 0"):
        frame_indices_at_rate(np.array([0.0, 1.0]), fps)


def test_no_frames_have_no_rate():
    with pytest.raises(InputError, match="at least one frame"):
        frame_indices_at_rate(np.array([]), 25)


@pytest.mark.parametrize(
    ("span", "num_frames", "fps", "expected"),
    [(0.9, 10, 25, 25), (0.0, 1, 25, 1), (0.04, 2, 25, 2), (0.04, 2, 1, 1)],
)
def test_num_samples(span, num_frames, fps, expected):
    assert num_samples(span, num_frames, fps) == expected


def numbered(count, seconds=None):
    """Images whose every byte is their number."""
    for number in range(count):
        time = number / 25 if seconds is None else seconds[number]
        yield np.full((2, 2, 3), number, np.uint8), time


def numbers(frames):
    return frames.data[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("count", "length", "step", "expected"),
    [
        (5, 3, 2, [[0, 1, 2], [2, 3, 4]]),
        (6, 3, 2, [[0, 1, 2], [2, 3, 4], [4, 5]]),
        (5, 2, 2, [[0, 1], [2, 3], [4]]),
        (4, 2, 1, [[0, 1], [1, 2], [2, 3]]),
        (9, 2, 4, [[0, 1], [4, 5], [8]]),
        (8, 2, 4, [[0, 1], [4, 5]]),
        (2, 5, 1, [[0, 1]]),
        (1, 1, 1, [[0]]),
    ],
)
def test_cut_windows(count, length, step, expected):
    windows = list(cut_windows(numbered(count), length=length, step=step, source="a.mp4"))
    assert [numbers(window) for window in windows] == expected
    assert windows[0].source == "a.mp4"
    assert windows[-1].pts_seconds.tolist() == [number / 25 for number in expected[-1]]


def test_windows_are_given_before_the_stream_ends():
    stream = numbered(100)
    first = next(cut_windows(stream, length=4, step=4, source=""))
    assert numbers(first) == [0, 1, 2, 3]
    assert next(stream)[0][0, 0, 0] == 4


@pytest.mark.parametrize("expected", [0, 1, 5, 7, 100, 10**9])
def test_collect(expected):
    frames = collect(numbered(7), expected=expected, source="b.mp4")
    assert numbers(frames) == list(range(7))
    assert frames.pts_seconds.tolist() == [number / 25 for number in range(7)]


@given(
    steps=st.lists(st.integers(1, 400), min_size=1, max_size=30),
    fps=st.sampled_from([1, 5, 12.5, 24, 25, 29.97, 30, 60]),
)
def test_resample_chooses_as_frame_indices_at_rate_does(steps, fps):
    seconds = np.cumsum(steps) / 1000
    got = list(resample(numbered(len(steps), seconds.tolist()), fps))
    assert [int(image[0, 0, 0]) for image, _ in got] == frame_indices_at_rate(seconds, fps).tolist()
    times = [time for _, time in got]
    np.testing.assert_allclose(times, seconds[0] + np.arange(len(times)) / fps)


def test_resample_of_nothing():
    assert list(resample(iter(()), 25)) == []


@pytest.mark.parametrize(
    ("start", "end", "least", "expected"),
    [
        (0, 1, 1, range(25)),
        (1, 2, 1, range(25, 50)),
        (0.98, 1.02, 1, range(25, 26)),  # frame 25 starts at 1 s
        (1.01, 1.03, 1, range(25, 26)),  # none starts inside: the one on display
        (1, 1.01, 2, range(25, 27)),
        (3.96, 4, 2, range(98, 100)),  # the last frame and the one before
        (3.5, 99, 1, range(88, 100)),
        (0, 0.001, 3, range(3)),
    ],
)
def test_frames_between(start, end, least, expected):
    seconds = np.arange(100) / 25
    assert frames_between(seconds, start, end, least=least) == expected
    # Seconds count from the first frame; clocks are rounded to milliseconds.
    late = np.round(seconds * 24 / 23.976, 3) + 7
    assert frames_between(late, start * 24 / 23.976, end * 24 / 23.976, least=least) == expected


def test_frames_between_of_one_frame_and_outside():
    assert frames_between(np.array([3.0]), 0.5, 1, least=2) == range(1)
    with pytest.raises(InputError, match=r"4 to 5 s lie outside the video, which is 4\.00 s long"):
        frames_between(np.arange(100) / 25, 4, 5)


@given(cuts=st.lists(st.integers(0, 4000), min_size=2, max_size=8, unique=True))
def test_neighbouring_intervals_share_no_frame(cuts):
    seconds = np.arange(120) / 29.97
    edges = [cut / 1000 for cut in sorted(cuts)]
    found = [set(frames_between(seconds, a, b)) for a, b in pairwise(edges) if b - a > 0.05]
    assert sum(map(len, found)) == len(set().union(*found))
