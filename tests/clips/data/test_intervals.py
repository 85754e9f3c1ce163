"""Intervals: what they are called, and how overlapping ones are cut."""

from __future__ import annotations

import re

import pytest

from dualstream.clips.data.groups import group_videos, source_group
from dualstream.clips.data.intervals import Interval, cut_overlaps, video_of
from dualstream.errors import InputError


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [
        (84, 94, "a b.mp4#t=84,94"),
        (0, 0.04, "a b.mp4#t=0,0.04"),
        (12345.678, 12345.6789, "a b.mp4#t=12345.678,12345.6789"),
        (1.0000000001, 2, "a b.mp4#t=1,2"),
    ],
)
def test_name(start: float, end: float, name: str) -> None:
    interval = Interval(start, end)
    assert interval.name_in("a b.mp4") == name
    times = name.split("=")[1].split(",")
    assert Interval.parse(*times) == interval
    assert video_of(name) == "a b.mp4"
    assert source_group(name) == "a b.mp4"


def test_a_video_has_its_own_name() -> None:
    assert video_of("a#t=.mp4") == "a#t=.mp4"
    assert source_group("x/v_Archery_g01_c02.avi#t=1,2") == "v_Archery_g01"
    names = ("b.mp4#t=0,1", "a.mp4#t=0,1", "b.mp4#t=1,2")
    assert group_videos([(name, "") for name in names]) == ("b.mp4", "a.mp4", "b.mp4")


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("5", "5", "end must be after start, got 5 to 5 s"),
        ("5", "4.9999999", "end must be after start, got 5 to 5 s"),
        ("-1", "4", "start must be at least 0 seconds, got -1 to 4 s"),
        ("a", "4", "must be numbers of seconds, got 'a' and '4'"),
        ("", "4", "must be numbers of seconds, got '' and '4'"),
        ("nan", "4", "must be numbers of seconds, got nan to 4 s"),
        ("0", "inf", "must be numbers of seconds, got 0 to inf s"),
    ],
)
def test_what_is_no_interval(start: str, end: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Interval.parse(start, end)


Given = list[tuple[float, float, int]]
Cut = list[tuple[float, float, tuple[int, ...]]]


@pytest.mark.parametrize(
    ("given", "pieces"),
    [
        ([], []),
        # Two classes share the middle.
        ([(0, 10, 0), (5, 15, 1)], [(0, 5, (0,)), (5, 10, (0, 1)), (10, 15, (1,))]),
        # One inside the other; the order of the lines tells nothing.
        ([(4, 6, 2), (0, 10, 1)], [(0, 4, (1,)), (4, 6, (1, 2)), (6, 10, (1,))]),
        # The same times.
        ([(1, 2, 3), (1, 2, 0)], [(1, 2, (0, 3))]),
        # Touching is no overlapping; the very same line comes once.
        ([(0, 5, 0), (5, 9, 1), (5, 9, 1)], [(0, 5, (0,)), (5, 9, (1,))]),
        # One class over itself stays as it is, unless another class cuts it.
        ([(0, 5, 0), (3, 9, 0)], [(0, 5, (0,)), (3, 9, (0,))]),
        (
            [(0, 5, 0), (3, 9, 0), (8, 9, 1)],
            [(0, 8, (0,)), (8, 9, (0, 1))],
        ),
        # A scorer let go of the key a little late.
        ([(0, 5.05, 0), (5, 9, 1)], [(0, 5, (0,)), (5.05, 9, (1,))]),
    ],
)
def test_cut_overlaps(given: Given, pieces: Cut) -> None:
    found = cut_overlaps([(Interval(start, end), label) for start, end, label in given])
    assert [(p.interval.start_seconds, p.interval.end_seconds, p.labels) for p in found] == pieces
