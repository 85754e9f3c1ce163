"""Lines, classes and problems of a data set's lists, and how files and classes are named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from dualstream.clips.data.intervals import Interval
from dualstream.errors import AnnotationError
from dualstream.files import read_lines

Side = Literal["train", "test", ""]
"""Side of a split; "" where the list names a video that the split leaves out."""

ListedSet = Literal["train", "validation", "test", ""]
"""The set that a list's file name, folder or column speaks of; "" where it says none."""

VIDEO_SUFFIXES = frozenset(
    {".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif"}
    | {".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg"}
    | {".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm"}
    | {".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
"""Extensions, in lower case, of the files that are taken for videos."""

TEXT_SUFFIXES = frozenset(
    {".boris", ".csv", ".eaf", ".json", ".jsonl", ".list", ".lst", ".tsv", ".txt", ".xml"}
)
"""Extensions, in lower case, of the files that may be annotations."""

_OfLines = Literal["malformed line", "missing file", "ambiguous name", "listed twice"]
_OfSplits = Literal["in train and test", "in no list", "missing list", "unread list", "empty file"]
_OfLabels = Literal["unknown class", "no label", "label out of range", "label numbering"]
_OfClasses = Literal["conflicting label", "class without video", "mirrored classes"]
_OfContent = Literal["same content in train and test", "same content in two classes"]
_OfVideos = Literal["broken video", "truncated video", "undecodable frames", "one frame"]
_OfFiles = Literal["bad file name", "other files", "outside class folders"]
_OfTimes = Literal["no times", "wrong times", "outside the video", "overlapping classes"]
_OfSource = Literal["intervals in train and test", "no background"]
ProblemKind = Literal[
    _OfLines, _OfSplits, _OfLabels, _OfClasses, _OfContent, _OfVideos, _OfFiles, _OfTimes, _OfSource
]


@dataclass(frozen=True)
class Problem:
    """Something wrong in a data set that does not stop the rest from being used."""

    kind: ProblemKind
    where: str
    """File, or `file:line` of a list."""
    what: str
    remedy: str
    """How the rest is used, and how to correct it."""


@dataclass(frozen=True)
class Entry:
    """One line of an annotation file: a video, its class, and its side of one split."""

    path_hint: str
    """The video as the list names it; its folder and extension may differ from the file's."""
    label: int
    """Index of the class, from 0."""
    split: int
    """Number of the split, from 1."""
    part: Side
    origin: str
    """`file:line`."""
    alternatives: tuple[str, ...] = ()
    """Other names that the video may go by."""
    interval: Interval | None = None
    """The part of the video that is meant; None for all of it."""
    is_cut: bool = False
    """Whether the file called `path_hint`, not one of the alternatives, holds the interval only."""


@dataclass(frozen=True)
class Annotations:
    """Content of a data set's annotation files."""

    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    may_have_several: bool = False
    """Whether a video, or what intervals share, may have several classes."""


def plan_splits(
    listed: Collection[tuple[int, ListedSet]],
) -> dict[tuple[int, ListedSet], tuple[tuple[int, Side], ...]]:
    """Return the (split, side) pairs that the (split number from 1, set) of each list become.

    A split has two sides, so a data set of three sets becomes two splits: 1 is train and
    validation, 2 is train and test. Test sets beside validation sets are numbered on from the
    last split: with splits 1..3 of three sets each, the test sets are those of splits 4..6.
    """
    last = max((number for number, _ in listed), default=0)
    plan: dict[tuple[int, ListedSet], tuple[tuple[int, Side], ...]] = {}
    for number, name in listed:
        has_both = {(number, "validation"), (number, "test")} <= set(listed)
        side: Side = "test" if name == "validation" else name
        first = number + last if has_both and name == "test" else number
        plan[number, name] = ((first, side),)
        if has_both and name == "train":
            plan[number, name] += ((number + last, side),)
    return plan


SET_WORDS: dict[str, ListedSet] = {
    **dict.fromkeys(("train", "training", "trainlist", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "vallist"), "validation"),
    **dict.fromkeys(("test", "testing", "testlist", "testset"), "test"),
}
"""Words that name a set, in lower case."""


def listed_set(name: str) -> ListedSet:
    """Return the set that a file, folder or column value names.

    `kinetics400_train_list_videos` -> "train", `testlist01` -> "test", `Archery` -> "".
    """
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in SET_WORDS:
            return SET_WORDS[word]
    return ""


def split_number(name: str) -> int:
    """Return the split that a file name speaks of: `ucf101_val_split_3` -> 3, `train_320p` -> 1."""
    match = re.search(
        r"(?:split|list|train|val|test)[_\- ]?0*([1-9][0-9]?)(?![0-9p])", name.lower()
    )
    return int(match.group(1)) if match else 1


_NOT_DATA = frozenset({"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "thumbs.db"})


def is_hidden(name: str) -> bool:
    """Whether a name is the operating system's own: `._a.avi`, `.DS_Store`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in _NOT_DATA


def annotation_files(path: Path, matches: Callable[[Path], bool]) -> list[Path]:
    """Return the text files of a folder that `matches` accepts, sorted, or the file itself."""
    if not path.is_dir():
        return [path]
    try:
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in TEXT_SUFFIXES)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}).") from error
    return [f for f in files if not is_hidden(f.name) and f.is_file() and matches(f)]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Return (number from 1, line) of a file's lines that are not blank, stripped.

    Raises:
        AnnotationError: the file is missing, cannot be read, or is not UTF-8.
    """
    lines = enumerate(read_lines(path, error=AnnotationError), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def is_class_name(name: str) -> bool:
    """Whether a text can stand in a class list: one line of Unicode with no blanks around it."""
    return bool(name) and name == name.strip() and not re.search(r"[\0\r\n\ud800-\udfff]", name)


def folder_of(video: str) -> str:
    """Return the folder that a video lies in: `x/run/a.mp4` and `x\\run\\a.mp4` -> `run`."""
    return PurePosixPath(video.replace("\\", "/")).parent.name


def normalize_class(name: str) -> str:
    """Return a name as it is compared: `air_drumming` and `Air drumming` are one class."""
    return " ".join(name.replace("_", " ").split()).casefold()


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
    Without `may_have_numbers`, `1 a` is the name of a class, and a blank line above the last name
    is an error, as it would shift the labels after it.

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


def label_finder(classes: Sequence[str]) -> Callable[[str], int | None]:
    """Return a function from a class's name, however it is spelled, to its label."""
    normalized = [normalize_class(name) for name in classes]
    count = Counter(normalized)
    labels = {name: i for i, name in enumerate(normalized) if count[name] == 1}
    labels |= {name: i for i, name in enumerate(classes)}
    return lambda name: labels.get(name, labels.get(normalize_class(name)))


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
    interval: Interval | None = None
    is_cut: bool = False


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
    may_have_several: bool = False,
) -> Annotations:
    """Return the labels and splits (see `plan_splits`) that lines give their videos.

    `problems` are those of reading, which the result holds too; `classes` stand in the order of
    their labels in `class_list`, or are the classes named, in alphabetical order.
    """
    if classes is None:
        classes = tuple(sorted(filter(is_class_name, {line.class_name for line in lines})))
    find_label = label_finder(classes)
    plan = plan_splits({(line.split, line.listed) for line in lines})
    entries: list[Entry] = []
    unknown: list[Problem] = []
    for line in lines:
        label = find_label(line.class_name) if line.label is None else line.label
        if label is None:
            remedy = "The line is left out; correct it or add the class to the list."
            unknown.append(unknown_class(line.where, line.class_name, class_list, remedy))
            continue
        for split, side in plan[line.split, line.listed]:
            entries.append(
                Entry(
                    line.hint,
                    label,
                    split,
                    side,
                    line.where,
                    line.alternatives,
                    line.interval,
                    line.is_cut,
                )
            )
    return Annotations(classes, tuple(entries), (*problems, *unknown), may_have_several)
