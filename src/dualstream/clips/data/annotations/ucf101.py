"""UCF-101: classInd.txt, trainlist01.txt, testlist01.txt, ...

    classInd.txt      1 ApplyEyeMakeup
    trainlist01.txt   ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
    testlist01.txt    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi

Source: the files of UCF101TrainTestSplits-RecognitionTask.zip. Class numbers start at 1, and test
lists have none: there the folder is the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dualstream.clips.data.annotations.class_lists import (
    ListLine,
    collect_lines,
    find_label,
    label_lines,
    labels_by_name,
    read_class_list,
)
from dualstream.clips.data.annotations.entries import (
    Annotations,
    Problem,
    folder_of,
    listed_set,
    numbered_lines,
    split_number,
)

_LIST_NAME = re.compile(r"(train|test)list0*[1-9][0-9]?\.txt")
_LINE = re.compile(r"(.*?\S)(?:\s+(-?[0-9]{1,18}))?")


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

    def read(file: Path) -> Iterator[ListLine | Problem]:
        listed, split = listed_set(file.stem), split_number(file.stem)
        for line_number, line in numbered_lines(file):
            where = f"{file}:{line_number}"
            match = _LINE.fullmatch(line)
            hint, number = match.groups() if match else (line, None)
            folder = folder_of(hint)
            named = find_label(folder, labels)
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
