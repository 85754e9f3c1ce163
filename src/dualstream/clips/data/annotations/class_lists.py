"""Class lists: text files with one class name a line, with or without its number."""

from __future__ import annotations

import re
from pathlib import Path

from dualstream.clips.data.annotations.entries import normalize_class
from dualstream.errors import AnnotationError
from dualstream.files import read_lines

CLASS_LIST_NAMES = ("classInd.txt", "classes.txt", "class_list.txt", "labels.txt")
"""File names under which a class list is looked for, besides `*label_map*.txt`."""


def find_class_list(folder: Path) -> Path | None:
    """The class list that lies in a folder, if any."""
    for name in CLASS_LIST_NAMES:
        if (folder / name).is_file():
            return folder / name
    return next(iter(sorted(folder.glob("*label_map*.txt"))), None)


def read_class_list(path: Path) -> tuple[str, ...]:
    """Class names in the order of their labels.

    Lines are `name`, or all of them `number name` with numbers rising by one from 0 or 1, as in
    UCF-101's classInd.txt (whose numbers start at 1; labels here always start at 0).

    Raises:
        AnnotationError: the file is missing or empty, or a name or number is wrong.
    """
    lines = [
        (i, line.strip()) for i, line in enumerate(read_lines(path, error=AnnotationError), start=1)
    ]
    lines = [(i, line) for i, line in lines if line]
    if not lines:
        raise AnnotationError(f"{path}: the file holds no class name. Write one name a line.")
    names = [line for _, line in lines]
    numbered = [re.fullmatch(r"([0-9]+)\s+(.+)", name) for name in names]
    if all(numbered):
        names = [match.group(2) for match in numbered if match]
        numbers = [int(match.group(1)) for match in numbered if match]
        first = min(numbers[0], 1)
        for expected, ((line, _), number) in enumerate(zip(lines, numbers, strict=True), first):
            if number != expected:
                raise AnnotationError(
                    f"{path}:{line}: found class number {number} where {expected} was due. "
                    "Numbers must rise by one from 0 or 1."
                )
    first_line: dict[str, int] = {}
    for (line, _), name in zip(lines, names, strict=True):
        if name in first_line:
            raise AnnotationError(
                f"{path}:{line}: class {name!r} stands in line {first_line[name]} already."
            )
        first_line[name] = line
    return tuple(names)


def labels_by_name(classes: tuple[str, ...]) -> dict[str, int]:
    """Label of each class under its name and, where that is unique, its normalised name."""
    normalized = [normalize_class(name) for name in classes]
    labels = {n: i for i, n in enumerate(normalized) if normalized.count(n) == 1}
    return labels | {name: i for i, name in enumerate(classes)}
