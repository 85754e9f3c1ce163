"""UCF-101: classInd.txt, trainlist01.txt, testlist01.txt, ...

    classInd.txt      1 ApplyEyeMakeup
    trainlist01.txt   ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
    testlist01.txt    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi

Source: the files of UCF101TrainTestSplits-RecognitionTask.zip. Class numbers start at 1, and test
lists have none: there the folder is the class.
"""

from __future__ import annotations

import re
from pathlib import Path

from dualstream.clips.data.annotations.class_lists import (
    find_label,
    labels_by_name,
    read_class_list,
)
from dualstream.clips.data.annotations.entries import (
    Annotations,
    Entry,
    Problem,
    Side,
    annotation_files,
    empty_list,
    folder_of,
    listed_set,
    numbered_lines,
    split_number,
)

_LIST_NAME = re.compile(r"(train|test)list0*[1-9][0-9]?\.txt")


def is_ucf101(file: Path) -> bool:
    """Whether a file is called as UCF-101's lists are."""
    return bool(_LIST_NAME.fullmatch(file.name))


def read_ucf101(path: Path) -> Annotations:
    """Read a folder of trainlistNN.txt and testlistNN.txt, or one such file.

    classInd.txt must lie in the same folder.

    Raises:
        AnnotationError: classInd.txt is missing or wrong.
    """
    classes = read_class_list((path if path.is_dir() else path.parent) / "classInd.txt")
    labels = labels_by_name(classes)
    entries: list[Entry] = []
    problems: list[Problem] = []
    for file in annotation_files(path, is_ucf101):
        listed, split = listed_set(file.stem), split_number(file.stem)
        side: Side = "test" if listed == "validation" else listed
        lines = numbered_lines(file)
        if not lines:
            problems.append(empty_list(file))
        for number, line in lines:
            parsed = _parse_line(line, f"{file}:{number}", labels, num_classes=len(classes))
            if isinstance(parsed, Problem):
                problems.append(parsed)
            else:
                hint, label = parsed
                entries.append(Entry(hint, label, split, side, f"{file}:{number}"))
    return Annotations(classes, tuple(entries), tuple(problems))


def _parse_line(
    line: str, where: str, labels: dict[str, int], *, num_classes: int
) -> tuple[str, int] | Problem:
    """Name and label of `Class/v_Class_g01_c01.avi` or `Class/v_Class_g01_c01.avi 1`."""
    match = re.fullmatch(r"(.*\S)\s+(-?[0-9]{1,18})", line)
    hint, number = (match.group(1), int(match.group(2))) if match else (line, None)
    folder = folder_of(hint)
    from_folder = find_label(folder, labels)
    if number is not None and not 1 <= number <= num_classes:
        what = f"class number {number}, where classInd.txt has 1..{num_classes}"
        remedy = "The line is left out; correct its number."
        return Problem("label out of range", where, what, remedy)
    label = from_folder if number is None else number - 1
    if label is None:
        what = f"{hint!r}: folder {folder!r} is no class of classInd.txt"
        remedy = "The line is left out; correct the folder or add the class."
        return Problem("unknown class", where, what, remedy)
    if from_folder is not None and from_folder != label:
        what = (
            f"folder {folder!r} is class {from_folder + 1} of classInd.txt, the line says {number}"
        )
        remedy = "The line is left out; correct its number or its folder."
        return Problem("conflicting label", where, what, remedy)
    return hint, label
