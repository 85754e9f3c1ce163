"""List files: `path label` or `path total_frames label` a line, labels from 0.

    Archery/v_Archery_g01_c01.avi 2
    Archery/v_Archery_g01_c01 123 2

as TSN, MMAction2 and many other code bases read them. Paths may hold blanks: a line is split from
its right end.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dualstream.clips.data.annotations.class_lists import (
    CLASS_LIST_NAMES,
    find_class_list,
    read_class_list,
)
from dualstream.clips.data.annotations.entries import (
    VIDEO_SUFFIXES,
    Annotations,
    Entry,
    Problem,
    listed_set,
    plan_splits,
    split_number,
)
from dualstream.errors import AnnotationError
from dualstream.files import first_line, read_lines

_LINE = re.compile(r"(.*\S)\s+(-?[0-9]{1,9})")
LIST_SUFFIXES = (".txt", ".lst", ".list")


@dataclass(frozen=True)
class _Row:
    where: str
    hint: str
    alternatives: tuple[str, ...]
    label: int


def is_list(file: Path) -> bool:
    """Whether a text file is a list, told from its name (`train.txt`) or its first line.

    A first line that ends in a number is not enough: a README may begin with `Version 2`.
    """
    if file.suffix.lower() not in LIST_SUFFIXES or file.name in CLASS_LIST_NAMES:
        return False
    if listed_set(file.stem):
        return True
    match = _LINE.fullmatch(first_line(file))
    name = match.group(1) if match else ""
    return "/" in name or any(suffix in name.lower() for suffix in VIDEO_SUFFIXES)


def read_lists(path: Path) -> Annotations:
    """Read a folder of list files, or one list file.

    A file's name says its set and split (`ucf101_train_split_1_videos.txt`, `val.txt`); see
    `plan_splits` for what three sets become. The classes are those of a class list in the
    folder. Without one, a class is named by the folder that its videos alone lie in, or else by
    its label.
    """
    files = [f for f in sorted(path.iterdir()) if is_list(f)] if path.is_dir() else [path]
    problems: list[Problem] = []
    rows = {file: _read_rows(file, problems) for file in files}
    listed = {file: (split_number(file.stem), listed_set(file.stem)) for file in files}
    plan = plan_splits(set(listed.values()))
    class_list = find_class_list(path if path.is_dir() else path.parent)
    everything = [row for file in files for row in rows[file] if row.label >= 0]
    classes = read_class_list(class_list) if class_list else _name_classes(everything)
    entries: list[Entry] = []
    for file in files:
        for row in rows[file]:
            if not 0 <= row.label < len(classes):
                what = f"label {row.label}, where {class_list} has 0..{len(classes) - 1}"
                if class_list is None:
                    what = f"label {row.label} is below 0"
                remedy = "The line is left out; labels start at 0."
                problems.append(Problem("label out of range", row.where, what, remedy))
                continue
            for split, side in plan[listed[file]]:
                entry = Entry(row.hint, row.label, split, side, row.where, row.alternatives)
                entries.append(entry)
    return Annotations(classes, tuple(entries), tuple(problems))


def _read_rows(file: Path, problems: list[Problem]) -> list[_Row]:
    """Rows of one file. Where every line has two numbers, the first one is total_frames."""
    rows: list[_Row] = []
    lines = [
        (i, line.strip()) for i, line in enumerate(read_lines(file, error=AnnotationError), start=1)
    ]
    lines = [(i, line) for i, line in lines if line]
    if not lines:
        problems.append(Problem("empty file", str(file), "no video is listed", "Fill the list."))
    parsed = [(i, line, _LINE.fullmatch(line)) for i, line in lines]
    has_frames = all(_LINE.fullmatch(m.group(1)) for _, _, m in parsed if m)
    for number, line, match in parsed:
        where = f"{file}:{number}"
        if match is None:
            remedy = "The line is left out; write `path label` or `path total_frames label`."
            problems.append(Problem("malformed line", where, f"found {line!r}", remedy))
            continue
        whole, label = match.group(1), int(match.group(2))
        shorter = _LINE.fullmatch(whole) if has_frames else None
        if shorter:
            rows.append(_Row(where, shorter.group(1), (whole,), label))
        else:
            rows.append(_Row(where, whole, (), label))
    return rows


def _name_classes(rows: list[_Row]) -> tuple[str, ...]:
    """A name for each label from 0 to the largest one (of a list without a class list)."""
    folders: dict[int, set[str]] = defaultdict(set)
    labels: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        folder = PurePosixPath(row.hint.replace("\\", "/")).parent.name
        folders[row.label].add(folder)
        labels[folder].add(row.label)
    names: list[str] = []
    for label in range(max(folders, default=-1) + 1):
        own = [f for f in folders[label] if f.strip() and len(labels[f]) == 1]
        is_named = len(own) == 1 and len(folders[label]) == 1
        names.append(own[0].strip() if is_named else str(label))
    return tuple(names) if len(set(names)) == len(names) else tuple(map(str, range(len(names))))
