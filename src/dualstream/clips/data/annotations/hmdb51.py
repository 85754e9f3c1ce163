"""HMDB-51 and J-HMDB: one file a class and split, `<class>_test_split<N>.txt`.

    brush_hair_test_split1.txt    April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

where 1 is train, 2 is test and 0 is in neither. Source: the README of HMDB-51's
test_train_splits.rar; J-HMDB's splits.zip follows it.
"""

from __future__ import annotations

import re
from pathlib import Path

from dualstream.clips.data.annotations.class_lists import find_class_list, read_class_list
from dualstream.clips.data.annotations.entries import Annotations, Entry, Problem, Side
from dualstream.errors import AnnotationError
from dualstream.files import read_lines

LIST_NAME = re.compile(r"(.+)_test_split([1-9][0-9]*)\.txt")

_SIDES: dict[str, Side] = {"0": "", "1": "train", "2": "test"}


def read_hmdb51(path: Path) -> Annotations:
    """Read a folder of `<class>_test_split<N>.txt`, or one such file.

    The classes are those of a class list in the folder (`class_list.txt`), or else those of the
    file names in alphabetical order.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    lists: dict[tuple[str, int], Path] = {}
    for file in files:
        if match := LIST_NAME.fullmatch(file.name):
            lists[match.group(1), int(match.group(2))] = file
    class_list = find_class_list(path if path.is_dir() else path.parent)
    found = tuple(sorted({name for name, _ in lists}))
    classes = read_class_list(class_list) if class_list else found
    entries: list[Entry] = []
    problems: list[Problem] = []
    if path.is_dir():
        problems += _missing_lists(path, classes, lists)
    for (name, split), file in lists.items():
        if name not in classes:
            problems.append(
                Problem(
                    "unknown class",
                    str(file),
                    f"class {name!r} is not in {class_list}",
                    "The file is left out; add the class to the list or rename the file.",
                )
            )
            continue
        label = classes.index(name)
        file_entries, file_problems = _read_list(file, name, label=label, split=split)
        entries += file_entries
        problems += file_problems
    return Annotations(classes, tuple(entries), tuple(problems))


def _missing_lists(
    folder: Path, classes: tuple[str, ...], lists: dict[tuple[str, int], Path]
) -> list[Problem]:
    splits = sorted({split for _, split in lists})
    missing = [
        f"{name}_test_split{split}.txt"
        for name in classes
        for split in splits
        if (name, split) not in lists
    ]
    remedy = "Add the file; until then the class has no video in that split."
    return [
        Problem("missing list", str(folder / name), "there is no such file", remedy)
        for name in missing
    ]


def _read_list(
    file: Path, class_name: str, *, label: int, split: int
) -> tuple[list[Entry], list[Problem]]:
    entries: list[Entry] = []
    problems: list[Problem] = []
    lines = read_lines(file, error=AnnotationError)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"(.*\S)\s+([012])", line.strip())
        if match is None:
            problems.append(
                Problem(
                    "malformed line",
                    f"{file}:{number}",
                    f"found {line.strip()!r}",
                    "The line is left out; write `name.avi 1` (train), 2 (test) or 0 (neither).",
                )
            )
            continue
        hint, side = f"{class_name}/{match.group(1)}", _SIDES[match.group(2)]
        entries.append(Entry(hint, label, split, side, f"{file}:{number}"))
    if not entries and not problems:
        problems.append(Problem("empty file", str(file), "no video is listed", "Fill the list."))
    return entries, problems
