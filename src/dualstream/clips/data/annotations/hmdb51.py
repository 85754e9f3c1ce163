"""HMDB-51 and J-HMDB: one file a class and split, `<class>_test_split<N>.txt`.

    brush_hair_test_split1.txt    April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

where 1 is train, 2 is test and 0 is in neither. Source: the README of HMDB-51's
test_train_splits.rar; J-HMDB's splits.zip follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from dualstream.clips.data.annotations.class_lists import (
    ListLine,
    collect_lines,
    find_class_list,
    label_lines,
    malformed,
    read_class_list,
    unknown_class,
)
from dualstream.clips.data.annotations.entries import (
    Annotations,
    ListedSet,
    Problem,
    annotation_files,
    is_class_name,
    numbered_lines,
)

_LIST_NAME = re.compile(r"(.+)_test_split([1-9][0-9]?)\.txt")
_LINE = re.compile(r"(.*\S)\s+([012])")
_SETS: dict[str, ListedSet] = {"0": "", "1": "train", "2": "test"}


def is_hmdb51(file: Path) -> bool:
    """Whether a file is called as HMDB-51's lists are."""
    return bool(_LIST_NAME.fullmatch(file.name))


def read_hmdb51(path: Path) -> Annotations:
    """Read a folder of `<class>_test_split<N>.txt`, or one such file.

    The classes are those of a class list in the folder (`class_list.txt`), or else those of the
    file names in alphabetical order.
    """
    lists = {_class_and_split(file) for file in annotation_files(path, is_hmdb51)}
    class_list = find_class_list(path)
    found = tuple(sorted({name for name, _ in lists if is_class_name(name)}))
    classes = read_class_list(class_list) if class_list else found

    def read(file: Path) -> Iterator[ListLine | Problem]:
        name, split = _class_and_split(file)
        if name not in classes:
            remedy = "The file is left out; add the class to the list or rename the file."
            yield unknown_class(str(file), name, class_list, remedy)
            return
        for number, line in numbered_lines(file):
            where = f"{file}:{number}"
            if match := _LINE.fullmatch(line):
                hint, listed = f"{name}/{match.group(1)}", _SETS[match.group(2)]
                yield ListLine(where, hint, listed, label=classes.index(name), split=split)
            else:
                remedy = "write `name.avi 1` (train), 2 (test) or 0 (neither)"
                yield malformed(where, repr(line), remedy)

    lines, problems = collect_lines(path, is_hmdb51, read)
    what = "there is no such file"
    remedy = "Add the file; until then the class has no video in that split."
    missing = [
        Problem("missing list", f"{path}/{name}_test_split{split}.txt", what, remedy)
        for name, split in product(classes, sorted({split for _, split in lists}))
        if path.is_dir() and (name, split) not in lists
    ]
    return label_lines(lines, missing + problems, classes=classes)


def _class_and_split(file: Path) -> tuple[str, int]:
    match = _LIST_NAME.fullmatch(file.name)
    return (match.group(1), int(match.group(2))) if match else (file.stem, 1)
