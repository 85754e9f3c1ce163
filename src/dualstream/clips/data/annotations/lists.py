"""List files: `path label` or `path total_frames label` a line, labels from 0.

    Archery/v_Archery_g01_c01.avi 2
    Archery/v_Archery_g01_c01 123 2
    Archery/v_Archery_g01_c01.avi,2

as TSN, MMAction2 and many other code bases read them; PySlowFast, TimeSformer and VideoMAE call
them train.csv, val.csv and test.csv. Paths may hold blanks: a line is split from its right end.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from dualstream.clips.data.annotations.class_lists import (
    CLASS_LIST_NAMES,
    counts_from_1,
    find_class_list,
    find_label,
    labels_by_name,
    read_class_list,
)
from dualstream.clips.data.annotations.entries import (
    VIDEO_SUFFIXES,
    Annotations,
    Entry,
    Problem,
    annotation_files,
    empty_list,
    folder_of,
    is_class_name,
    listed_set,
    numbered_lines,
    plan_splits,
    split_number,
)
from dualstream.files import first_line

_LINE = re.compile(r"(.*[^\s,])(?:\s+|\s*,\s*)(-?[0-9]{1,18})")
LIST_SUFFIXES = (".csv", ".txt", ".lst", ".list")

MAX_UNNAMED_CLASSES = 1000
"""Classes that a list may count without naming them in a class list; more where it has as many
lines. A mistyped label would otherwise become millions of classes."""


@dataclass(frozen=True)
class _Row:
    where: str
    hint: str
    alternatives: tuple[str, ...]
    label: int


def is_list(file: Path) -> bool:
    """Whether a text file is a list, told from its name (`train.txt`) or its first line.

    A first line that ends in a number is not enough: a README may begin with `Version 2`. A CSV
    file must have such a line, whatever its name is.
    """
    suffix = file.suffix.lower()
    if suffix not in LIST_SUFFIXES or file.name in CLASS_LIST_NAMES:
        return False
    match = _LINE.fullmatch(first_line(file))
    if listed_set(file.stem) and (match or suffix != ".csv"):
        return True
    name = match.group(1) if match else ""
    return "/" in name or any(suffix in name.lower() for suffix in VIDEO_SUFFIXES)


def read_lists(path: Path) -> Annotations:
    """Read a folder of list files, or one list file.

    A file's name says its set and split (`ucf101_train_split_1_videos.txt`, `val.txt`); see
    `plan_splits` for what three sets become. The classes are those of a class list in the
    folder. Without one, a class is named by the folder that its videos alone lie in, or else by
    its label. Labels are read from 1 where the class list or the folders show that they count
    so; this is told as a problem.
    """
    problems: list[Problem] = []
    rows = {file: _read_rows(file, problems) for file in annotation_files(path, is_list)}
    everything = [row for file_rows in rows.values() for row in file_rows]
    class_list = find_class_list(path)
    if class_list:
        classes = read_class_list(class_list)
        first = 1 if _start_at_1(everything, classes, class_list) else 0
        allowed = f"{class_list} has {first}..{len(classes) - 1 + first}"
    else:
        largest = max(MAX_UNNAMED_CLASSES, len(everything)) - 1
        classes = _name_classes([row for row in everything if 0 <= row.label <= largest])
        first, allowed = 0, f"0..{largest} are expected where there is no class list"
    if first:
        what = f"the labels count from 1, as {class_list} shows"
        remedy = "They are read so; compare the classes in manifest.csv with the videos."
        problems.append(Problem("label numbering", str(path), what, remedy))
    listed = {file: (split_number(file.stem), listed_set(file.stem)) for file in rows}
    plan = plan_splits(set(listed.values()))
    entries: list[Entry] = []
    for file, file_rows in rows.items():
        for row in file_rows:
            label = row.label - first
            if not 0 <= label < len(classes):
                what = f"label {row.label}, where {allowed}"
                remedy = "The line is left out; correct its label or the class list."
                problems.append(Problem("label out of range", row.where, what, remedy))
                continue
            for split, side in plan[listed[file]]:
                entries.append(Entry(row.hint, label, split, side, row.where, row.alternatives))
    return Annotations(classes, tuple(entries), tuple(problems))


def _start_at_1(rows: list[_Row], classes: tuple[str, ...], class_list: Path) -> bool:
    """Whether labels count from 1: told by the folders, or else by the largest and smallest.

    With classes 1 Run, 2 Swim and lines `Run/a.mp4 1`, `Swim/c.mp4 2` they do.
    """
    by_name = labels_by_name(classes)
    by_folder = [(row.label, find_label(folder_of(row.hint), by_name)) for row in rows]
    offsets = [label - named for label, named in by_folder if named is not None]
    if offsets:
        return 2 * offsets.count(1) > len(offsets)
    labels = {row.label for row in rows}
    if not labels or min(labels) < 1:
        return False
    return counts_from_1(class_list, classes) or max(labels) == len(classes)


def _read_rows(file: Path, problems: list[Problem]) -> list[_Row]:
    """Rows of one file. Where every line has two numbers, the first one is total_frames."""
    rows: list[_Row] = []
    lines = numbered_lines(file)
    if not lines:
        problems.append(empty_list(file))
    parsed = [(i, line, _LINE.fullmatch(line)) for i, line in lines]
    has_frames = all(_LINE.fullmatch(m.group(1)) for _, _, m in parsed if m)
    for number, line, match in parsed:
        where = f"{file}:{number}"
        if match is None:
            remedy = "The line is left out; write `path label` or `path total_frames label`."
            problems.append(Problem("malformed line", where, f"found {line!r}", remedy))
            continue
        whole, label = match.group(1).strip('"'), int(match.group(2))
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
        folder = folder_of(row.hint).strip()
        folders[row.label].add(folder)
        labels[folder].add(row.label)
    names: list[str] = []
    for label in range(max(folders, default=-1) + 1):
        own = folders[label]
        folder = next(iter(own)) if len(own) == 1 else ""
        is_name = is_class_name(folder) and len(labels[folder]) == 1
        names.append(folder if is_name else str(label))
    return tuple(names) if len(set(names)) == len(names) else tuple(map(str, range(len(names))))
