"""Tables of intervals, an interval a row, the columns told by their names.

    path,start_seconds,end_seconds,label,split
    day 1/camera 2.mp4,12.5,17,walking,train
    day 1/camera 2.mp4,15,21.25,talking,train

Times are seconds from the first frame of the video; without any, the whole video is meant. `split`
may be missing: then the name of the file tells it (`train.csv`), or nothing does. Intervals of a
video may overlap, which gives what they share several classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dualstream.clips.data.annotations.entries import (
    Annotations,
    ListLine,
    Problem,
    collect_lines,
    find_class_list,
    label_lines,
    listed_set,
    malformed,
    read_class_list,
)
from dualstream.clips.data.intervals import Interval
from dualstream.errors import AnnotationError, InputError
from dualstream.files import first_line, read_csv

Table = list[tuple[int, list[str]]]
"""(line, cells without blanks around them) of each row that is not blank."""

_COLUMNS = ("path", "start_seconds", "end_seconds", "label")
_ROW = ",".join((*_COLUMNS, "split"))
_TABLES = (".csv", ".tsv", ".txt")
_HEAD_ROWS = 60
"""Rows that tell the form of a table; BORIS may write some lines above its header."""
_TIME_WORDS = ("start", "begin", "onset", "end", "stop", "offset")


def is_intervals(file: Path) -> bool:
    """Whether a table has the columns `path` and `label`, and one that speaks of times."""
    if file.suffix.lower() not in (".csv", ".tsv"):
        return False
    header = [name.strip().lower() for name in re.split(r"[,\t]", first_line(file))]
    has_times = any(name.startswith(_TIME_WORDS) for name in header)
    is_manifest = "sha256" in header
    return has_times and {"path", "label"} <= set(header) and not is_manifest


def read_intervals(path: Path) -> Annotations:
    """Read a folder of tables of intervals, or one of them.

    The classes are those of a class list in the folder, or else all labels in alphabetical order.
    """
    return labelled_intervals(path, *collect_lines(path, is_intervals, _read_intervals))


def labelled_intervals(
    path: Path, lines: Sequence[ListLine], problems: Sequence[Problem]
) -> Annotations:
    """The annotations of a form whose intervals may overlap, classes as in `read_intervals`."""
    class_list = find_class_list(path)
    classes = read_class_list(class_list) if class_list else None
    return label_lines(
        lines, problems, classes=classes, class_list=class_list, may_have_several=True
    )


def read_table(file: Path) -> Table:
    """Return the rows of a table of commas, or of tabs where any are in its first lines.

    Raises:
        AnnotationError: it is not UTF-8.
    """
    rows = read_csv(file, error=AnnotationError, strict=False, delimiter=_delimiter_of(file))
    return [(line, [cell.strip() for cell in cells]) for line, cells in rows]


def head_of_table(file: Path) -> Table:
    """Return the first rows of a table, nothing of a file that is none."""
    if file.suffix.lower() not in _TABLES:
        return []
    try:
        return read_table(file)[:_HEAD_ROWS]
    except AnnotationError:
        return []


def mentions(file: Path, words: Sequence[str], *, least: int) -> bool:
    """Whether one of the first lines of a table has so many of some words, given in lower case.

    The file may be damaged: bytes that are not UTF-8 are passed over.
    """
    if file.suffix.lower() not in _TABLES:
        return False
    try:
        with file.open("rb") as opened:
            head = opened.read(1 << 16)
    except OSError:
        return False
    lines = head.replace(b"\0", b"").decode(errors="replace").lower().splitlines()[:_HEAD_ROWS]
    return any(sum(word in line for word in words) >= least for line in lines)


def _delimiter_of(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return "\t" if b"\t" in opened.read(4096) else ","
    except OSError:
        return ","


def wrong_times(where: str, error: InputError) -> Problem:
    """Problem of a row whose times cannot be an interval's; it is left out."""
    what, remedy = str(error).rstrip("."), "The line is left out; correct its times."
    return Problem("wrong times", where, what, remedy)


def _read_intervals(file: Path) -> Iterator[ListLine | Problem]:
    rows = read_table(file)
    if not rows:
        return
    header = [name.lower() for name in rows[0][1]]
    if missing := [name for name in _COLUMNS if name not in header]:
        remedy = f"The file is left out; its columns must be {_ROW}."
        what = f"column {missing[0]!r} is missing"
        if counted := [name for name in header if "frame" in name]:
            what += (
                f" and {counted[0]!r} counts frames: divide frames by the frame rate, times are "
                "read in seconds"
            )
        yield Problem("no times", f"{file}:1", what, remedy)
        return
    for number, cells in rows[1:]:
        where, row = f"{file}:{number}", dict(zip(header, cells, strict=False))
        path, name = row.get("path", ""), row.get("label", "")
        start, end = row.get("start_seconds", ""), row.get("end_seconds", "")
        if not path or not name:
            yield malformed(where, ",".join(cells), f"write {_ROW}")
            continue
        try:
            interval = Interval.parse(start, end) if start or end else None
        except InputError as error:
            yield wrong_times(where, error)
            continue
        listed = listed_set(row.get("split", "")) or listed_set(file.stem)
        yield ListLine(where, path, listed, name, interval=interval)
