"""Class lists: text files with one class name a line, with or without its number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualstream.clips.data.annotations.entries import (
    Annotations,
    Entry,
    ListedSet,
    Problem,
    annotation_files,
    is_class_name,
    normalize_class,
    numbered_lines,
    plan_splits,
)
from dualstream.errors import AnnotationError

CLASS_LIST_NAMES = ("classInd.txt", "classes.txt", "class_list.txt", "labels.txt")
"""File names under which a class list is looked for, besides `*label_map*.txt`."""


def find_class_list(path: Path) -> Path | None:
    """Return the class list that lies in a folder, or beside a file, if any."""
    folder = path if path.is_dir() else path.parent
    for name in CLASS_LIST_NAMES:
        if (folder / name).is_file():
            return folder / name
    return next(iter(annotation_files(folder, lambda f: f.match("*label_map*.txt"))), None)


def read_class_list(path: Path, *, may_have_numbers: bool = True) -> tuple[str, ...]:
    """Return the class names in the order of their labels.

    Lines are `name`, or all of them `number name` with numbers rising by one from 0 or 1, as in
    UCF-101's classInd.txt (whose numbers start at 1; labels here always start at 0).

    Args:
        path: text file.
        may_have_numbers: with False `1 a` is the name of a class, and a blank line above the
            last name is an error, as it would shift the labels after it.

    Raises:
        AnnotationError: the file is missing or empty, or a name or number is wrong.
    """
    lines = numbered_lines(path)
    if not lines:
        raise AnnotationError(f"{path}: the file holds no class name. Write one name a line.")
    numbered = [re.fullmatch(r"([0-9]{1,9})\s+(.+)", name) for _, name in lines]
    if not may_have_numbers:
        for due, (line, _) in enumerate(lines, start=1):
            if line != due:
                raise AnnotationError(f"{path}:{due}: the line is empty. Write one name a line.")
    elif all(numbered):
        first = min(int(numbered[0][1]), 1) if numbered[0] else 0
        for due, (line, name) in enumerate(lines, start=first):
            number, name = name.split(maxsplit=1)
            if int(number) != due:
                raise AnnotationError(
                    f"{path}:{line}: found class number {int(number)} where {due} was due. "
                    "Numbers must rise by one from 0 or 1."
                )
            lines[due - first] = line, name
    first_line: dict[str, int] = {}
    for line, name in lines:
        if name in first_line:
            raise AnnotationError(
                f"{path}:{line}: class {name!r} stands in line {first_line[name]} already."
            )
        first_line[name] = line
    return tuple(first_line)


def labels_by_name(classes: tuple[str, ...]) -> dict[str, int]:
    """Return the label of each class under its name and its normalised one where unique."""
    normalized = [normalize_class(name) for name in classes]
    count = Counter(normalized)
    labels = {name: i for i, name in enumerate(normalized) if count[name] == 1}
    return labels | {name: i for i, name in enumerate(classes)}


def find_label(name: str, labels: Mapping[str, int]) -> int | None:
    """Return the label of a class by its name, however it is spelled; see `labels_by_name`."""
    return labels.get(name, labels.get(normalize_class(name)))


@dataclass(frozen=True)
class ListLine:
    """A line of an annotation file: a video, its set, and its class by name or by label."""

    where: str
    """`file:line`."""
    hint: str
    listed: ListedSet
    class_name: str = ""
    label: int | None = None
    """None: that of the class name."""
    split: int = 1
    alternatives: tuple[str, ...] = ()


def malformed(where: str, found: object, remedy: str) -> Problem:
    """Problem of a line that is left out."""
    return Problem("malformed line", where, f"found {found}", f"The line is left out; {remedy}.")


def unknown_class(where: str, name: str, class_list: Path | None, remedy: str) -> Problem:
    """Problem of a class that is not in the class list or, without one, cannot be a class."""
    why = (
        f"class {name!r} is not in {class_list}" if class_list else f"{name!r} cannot name a class"
    )
    return Problem("unknown class", where, why, remedy)


def collect_lines(
    path: Path,
    matches: Callable[[Path], bool],
    read: Callable[[Path], Iterable[ListLine | Problem]],
) -> tuple[list[ListLine], list[Problem]]:
    """Return the lines of the files that `annotation_files` finds, and the problems in them."""
    lines: list[ListLine] = []
    problems: list[Problem] = []
    for file in annotation_files(path, matches):
        found = list(read(file))
        lines += [item for item in found if isinstance(item, ListLine)]
        problems += [item for item in found if isinstance(item, Problem)]
        if not found:
            problems.append(
                Problem("empty file", str(file), "no video is listed", "Fill the list.")
            )
    return lines, problems


def label_lines(
    lines: Sequence[ListLine],
    problems: Sequence[Problem],
    *,
    classes: tuple[str, ...] | None,
    class_list: Path | None = None,
) -> Annotations:
    """Return the labels and splits (see `plan_splits`) that lines give their videos.

    Args:
        lines, problems: those of reading; the result holds the problems too.
        classes: in the order of their labels; None: the classes named, in alphabetical order.
        class_list: file that the classes are from.
    """
    if classes is None:
        classes = tuple(sorted(filter(is_class_name, {line.class_name for line in lines})))
    labels = labels_by_name(classes)
    plan = plan_splits({(line.split, line.listed) for line in lines})
    entries: list[Entry] = []
    unknown: list[Problem] = []
    for line in lines:
        label = find_label(line.class_name, labels) if line.label is None else line.label
        if label is None:
            remedy = "The line is left out; correct it or add the class to the list."
            unknown.append(unknown_class(line.where, line.class_name, class_list, remedy))
            continue
        for split, side in plan[line.split, line.listed]:
            entries.append(Entry(line.hint, label, split, side, line.where, line.alternatives))
    return Annotations(classes, tuple(entries), (*problems, *unknown))
