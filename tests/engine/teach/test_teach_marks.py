"""Marks: joined, cut, refused; their file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.clips.data.intervals import Interval
from dualstream.engine.teach.marks import (
    Mark,
    fitted,
    known_label,
    marks_text,
    read_marks,
    with_mark,
    without,
)
from dualstream.errors import AnnotationError, InputError

WALK, TALK = Mark("a.mp4", 2, 5, "walk"), Mark("a.mp4", 7, 9, "talk")


def walk(start: float, end: float, video: str = "a.mp4") -> Mark:
    return Mark(video, start, end, "walk")


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (walk(5, 6), walk(2, 6)),  # touches
        (walk(1, 3), walk(1, 5)),
        (walk(3, 4), walk(2, 5)),  # inside
        (walk(1, 9), walk(1, 9)),
        (walk(5.5, 6), walk(5.5, 6)),
        (walk(3, 6, "b.mp4"), walk(3, 6, "b.mp4")),
    ],
)
def test_marks_of_a_label_are_joined(new: Mark, expected: Mark) -> None:
    marks, found = with_mark([WALK], new, may_overlap=False)
    assert found == expected
    assert expected in marks
    assert len(marks) == 1 + (not found.interval.overlaps(WALK.interval) or found.video != "a.mp4")


def test_two_marks_are_joined_by_one_between_them() -> None:
    marks, found = with_mark([walk(0, 2), walk(4, 6)], walk(1.5, 4), may_overlap=False)
    assert marks == (walk(0, 6),)
    assert found == walk(0, 6)


def test_another_label_in_the_same_time() -> None:
    new = Mark("a.mp4", 4, 8, "run")
    with pytest.raises(InputError, match=r"a.mp4 4 to 8 s 'run' overlaps 2 to 5 s 'walk'"):
        with_mark([WALK, TALK], new, may_overlap=False)
    both, _ = with_mark([WALK, TALK], new, may_overlap=True)
    assert both == (WALK, new, TALK)
    replaced, _ = with_mark([WALK, TALK], new, may_overlap=False, replaces=True)
    assert replaced == (walk(2, 4), new, Mark("a.mp4", 8, 9, "talk"))
    touching = Mark("a.mp4", 5, 7, "run")
    assert with_mark([WALK, TALK], touching, may_overlap=False)[0] == (WALK, touching, TALK)


@pytest.mark.parametrize(
    ("stretch", "left", "touched"),
    [
        ((0, 2), [WALK, TALK], 0),  # ends where a mark starts
        ((0, 10), [], 2),
        ((3, 4), [walk(2, 3), walk(4, 5), TALK], 1),
        ((4, 8), [walk(2, 4), Mark("a.mp4", 8, 9, "talk")], 2),
        ((2.05, 5), [TALK], 1),  # .05 s are no mark
    ],
)
def test_erasing(stretch: tuple[float, float], left: list[Mark], touched: int) -> None:
    assert without([WALK, TALK], "a.mp4", Interval(*stretch)) == (tuple(left), touched)


def test_erasing_one_label_of_one_video() -> None:
    marks = (WALK, TALK, walk(0, 9, "b.mp4"))
    found, touched = without(marks, "a.mp4", Interval(0, 10), label="talk")
    assert (found, touched) == ((WALK, marks[2]), 1)


tenths = st.integers(0, 60).map(lambda tenth: tenth / 10)
marks_of_one = st.lists(
    st.tuples(tenths, st.integers(1, 20), st.sampled_from(["walk", "talk"])), max_size=8
)


@given(added=marks_of_one)
def test_marks_of_a_label_never_overlap(added: list[tuple[float, int, str]]) -> None:
    marks: tuple[Mark, ...] = ()
    for start, length, label in added:
        marks, new = with_mark(
            marks, Mark("a.mp4", start, start + length / 10, label), may_overlap=True
        )
        assert new in marks
        assert new.start_seconds <= start
    for label in ("walk", "talk"):
        times = [m.interval for m in marks if m.label == label]
        assert all(not a.overlaps(b) for i, a in enumerate(times) for b in times[i + 1 :])


def test_times_that_leave_the_video() -> None:
    assert fitted(walk(2, 10.05), duration_seconds=10) == walk(2, 10)
    with pytest.raises(InputError, match=r"2 to 12 s leaves a.mp4, which is 10.00 s long"):
        fitted(walk(2, 12), duration_seconds=10)
    with pytest.raises(InputError, match=r"10 to 12 s lies outside a.mp4"):
        fitted(walk(10, 12), duration_seconds=10)
    with pytest.raises(InputError, match="end must be after start"):
        walk(3, 3)


def test_one_spelling_of_a_label() -> None:
    assert known_label("Air  drumming", [Mark("a.mp4", 0, 1, "air_drumming")]) == "air_drumming"
    assert known_label("walk", [Mark("a.mp4", 0, 1, "run")]) == "walk"
    with pytest.raises(InputError, match="must be one line of text"):
        Mark("a.mp4", 0, 1, " walk")


def test_file_of_marks(tmp_path: Path) -> None:
    file, marks = tmp_path / "intervals.csv", (WALK, Mark("b, c.mp4", 0.04, 1.5, "a, b"))
    file.write_text(marks_text(marks), encoding="utf-8")
    assert file.read_text().splitlines()[1] == "a.mp4,2,5,walk"
    assert read_marks(file) == marks
    assert read_marks(tmp_path / "none.csv") == ()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("path,start,end,label\n", "intervals.csv:1: found path,start,end,label"),
        ("path,start_seconds,end_seconds,label\na.mp4,1,x,walk\n", "intervals.csv:2: start and"),
        ("path,start_seconds,end_seconds,label\na.mp4,1,walk\n", "intervals.csv:2: 3 cells"),
    ],
)
def test_broken_file_of_marks(text: str, match: str, tmp_path: Path) -> None:
    file = tmp_path / "intervals.csv"
    file.write_text(text)
    with pytest.raises(AnnotationError, match=match):
        read_marks(file)
