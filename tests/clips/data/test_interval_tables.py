"""Tables of intervals: what is read, and what is told about rows that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualstream.clips.data.annotations import detect_format, read_annotations
from dualstream.clips.data.annotations.entries import Annotations
from dualstream.clips.data.annotations.interval_tables import read_intervals
from dualstream.clips.data.intervals import Interval
from dualstream.errors import AnnotationError


def rows(annotations: Annotations) -> list[tuple[str, Interval | None, str, int, str]]:
    return [
        (e.path_hint, e.interval, annotations.classes[e.label], e.split, e.part)
        for e in annotations.entries
    ]


def test_rows_with_times_and_splits(tmp_path: Path) -> None:
    (tmp_path / "scored.csv").write_text(
        "label,end_seconds,path,start_seconds,note,split\n"
        'walking,2.5,day 1/a.mp4,0,,train\n"talking, loud",4,day 1/a.mp4,2,x,train\n'
        "walking,,b.mp4,,,test\n"
    )
    annotations = read_intervals(tmp_path)
    assert annotations.may_have_several
    assert annotations.problems == ()
    assert rows(annotations) == [
        ("day 1/a.mp4", Interval(0, 2.5), "walking", 1, "train"),
        ("day 1/a.mp4", Interval(2, 4), "talking, loud", 1, "train"),
        ("b.mp4", None, "walking", 1, "test"),
    ]
    assert detect_format(tmp_path) == "intervals"


def test_tabs_class_list_and_set_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "val.tsv").write_text(
        "path\tstart_seconds\tend_seconds\tlabel\na.mp4\t1\t2\tRun\nb.mp4\t1\t2\tFly\n"
    )
    (tmp_path / "train.tsv").write_text(
        "path\tstart_seconds\tend_seconds\tlabel\nc.mp4\t1\t2\tSwim\n"
    )
    (tmp_path / "classes.txt").write_text("Swim\nRun\n")
    annotations = read_intervals(tmp_path)
    assert annotations.classes == ("Swim", "Run")
    assert rows(annotations) == [
        ("c.mp4", Interval(1, 2), "Swim", 1, "train"),
        ("a.mp4", Interval(1, 2), "Run", 1, "test"),
    ]
    (problem,) = annotations.problems
    assert (problem.kind, problem.where) == ("unknown class", f"{tmp_path}/val.tsv:3")


def test_rows_that_are_left_out_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "path,start_seconds,end_seconds,label\na.mp4,1,2,x\na.mp4,3,3,x\na.mp4,4,3,x\n"
        "a.mp4,-1,3,x\na.mp4,one,3,x\n,1,2,x\na.mp4,1,2,\n"
    )
    annotations = read_intervals(file)
    assert len(annotations.entries) == 1
    assert [(p.kind, p.where, p.what) for p in annotations.problems] == [
        ("wrong times", f"{file}:3", "end must be after start, got 3 to 3 s"),
        ("wrong times", f"{file}:4", "end must be after start, got 4 to 3 s"),
        ("wrong times", f"{file}:5", "start must be at least 0 seconds, got -1 to 3 s"),
        (
            "wrong times",
            f"{file}:6",
            "start and end must be numbers of seconds, got 'one' and '3'",
        ),
        ("malformed line", f"{file}:7", "found ,1,2,x"),
        ("malformed line", f"{file}:8", "found a.mp4,1,2,"),
    ]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "path,start_frame,end_frame,label",
            r"a\.csv:1: column 'start_seconds' is missing and 'start_frame' counts frames: divide",
        ),
        ("path,start,end,label", r"a\.csv:1: column 'start_seconds' is missing\."),
        ("path,start_seconds,label", r"a\.csv:1: column 'end_seconds' is missing\."),
    ],
)
def test_other_columns_are_told(tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\na.mp4,10,20,x\n")
    assert detect_format(tmp_path) == "intervals"
    with pytest.raises(AnnotationError, match=message):
        read_annotations(tmp_path, "intervals", root=tmp_path, names=["a.mp4"])


def test_tables_without_times_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\na.mp4,x\n")
    assert detect_format(tmp_path) is None


def test_sports1m(tmp_path: Path) -> None:
    folder = tmp_path / "original"
    folder.mkdir()
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    url = "https://www.youtube.com/watch?v="
    (folder / "train_partition.txt").write_text(
        f"{url}UDqivjS-lpI 0,2\n{url}abc_defghij 1\n{url}UDqivjS-lpI\n"
    )
    (folder / "test_partition.txt").write_text(f"{url}-2345678901 1,3\n")
    assert detect_format(folder) == "sports1m"
    annotations = read_annotations(folder, "sports1m", root=tmp_path, names=[])
    assert annotations.may_have_several
    assert [(e.path_hint, e.label, e.part) for e in annotations.entries] == [
        ("-2345678901", 1, "test"),
        ("UDqivjS-lpI", 0, "train"),
        ("UDqivjS-lpI", 2, "train"),
        ("abc_defghij", 1, "train"),
    ]
    assert [(p.kind, Path(p.where).name) for p in annotations.problems] == [
        ("label out of range", "test_partition.txt:1"),
        ("malformed line", "train_partition.txt:3"),
    ]
    (tmp_path / "labels.txt").unlink()
    with pytest.raises(AnnotationError, match=r"original: there is no labels\.txt in it or above"):
        read_annotations(folder, "sports1m", root=tmp_path, names=[])
