"""Kinetics-400, -600 and -700: CSV files of YouTube ids and times.

    label,youtube_id,time_start,time_end,split
    testifying,---QUuC4vJs,84,94,validate

Videos are named `<id>_000084_000094.mp4` as the usual download scripts write them, or `<id>.mp4`,
with or without class folders. Source: the CSV files of DeepMind's kinetics400.tar.gz,
kinetics600.tar.gz and kinetics700_2020.tar.gz.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dualstream.clips.data.annotations.class_lists import (
    find_class_list,
    labels_by_name,
    read_class_list,
)
from dualstream.clips.data.annotations.entries import (
    Annotations,
    Entry,
    ListedSet,
    Problem,
    ProblemKind,
    listed_set,
    normalize_class,
    plan_splits,
)
from dualstream.errors import AnnotationError
from dualstream.files import first_line, read_lines

_COLUMNS = ("youtube_id", "time_start", "time_end")


@dataclass(frozen=True)
class _Row:
    where: str
    name: str
    stem: str
    alternative: str
    listed: ListedSet


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
    files = [f for f in sorted(path.iterdir()) if is_kinetics(f)] if path.is_dir() else [path]
    problems: list[Problem] = []
    rows = [row for file in files for row in _read_rows(file, problems)]
    class_list = find_class_list(path if path.is_dir() else path.parent)
    classes = read_class_list(class_list) if class_list else tuple(sorted({r.name for r in rows}))
    labels = labels_by_name(classes)
    plan = plan_splits({(1, row.listed) for row in rows})
    entries: list[Entry] = []
    for row in rows:
        label = labels.get(row.name, labels.get(normalize_class(row.name)))
        if label is None:
            problems.append(
                Problem(
                    "unknown class",
                    row.where,
                    f"class {row.name!r} is not in {class_list}",
                    "The row is left out; correct it or add the class to the list.",
                )
            )
            continue
        for split, side in plan[1, row.listed]:
            entries.append(Entry(row.stem, label, split, side, row.where, (row.alternative,)))
    return Annotations(classes, tuple(entries), tuple(problems))


def _read_rows(file: Path, problems: list[Problem]) -> Iterator[_Row]:
    reader = csv.reader(f"{line}\n" for line in read_lines(file, error=AnnotationError))
    header = [name.strip() for name in next(reader, [])]
    remedy = "The file is left out; its columns must be label,youtube_id,time_start,time_end,split."
    for name in ("label", *_COLUMNS):
        if name not in header:
            kind: ProblemKind = "no label" if name == "label" else "malformed line"
            problems.append(Problem(kind, f"{file}:1", f"column {name!r} is missing", remedy))
            return
    is_empty = True
    for cells in reader:
        where = f"{file}:{reader.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        is_empty = False
        named = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        row = _parse_row(named, where, listed_set(file.stem))
        if row is None:
            remedy = "The row is left out; write label,youtube_id,time_start,time_end,split."
            problems.append(Problem("malformed line", where, f"found {','.join(cells)!r}", remedy))
        else:
            yield row
    if is_empty:
        problems.append(Problem("empty file", str(file), "no video is listed", "Fill the list."))


def _parse_row(cells: dict[str, str], where: str, listed: ListedSet) -> _Row | None:
    """A row; None where a cell is missing or a time is no number."""
    try:
        start, end = (int(float(cells[name])) for name in ("time_start", "time_end"))
    except (KeyError, ValueError, OverflowError):
        return None
    name, youtube_id = cells["label"].strip('"'), cells["youtube_id"]
    if not name or not youtube_id:
        return None
    stem = f"{youtube_id}_{start:06d}_{end:06d}"
    return _Row(where, name, stem, youtube_id, listed_set(cells.get("split", "")) or listed)
