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

from dualstream.clips.data.annotations.class_lists import labels_by_name, read_class_list
from dualstream.clips.data.annotations.entries import (
    Annotations,
    Entry,
    Problem,
    Side,
    normalize_class,
)
from dualstream.errors import AnnotationError
from dualstream.files import read_lines

LIST_NAME = re.compile(r"(train|test)list0*([1-9][0-9]*)\.txt")


def read_ucf101(path: Path) -> Annotations:
    """Read a folder of trainlistNN.txt and testlistNN.txt, or one such file.

    classInd.txt must lie in the same folder.

    Raises:
        AnnotationError: classInd.txt is missing or wrong.
    """
    folder = path if path.is_dir() else path.parent
    classes = read_class_list(folder / "classInd.txt")
    labels = labels_by_name(classes)
    entries: list[Entry] = []
    problems: list[Problem] = []
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        if not (match := LIST_NAME.fullmatch(file.name)):
            continue
        side: Side = "train" if match.group(1) == "train" else "test"
        lines = [
            (i, line.strip())
            for i, line in enumerate(read_lines(file, error=AnnotationError), start=1)
        ]
        if not any(line for _, line in lines):
            problems.append(
                Problem("empty file", str(file), "no video is listed", "Fill the list.")
            )
        for number, line in lines:
            if not line:
                continue
            parsed = _parse_line(line, f"{file}:{number}", labels, num_classes=len(classes))
            if isinstance(parsed, Problem):
                problems.append(parsed)
            else:
                hint, label = parsed
                split = int(match.group(2))
                entries.append(Entry(hint, label, split, side, f"{file}:{number}"))
    return Annotations(classes, tuple(entries), tuple(problems))


def _parse_line(
    line: str, where: str, labels: dict[str, int], *, num_classes: int
) -> tuple[str, int] | Problem:
    """Name and label of `Class/v_Class_g01_c01.avi` or `Class/v_Class_g01_c01.avi 1`."""
    match = re.fullmatch(r"(.*\S)\s+(-?[0-9]+)", line)
    hint, number = (match.group(1), int(match.group(2))) if match else (line, None)
    folder = hint.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
    from_folder = labels.get(folder, labels.get(normalize_class(folder)))
    if number is not None and not 1 <= number <= num_classes:
        return Problem(
            "label out of range",
            where,
            f"class number {number}, where classInd.txt has 1..{num_classes}",
            "The line is left out; correct its number.",
        )
    if number is None and from_folder is None:
        return Problem(
            "unknown class",
            where,
            f"{hint!r}: folder {folder!r} is no class of classInd.txt",
            "The line is left out; correct the folder or add the class.",
        )
    label = from_folder if number is None else number - 1
    if from_folder is not None and from_folder != label:
        return Problem(
            "conflicting label",
            where,
            f"folder {folder!r} is class {from_folder + 1} of classInd.txt, the line says {number}",
            "The line is left out; correct its number or its folder.",
        )
    assert label is not None
    return hint, label
