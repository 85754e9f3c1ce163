"""HMDB-51 and J-HMDB: one file a class and split, `<class>_test_split<N>.txt`.

    brush_hair_test_split1.txt    April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

where 1 is train, 2 is test and 0 is in neither. Source: the README of HMDB-51's
test_train_splits.rar; J-HMDB's splits.zip follows it.
"""

from __future__ import annotations

import re
from pathlib import Path

from dualstream.clips.data.annotations.class_lists import find_class_list, read_class_list
from dualstream.clips.data.annotations.entries import (
    Annotations,
    Entry,
    Problem,
    Side,
    annotation_files,
    empty_list,
    is_class_name,
    numbered_lines,
)

_LIST_NAME = re.compile(r"(.+)_test_split([1-9][0-9]?)\.txt")
_LINE = re.compile(r"(.*\S)\s+([012])")
_SIDES: dict[str, Side] = {"0": "", "1": "train", "2": "test"}


def is_hmdb51(file: Path) -> bool:
    """Whether a file is called as HMDB-51's lists are."""
    return bool(_LIST_NAME.fullmatch(file.name))


def read_hmdb51(path: Path) -> Annotations:
    """Read a folder of `<class>_test_split<N>.txt`, or one such file.

    The classes are those of a class list in the folder (`class_list.txt`), or else those of the
    file names in alphabetical order.
    """
    lists: dict[tuple[str, int], Path] = {}
    for file in annotation_files(path, is_hmdb51):
        if match := _LIST_NAME.fullmatch(file.name):
            lists[match.group(1), int(match.group(2))] = file
    class_list = find_class_list(path)
    found = tuple(sorted({name for name, _ in lists if is_class_name(name)}))
    classes = read_class_list(class_list) if class_list else found
    entries: list[Entry] = []
    problems = _missing_lists(path, classes, lists) if path.is_dir() else []
    for (name, split), file in lists.items():
        if name in classes:
            entries += _read_list(file, name, classes.index(name), split, problems)
            continue
        what = (
            f"class {name!r} is not in {class_list}"
            if class_list
            else f"{name!r} cannot name a class"
        )
        remedy = "The file is left out; add the class to the list or rename the file."
        problems.append(Problem("unknown class", str(file), what, remedy))
    return Annotations(classes, tuple(entries), tuple(problems))


def _missing_lists(
    folder: Path, classes: tuple[str, ...], lists: dict[tuple[str, int], Path]
) -> list[Problem]:
    what = "there is no such file"
    remedy = "Add the file; until then the class has no video in that split."
    return [
        Problem("missing list", f"{folder}/{name}_test_split{split}.txt", what, remedy)
        for name in classes
        for split in sorted({split for _, split in lists})
        if (name, split) not in lists
    ]


def _read_list(
    file: Path, class_name: str, label: int, split: int, problems: list[Problem]
) -> list[Entry]:
    entries: list[Entry] = []
    lines = numbered_lines(file)
    for number, line in lines:
        where = f"{file}:{number}"
        if match := _LINE.fullmatch(line):
            hint, side = f"{class_name}/{match.group(1)}", _SIDES[match.group(2)]
            entries.append(Entry(hint, label, split, side, where))
        else:
            remedy = "The line is left out; write `name.avi 1` (train), 2 (test) or 0 (neither)."
            problems.append(Problem("malformed line", where, f"found {line!r}", remedy))
    if not lines:
        problems.append(empty_list(file))
    return entries
