"""Windows in time: literal tables, and what holds for any video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.engine.infer.windows import Window, find_windows, window_between
from dualstream.errors import CorruptVideoError, InputError


@pytest.mark.parametrize(
    ("count", "window_seconds", "expected"),
    [
        (25, 10.0, [(0, 13, 0.0, 12.5), (13, 25, 12.5, 25.0)]),
        (25, 100.0, [(0, 25, 0.0, 25.0)]),
        (4, 2.0, [(0, 2, 0.0, 2.0), (2, 4, 2.0, 4.0)]),
        (1, 10.0, [(0, 1, 0.0, 0.0)]),
    ],
)
def test_side_by_side_at_one_frame_a_second(
    count: int, window_seconds: float, expected: list[tuple[int, int, float, float]]
) -> None:
    pts = np.arange(count, dtype=np.float64)
    assert find_windows(pts, window_seconds=window_seconds) == expected


@pytest.mark.parametrize(
    ("count", "step", "cuts", "expected"),
    [
        (25, 5.0, (), [(0, 10), (5, 15), (10, 20), (15, 25)]),
        (23, 5.0, (), [(0, 10), (5, 15), (10, 20), (13, 23)]),  # the last one ends with the video
        (10, 5.0, (), [(0, 10)]),
        (7, 5.0, (), [(0, 7)]),
        (40, 15.0, (), [(0, 10), (15, 25), (30, 40)]),  # frames between are left out
        (30, 5.0, (12,), [(0, 10), (2, 12), (12, 22), (17, 27), (20, 30)]),
        (30, None, (12, 15), [(0, 12), (12, 15), (15, 23), (23, 30)]),
    ],
)
def test_windows_of_ten_seconds_at_one_frame_a_second(
    count: int, step: float | None, cuts: tuple[int, ...], expected: list[tuple[int, int]]
) -> None:
    pts = np.arange(count, dtype=np.float64)
    found = find_windows(pts, window_seconds=10.0, step_seconds=step, cuts=cuts)
    assert [(window.first, window.last) for window in found] == expected


def test_gaps_are_left_out_and_every_frame_is_held_once() -> None:
    pts = np.concatenate([np.arange(10.0), 100 + np.arange(10.0)])
    # 11 windows of 10.4 s, of which 3 hold frames.
    found = find_windows(pts, window_seconds=10.0)
    assert [(window.first, window.last) for window in found] == [(0, 10), (10, 15), (15, 20)]


def test_times_rounded_to_milliseconds_stay_in_their_window() -> None:
    pts = np.floor(np.arange(75) / 30 * 1000) / 1000  # Matroska at 30 fps: .033, .066, .1, ...
    found = find_windows(pts, window_seconds=1.0, step_seconds=0.5)
    assert [(window.first, window.last) for window in found] == [
        (0, 30),
        (15, 45),
        (30, 60),
        (45, 75),
    ]


def test_window_between() -> None:
    pts = np.array([0.0, 0.9995, 2.0, 3.0])
    assert window_between(pts, 1.0, 3.0, last=4) == Window(1, 3, 1.0, 3.0)
    assert window_between(pts, 1.0, 3.0, first=2, last=4) == Window(2, 3, 1.0, 3.0)
    assert window_between(pts, 3.5, 9.0, last=4) is None


@given(
    gaps=st.lists(st.floats(0.01, 3.0), min_size=1, max_size=60),
    length=st.floats(0.5, 8.0),
    step=st.none() | st.floats(0.1, 8.0),
    data=st.data(),
)
def test_windows_of_any_video(
    gaps: list[float], length: float, step: float | None, data: st.DataObject
) -> None:
    pts = np.cumsum([0.0, *gaps])
    places = st.integers(1, len(gaps))
    cuts = sorted(data.draw(st.sets(places, max_size=4)))
    windows = find_windows(pts, window_seconds=length, step_seconds=step, cuts=cuts)
    assert windows == sorted(windows, key=lambda window: (window.first, window.start_seconds))
    for window in windows:
        assert 0 <= window.first < window.last <= len(pts)
        assert not any(window.first < cut < window.last for cut in cuts)
    seen = {number for window in windows for number in range(window.first, window.last)}
    if step is None or step <= length:
        assert seen == set(range(len(pts)))
    else:
        assert 0 in seen


def test_bad_calls() -> None:
    with pytest.raises(CorruptVideoError, match="no frame"):
        find_windows(np.empty(0), window_seconds=1.0)
    for seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="window_seconds must be above 0"):
            find_windows(np.zeros(1), window_seconds=seconds)
        with pytest.raises(InputError, match="step_seconds must be above 0"):
            find_windows(np.zeros(1), window_seconds=1.0, step_seconds=seconds)
