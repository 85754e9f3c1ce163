"""Text lists, a video a line: UCF-101, HMDB-51 and `path label`.

UCF-101, whose class numbers start at 1 (source: UCF101TrainTestSplits-RecognitionTask.zip):

    classInd.txt      1 ApplyEyeMakeup
    trainlist01.txt   ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
    testlist01.txt    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi

HMDB-51 and J-HMDB, one file a class and split, where 1 is train, 2 is test and 0 is in neither
(source: the README of HMDB-51's test_train_splits.rar; J-HMDB's splits.zip follows it):

    brush_hair_test_split1.txt    April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

`path label` or `path total_frames label`, labels from 0, as TSN, MMAction2 and many other code
bases read them; PySlowFast, TimeSformer and VideoMAE call them train.csv, val.csv and test.csv.
Paths may hold blanks: a line is split from its right end.

    Archery/v_Archery_g01_c01.avi 2
    Archery/v_Archery_g01_c01 123 2
    Archery/v_Archery_g01_c01.avi,2

Sports-1M, whose videos have one label or several, lines of labels.txt from 0 (source: the README of
github.com/gtoderici/sports-1m-dataset); videos are called by their YouTube id, `UDqivjS-lpI.mp4`:

    train_partition.txt    https://www.youtube.com/watch?v=UDqivjS-lpI 168,169
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from dualstream.clips.data.annotations.entries import (
    CLASS_LIST_NAMES,
    VIDEO_SUFFIXES,
    Annotations,
    ListedSet,
    ListLine,
    Problem,
    annotation_files,
    collect_lines,
    find_class_list,
    folder_of,
    is_class_name,
    label_finder,
    label_lines,
    listed_set,
    malformed,
    numbered_lines,
    read_class_list,
    split_number,
    unknown_class,
)
from dualstream.errors import AnnotationError
from dualstream.files import first_line

_UCF101_NAME = re.compile(r"(train|test)list0*[1-9][0-9]?\.txt")
_UCF101_LINE = re.compile(r"(.*?\S)(?:\s+(-?[0-9]{1,18}))?")


def is_ucf101(file: Path) -> bool:
    """Whether a file is called as UCF-101's lists are."""
    return bool(_UCF101_NAME.fullmatch(file.name))


def read_ucf101(path: Path) -> Annotations:
    """Read a folder of trainlistNN.txt and testlistNN.txt beside classInd.txt, or one such file."""
    classes = read_class_list((path if path.is_dir() else path.parent) / "classInd.txt")
    find_label = label_finder(classes)

    def read(file: Path) -> Iterator[ListLine | Problem]:
        listed, split = listed_set(file.stem), split_number(file.stem)
        for line_number, line in numbered_lines(file):
            where = f"{file}:{line_number}"
            match = _UCF101_LINE.fullmatch(line)
            hint, number = match.groups() if match else (line, None)
            folder = folder_of(hint)
            named = find_label(folder)
            label = named if number is None else int(number) - 1
            if label is None:
                what = f"{hint!r}: folder {folder!r} is no class of classInd.txt"
                remedy = "The line is left out; correct the folder or add the class."
                yield Problem("unknown class", where, what, remedy)
            elif not 0 <= label < len(classes):
                what = f"class number {label + 1}, where classInd.txt has 1..{len(classes)}"
                remedy = "The line is left out; correct its number."
                yield Problem("label out of range", where, what, remedy)
            elif named is not None and named != label:
                found = f"folder {folder!r} is class {named + 1} of classInd.txt"
                what = f"{found}, the line says {number}"
                remedy = "The line is left out; correct its number or its folder."
                yield Problem("conflicting label", where, what, remedy)
            else:
                yield ListLine(where, hint, listed, label=label, split=split)

    return label_lines(*collect_lines(path, is_ucf101, read), classes=classes)


_HMDB51_NAME = re.compile(r"(.+)_test_split([1-9][0-9]?)\.txt")
_HMDB51_LINE = re.compile(r"(.*\S)\s+([012])")
_SETS: dict[str, ListedSet] = {"0": "", "1": "train", "2": "test"}


def is_hmdb51(file: Path) -> bool:
    """Whether a file is called as HMDB-51's lists are."""
    return bool(_HMDB51_NAME.fullmatch(file.name))


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
            if match := _HMDB51_LINE.fullmatch(line):
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
    match = _HMDB51_NAME.fullmatch(file.name)
    return (match.group(1), int(match.group(2))) if match else (file.stem, 1)


_LINE = re.compile(r"(.*[^\s,])(?:\s+|\s*,\s*)(-?[0-9]{1,18})")
LIST_SUFFIXES = (".csv", ".txt", ".lst", ".list")

