"""Kinetics-400, -600 and -700: CSV files of YouTube ids and times.

    label,youtube_id,time_start,time_end,split
    testifying,---QUuC4vJs,84,94,validate

Videos are named `<id>_000084_000094.mp4` as the usual download scripts write them, or `<id>.mp4`,
with or without class folders. Source: the CSV files of DeepMind's kinetics400.tar.gz,
kinetics600.tar.gz and kinetics700_2020.tar.gz.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dualstream.clips.data.annotations.class_lists import (
    ListLine,
    collect_lines,
    find_class_list,
    label_lines,
    malformed,
    read_class_list,
)
from dualstream.clips.data.annotations.entries import (
    Annotations,
    ListedSet,
    Problem,
    ProblemKind,
    listed_set,
)
from dualstream.errors import AnnotationError
from dualstream.files import first_line, read_csv

_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def is_kinetics(file: Path) -> bool:
    """Whether a file is a CSV with Kinetics' columns."""
    if file.suffix.lower() != ".csv":
        return False
    return "youtube_id" in [name.strip() for name in first_line(file).split(",")]


def read_kinetics(path: Path) -> Annotations:
    """Read a folder of Kinetics CSV files, or one of them.

    The set of a row is its column `split` (train, val/validate, test) or else the file's name;
    train, validation and test sets become splits as `plan_splits` says. The classes are those of
    a class list in the folder, or else all labels in alphabetical order.
    """
    class_list = find_class_list(path)
    classes = read_class_list(class_list) if class_list else None
    lines, problems = collect_lines(path, is_kinetics, _read_rows)
    return label_lines(lines, problems, classes=classes, class_list=class_list)


def _read_rows(file: Path) -> Iterator[ListLine | Problem]:
    rows = read_csv(file, error=AnnotationError, strict=False)
    header = [name.strip() for name in next(rows, (1, []))[1]]
    for name in _COLUMNS:
        if name not in header:
            remedy = f"The file is left out; its columns must be {','.join(_COLUMNS)},split."
            kind: ProblemKind = "no label" if name == "label" else "malformed line"
            yield Problem(kind, f"{file}:1", f"column {name!r} is missing", remedy)
            return
    for number, cells in rows:
        named = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        where = f"{file}:{number}"
        line = _parse_row(named, where, listed_set(file.stem))
        yield line or malformed(where, ",".join(cells), f"write {','.join(_COLUMNS)},split")


def _parse_row(cells: dict[str, str], where: str, listed: ListedSet) -> ListLine | None:
    """The video of a row; None where a cell is missing or a time is no number."""
    try:
        start, end = (int(float(cells[name])) for name in ("time_start", "time_end"))
    except (KeyError, ValueError, OverflowError):
        return None
    name, youtube_id = cells["label"].strip('"'), cells["youtube_id"]
    if not name or not youtube_id:
        return None
    stem = f"{youtube_id}_{start:06d}_{end:06d}"
    listed = listed_set(cells.get("split", "")) or listed
    return ListLine(where, stem, listed, name, alternatives=(youtube_id,))
