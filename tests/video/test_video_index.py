from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.errors import CorruptVideoError, InputError
from dualstream.video.index import (
    check_positions,
    counted_index,
    decode_runs,
    evenly_spaced,
    frame_indices_at_rate,
    frames_shown_at,
    num_samples,
    strictly_increasing,
    timed_index,
)


@pytest.mark.parametrize(
    ("wanted", "keys", "seek_cost", "runs"),
    [
        ([3, 5, 99], [0, 50], 4, [(0, (3, 5)), (50, (99,))]),
        ([0, 1, 2], [0, 1, 2], 4, [(0, (0, 1, 2))]),
        ([7], [0, 5, 10], 4, [(5, (7,))]),
        ([10], [0, 5, 10], 4, [(10, (10,))]),
        # From 5 the next frame to decode is 6; the key frame 10 saves 4 frames, 9 only 3.
        ([5, 12], [0, 10], 4, [(0, (5,)), (10, (12,))]),
        ([5, 12], [0, 9], 4, [(0, (5, 12))]),
        ([5, 12], [0, 9], 3, [(0, (5,)), (9, (12,))]),
        ([5, 200], [0], 4, [(0, (5, 200))]),
        ([], [0], 4, []),
    ],
)
def test_decode_runs(wanted, keys, seek_cost, runs):
    assert decode_runs(wanted, keys, seek_cost=seek_cost) == runs


@given(
    wanted=st.sets(st.integers(0, 300), min_size=1).map(sorted),
    keys=st.sets(st.integers(1, 300)).map(lambda more: [0, *sorted(more)]),
)
def test_decode_runs_keep_every_position_and_never_decode_more_than_from_the_start(wanted, keys):
    runs = decode_runs(wanted, keys)
    assert [position for _, positions in runs for position in positions] == wanted
    assert all(key in keys and key <= positions[0] for key, positions in runs)
    work = sum(positions[-1] - key + 1 for key, positions in runs)
    assert work <= wanted[-1] + 1


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
    ("pts", "expected"),
    [([0, 2, 2, 1], [0, 2, 3, 4]), ([5, 6, 9], [5, 6, 9]), ([3, 0, 10], [3, 4, 10]), ([7], [7])],
)
def test_strictly_increasing(pts, expected):
    assert strictly_increasing(np.array(pts)).tolist() == expected


def test_timed_index_sorts_packets_by_the_time_at_which_they_are_shown():
    # Decoding order I P B B | I P B, the second I (packet 4) is shown sixth.
    index = timed_index([0, 30, 10, 20, 50, 60, 40], [0, 4], time_base=Fraction(1, 100))
    assert index.pts.tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert index.pts_seconds.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert index.keys == (0, 5)
    assert not index.by_count


def test_timed_index_refuses_two_frames_at_one_time():
    assert timed_index([0, 1, 1], [0], time_base=Fraction(1, 25)) is None


def test_timed_index_starts_at_the_first_packet_even_if_that_is_no_key_frame():
    assert timed_index([0, 1, 2, 3], [2], time_base=Fraction(1, 25)).keys == (0, 2)


def test_counted_index():
    index = counted_index([4, 6, 5], Fraction(1, 10))
    assert index.pts.tolist() == [4, 6, 7]
    assert index.keys == (0,)
    assert index.by_count
    assert len(index) == 3


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


@pytest.mark.parametrize(
    ("positions", "error"),
    [
        ([0, 9], None),
        ([0, 10], CorruptVideoError),
        ([11], CorruptVideoError),
        ([12], InputError),
        ([-1], InputError),
    ],
)
def test_check_positions(positions, error):
    """A file of 10 frames whose header tells of 12."""
    if error is None:
        check_positions(positions, 10, promised=12, source="a.mp4")
    else:
        with pytest.raises(error, match=rf"Frame {positions[-1]} of 'a\.mp4'"):
            check_positions(positions, 10, promised=12, source="a.mp4")
