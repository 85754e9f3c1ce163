"""BORIS's exports, in the columns that its versions write."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualstream.clips.data.annotations.boris import is_boris, read_boris
from dualstream.clips.data.annotations.entries import Annotations
from dualstream.clips.data.intervals import Interval

OLD = (
    "Observation id,Observation date,Description,Media file,Total length,FPS,weather,Subject,"
    "Behavior,Behavioral category,Modifiers,Behavior type,Start (s),Stop (s),Duration (s),"
    "Comment start,Comment stop"
)
NEW = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),"
    "Coding duration,Media duration (s),FPS (frame/s),Subject,Observation duration by subject by "
    "observation,Behavior,Behavioral category,Modifier #1,Behavior type,Start (s),Stop (s),"
    "Duration (s),Media file name,Image index start,Image index stop,Image file path start,Image "
    "file path stop,Comment start,Comment stop"
)
TABULAR_HEAD = """Observation id,one,,,,,,,
,,,,,,,,
Media file(s),,,,,,,,
Player #1,v/a.mp4,,,,,,,
Time offset (s),0.5,,,,,,,
independent variables,,,,,,,,
variable,value,,,,,,,
Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status
"""
NEW_TABULAR = (
    "Observation id,Observation date,Subject,Behavior,Behavioral category,Behavior type,Time,"
    "Media file name,Image index,Image file path,Comment"
)


def old(media: str, behavior: str, start: object, stop: object, *, observation: str = "o") -> str:
    kind = "POINT" if start == stop else "STATE"
    return (
        f'{observation},2016-12-01 23:01:31,"x, y",{media},539.920,25.0,sun,No focal subject,'
        f"{behavior},,,{kind},{start},{stop},NA,,"
    )


def new(media: str, behavior: str, start: object, stop: object, *, offset: object = 0) -> str:
    return (
        f"o,2023-01-01,,Media file,player #1:{media},{offset},9.0,540.0,25.0,rat,9.0,{behavior},,,"
        f"STATE,{start},{stop},1.0,{media},1,2,,,,"
    )


def found(annotations: Annotations) -> list[tuple[str, Interval | None, str]]:
    return [(e.path_hint, e.interval, annotations.classes[e.label]) for e in annotations.entries]


def write(folder: Path, name: str, *lines: str) -> Path:
    file = folder / name
    file.write_text("\n".join(lines) + "\n")
    return file


def test_aggregated_events_of_old_versions(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "events.csv",
        OLD,
        old("T:/v/a.mp4", "groom", "1.800", "8.125"),
        old("T:/v/a.mp4", "sniff", "4.000", "4.000"),
        old("T:/v/a.mp4", "rear", "7.000", "9.5"),
        old("b.mp4", "groom", "2", "3", observation="p"),
    )
    assert is_boris(file)
    annotations = read_boris(file)
    assert annotations.classes == ("groom", "rear")
    assert annotations.may_have_several
    assert found(annotations) == [
        ("T:/v/a.mp4", Interval(1.8, 8.125), "groom"),
        ("T:/v/a.mp4", Interval(7, 9.5), "rear"),
        ("b.mp4", Interval(2, 3), "groom"),
    ]
    assert annotations.entries[1].origin == f"{file}:4"
    (problem,) = annotations.problems
    assert problem.what == "1 events are points in time, not intervals"


def test_aggregated_events_of_new_versions_with_an_offset(tmp_path: Path) -> None:
    lines = [
        new("v/a.mp4", "groom", 11.8, 18.125, offset=10),
        new("v/a.mp4", "rear", 10, 11, offset=10),
        new("v/a.mp4", "rear", 9, 11, offset=10),
    ]
    file = write(tmp_path, "events.tsv", *(x.replace(",", "\t") for x in (NEW, *lines)))
    annotations = read_boris(file)
    assert found(annotations) == [
        ("v/a.mp4", Interval(1.8, 8.125), "groom"),
        ("v/a.mp4", Interval(0, 1), "rear"),
    ]
    (problem,) = annotations.problems
    assert (problem.kind, problem.where) == ("wrong times", f"{file}:4")
    assert problem.what == "start must be at least 0 seconds, got -1 to 1 s"


def test_a_second_media_file_of_an_observation_is_told(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "events.csv",
        OLD,
        old("a.mp4", "groom", 1, 2),
        old("b.mp4", "groom", 227.765, 253.49),
    )
    annotations = read_boris(file)
    assert found(annotations) == [("a.mp4", Interval(1, 2), "groom")]
    (problem,) = annotations.problems
    assert problem.where == f"{file}:3"
    assert problem.what == (
        "'b.mp4' is a further media file of observation 'o', whose times count on"
    )


def test_tabular_events_of_old_versions(tmp_path: Path) -> None:
    rows = [
        "3.300,v/a.mp4,359.960,25.0,one,run,,,START",
        "4.000,v/a.mp4,359.960,25.0,two,run,,,START",
        "5.000,v/a.mp4,359.960,25.0,one,bark,,,POINT",
        "7.750,v/a.mp4,359.960,25.0,one,run,,,STOP",
        "8.000,v/a.mp4,359.960,25.0,two,run,,,STOP",
        "9.000,v/a.mp4,359.960,25.0,two,sit,,,START",
        "9.500,v/a.mp4,359.960,25.0,one,sit,,,STOP",
    ]
    file = write(tmp_path, "test.csv", TABULAR_HEAD + "\n".join(rows))
    annotations = read_boris(tmp_path)
    assert found(annotations) == [
        ("v/a.mp4", Interval(2.8, 7.25), "run"),
        ("v/a.mp4", Interval(3.5, 7.5), "run"),
    ]
    assert {e.part for e in annotations.entries} == {"test"}
    assert [(p.where, p.what) for p in annotations.problems] == [
        (f"{file}:15", "found status 'STOP' of 'sit'"),
        (f"{file}:14", "'sit' starts here and never stops"),
        (str(file), "1 events are points in time, not intervals"),
    ]


def test_tabular_events_of_new_versions(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "events.csv",
        NEW_TABULAR,
        "o,2023-01-01,rat,groom,,START,1.5,a.mp4,38,,",
        "o,2023-01-01,rat,groom,,STOP,4,a.mp4,100,,",
    )
    assert found(read_boris(file)) == [("a.mp4", Interval(1.5, 4), "groom")]


@pytest.mark.parametrize(
    "text",
    ["path,label\na,b\n", "Behavior,Time\nrun,1\n", "", "Behavior\n", "\xff"],
)
def test_other_tables_are_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(text.encode("latin-1"))
    assert not is_boris(file)


def test_a_table_that_names_no_media_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "Behavior,Start (s),Stop (s)", "run,1,2")
    (problem,) = read_boris(file).problems
    assert problem.where == f"{file}:1"
    assert "no column names the media file (looked for media file name, media" in problem.what
