"""ELAN's exports, in both forms and in each format of times."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualstream.clips.data.annotations.elan import is_elan, read_elan
from dualstream.clips.data.annotations.entries import Annotations
from dualstream.clips.data.intervals import Interval


def found(annotations: Annotations) -> list[tuple[str, Interval | None, str]]:
    return [(e.path_hint, e.interval, annotations.classes[e.label]) for e in annotations.entries]


def write(folder: Path, name: str, *lines: str) -> Path:
    file = folder / name
    file.write_text("\n".join(lines) + "\n")
    return file


EXPECTED = [("day 1", Interval(1.2, 4.7), "walk"), ("day 1", Interval(3600, 3723.5), "2")]


@pytest.mark.parametrize(
    "rows",
    [
        (  # what its dialog offers first
            "arm\t\t00:00:01.200\t1.2\t00:00:04.700\t4.7\t00:00:03.500\t3.5\twalk",
            "arm\tP1\t01:00:00.000\t3600.0\t01:02:03.500\t3723.5\t00:02:03.500\t123.5\t2",
        ),
        (  # the clock only, no duration
            "arm\t\t00:00:01.200\t00:00:04.700\twalk",
            "arm\t\t01:00:00.000\t01:02:03.500\t2",
        ),
        (  # no names of tiers
            "00:00:01.200\t1200\t00:00:04.700\t4700\twalk",
            "01:00:00.000\t3600000\t01:02:03.500\t3723500\t2",
        ),
    ],
)
def test_rows_without_a_header(tmp_path: Path, rows: tuple[str, ...]) -> None:
    file = write(tmp_path, "day 1.txt", *rows)
    assert is_elan(file)
    annotations = read_elan(tmp_path)
    assert found(annotations) == EXPECTED
    assert annotations.entries[1].origin == f"{file}:2"
    assert annotations.problems == ()


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("hh:mm:ss.ms", ("00:00:01.200", "00:00:04.700", "01:00:00.000", "01:02:03.500")),
        ("ss.msec", ("1.2", "4.7", "3600.0", "3723.5")),
        ("msec", ("1200", "4700", "3600000", "3723500")),
    ],
)
def test_a_column_a_tier(tmp_path: Path, unit: str, times: tuple[str, ...]) -> None:
    a, b, c, d = times
    file = write(
        tmp_path,
        "day 1.txt",
        f"Begin Time - {unit}\tEnd Time - {unit}\tDuration - {unit}\tarm\ttier 2",
        f"{a}\t{b}\tx\twalk\t",
        f"{c}\t{d}\tx\t2\tkick",
    )
    assert is_elan(file)
    assert found(read_elan(file)) == [*EXPECTED, ("day 1", Interval(3600, 3723.5), "kick")]


def test_csv_with_a_column_of_tiers(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "train.csv",
        '"Tier","Begin Time - ss.msec","End Time - ss.msec","Annotation"',
        '"arm",1.2,4.7,"walk, run"',
    )
    assert found(read_elan(file)) == [("train", Interval(1.2, 4.7), "walk, run")]


def test_the_video_is_that_of_the_header_line_or_the_column(tmp_path: Path) -> None:
    row = "arm\t\t00:00:01.200\t00:00:04.700\twalk"
    headed = write(
        tmp_path,
        "x.txt",
        '"#file:///C:/my%20videos/a.mp4 -- offset: 0"',
        '"#b.wav -- offset: 5"',
        "",
        row,
    )
    assert is_elan(headed)
    assert found(read_elan(headed))[0][0] == "/C:/my videos/a.mp4"
    columned = write(tmp_path, "y.txt", row + "\tday 2.eaf\t/home/x/day 2.eaf")
    assert found(read_elan(columned))[0][0] == "day 2"
    tiers = write(
        tmp_path,
        "z.txt",
        "Begin Time - msec\tEnd Time - msec\tarm\tFile Name",
        "1200\t4700\twalk\tday 3.eaf",
    )
    assert found(read_elan(tiers)) == [("day 3", Interval(1.2, 4.7), "walk")]


def test_rows_that_are_left_out_are_told(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "a.txt",
        "arm\t\t00:00:01.200\t00:00:04.700\twalk",
        "arm\t\t00:00:04.700\t00:00:04.700\twalk",
        "arm\t\t4.7\twalk",
    )
    assert [(p.kind, p.where, p.what) for p in read_elan(file).problems] == [
        ("wrong times", f"{file}:2", "end must be after start, got 4.7 to 4.7 s"),
        ("malformed line", f"{file}:3", "found arm  4.7 walk"),
    ]
    frames = write(
        tmp_path,
        "b.txt",
        "Begin Time - hh:mm:ss:ff PAL\tEnd Time - hh:mm:ss:ff PAL\tarm",
        "1\t2\tx",
    )
    (problem,) = read_elan(frames).problems
    assert problem.where == f"{frames}:1"
    assert "hh:mm:ss.ms, ss.msec, msec (frames are not read)" in problem.what


@pytest.mark.parametrize("text", ["a.mp4 0\n", "path,label\n1,2\n", "", "at 00:00:01.200\n"])
def test_other_tables_are_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.txt"
    file.write_text(text)
    assert not is_elan(file)
