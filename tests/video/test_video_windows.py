import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.video.times import collect, cut_windows, frame_indices_at_rate, resample


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