MAX_UNNAMED_CLASSES = 1000
"""Classes that a list may count without naming them in a class list; more where it has as many
lines. A mistyped label would otherwise become millions of classes."""


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
    lines, problems = collect_lines(path, is_list, _read_list)
    rows = [(line, line.label) for line in lines if line.label is not None]
    class_list = find_class_list(path)
    if class_list:
        classes = read_class_list(class_list)
        first = 1 if _start_at_1(rows, classes, class_list) else 0
        allowed = f"{class_list} has {first}..{len(classes) - 1 + first}"
    else:
        largest = max(MAX_UNNAMED_CLASSES, len(lines)) - 1
        classes = _name_classes([row for row in rows if 0 <= row[1] <= largest])
        first, allowed = 0, f"0..{largest} are expected where there is no class list"
    if first:
        what = f"the labels count from 1, as {class_list} shows"
        remedy = "They are read so; compare the classes in manifest.csv with the videos."
        problems.append(Problem("label numbering", str(path), what, remedy))
    good: list[ListLine] = []
    for line, label in rows:
        if first <= label < len(classes) + first:
            good.append(replace(line, label=label - first))
        else:
            what = f"label {label}, where {allowed}"
            remedy = "The line is left out; correct its label or the class list."
            problems.append(Problem("label out of range", line.where, what, remedy))
    return label_lines(good, problems, classes=classes)


_Rows = Sequence[tuple[ListLine, int]]
"""Lines, each with its label as it stands there."""


def _start_at_1(rows: _Rows, classes: tuple[str, ...], class_list: Path) -> bool:
    """Whether labels count from 1: told by the folders, or else by the largest and smallest.

    With classes 1 Run, 2 Swim and lines `Run/a.mp4 1`, `Swim/c.mp4 2` they do.
    """
    find_label = label_finder(classes)
    by_folder = [(label, find_label(folder_of(line.hint))) for line, label in rows]
    offsets = [label - named for label, named in by_folder if named is not None]
    if offsets:
        return 2 * offsets.count(1) > len(offsets)
    labels = {label for _, label in rows}
    if not labels or min(labels) < 1:
        return False
    head = first_line(class_list)
    is_numbered_from_1 = head != classes[0] and int(head.split()[0]) == 1
    return is_numbered_from_1 or max(labels) == len(classes)


def _read_list(file: Path) -> Iterator[ListLine | Problem]:
    """Lines of one file. Where every line has two numbers, the first one is total_frames."""
    listed, split = listed_set(file.stem), split_number(file.stem)
    parsed = [(number, line, _LINE.fullmatch(line)) for number, line in numbered_lines(file)]
    has_frames = all(_LINE.fullmatch(match.group(1)) for _, _, match in parsed if match)
    for number, line, match in parsed:
        where = f"{file}:{number}"
        if match is None:
            remedy = "write `path label` or `path total_frames label`"
            yield malformed(where, repr(line), remedy)
            continue
        whole, label = match.group(1).strip('"'), int(match.group(2))
        shorter = _LINE.fullmatch(whole) if has_frames else None
        hint, others = (shorter.group(1), (whole,)) if shorter else (whole, ())
        yield ListLine(where, hint, listed, label=label, split=split, alternatives=others)


def _name_classes(rows: _Rows) -> tuple[str, ...]:
    """A name for each label from 0 to the largest one (of a list without a class list)."""
    folders: dict[int, set[str]] = defaultdict(set)
    labels: dict[str, set[int]] = defaultdict(set)
    for line, label in rows:
        folder = folder_of(line.hint).strip()
        folders[label].add(folder)
        labels[folder].add(label)
    names: list[str] = []
    for label in range(max(folders, default=-1) + 1):
        own = folders[label]
        folder = next(iter(own)) if len(own) == 1 else ""
        is_name = is_class_name(folder) and len(labels[folder]) == 1
        names.append(folder if is_name else str(label))
    return tuple(names) if len(set(names)) == len(names) else tuple(map(str, range(len(names))))


_SPORTS1M_LINE = re.compile(r"https?://\S*?[?&/](?:v=)?([\w-]{11})(?:&\S*)?\s+(\d+(?:,\d+)*)")


def is_sports1m(file: Path) -> bool:
    """Whether the first line of a text file is a YouTube URL with numbers of classes."""
    return file.suffix.lower() == ".txt" and bool(_SPORTS1M_LINE.fullmatch(first_line(file)))


def read_sports1m(path: Path) -> Annotations:
    """Read a folder of Sports-1M's partitions, or one of them; labels.txt beside or above."""
    folder = path if path.is_dir() else path.parent
    class_list = find_class_list(path) or find_class_list(folder.parent)
    if class_list is None:
        raise AnnotationError(f"{folder}: there is no labels.txt in it or above it.")
    classes = read_class_list(class_list, may_have_numbers=False)
    allowed = f"{class_list} has 0..{len(classes) - 1}"

    def read(file: Path) -> Iterator[ListLine | Problem]:
        listed = listed_set(file.stem)
        for number, line in numbered_lines(file):
            where, match = f"{file}:{number}", _SPORTS1M_LINE.fullmatch(line)
            if match is None:
                yield malformed(where, repr(line), "write `URL label,label`")
                continue
            for label in map(int, match.group(2).split(",")):
                if label < len(classes):
                    yield ListLine(where, match.group(1), listed, label=label)
                else:
                    remedy = "The label is left out; correct it or the class list."
                    what = f"label {label}, where {allowed}"
                    yield Problem("label out of range", where, what, remedy)

    found = collect_lines(path, is_sports1m, read)
    return label_lines(*found, classes=classes, class_list=class_list, may_have_several=True)
