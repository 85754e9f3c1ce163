"""Classes, entries and problems of a data set's lists, and how files and classes are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

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

TEXT_SUFFIXES = frozenset({".csv", ".json", ".jsonl", ".list", ".lst", ".tsv", ".txt", ".xml"})
"""Extensions, in lower case, of the files that may be annotations."""

_OfLines = Literal["malformed line", "missing file", "ambiguous name", "listed twice"]
_OfSplits = Literal["in train and test", "in no list", "missing list", "unread list", "empty file"]
_OfLabels = Literal["unknown class", "no label", "label out of range", "label numbering"]
_OfClasses = Literal["conflicting label", "class without video", "mirrored classes"]
_OfContent = Literal["same content in train and test", "same content in two classes"]
_OfVideos = Literal["broken video", "truncated video", "undecodable frames", "one frame"]
_OfFiles = Literal["bad file name", "other files", "outside class folders"]
ProblemKind = Literal[_OfLines, _OfSplits, _OfLabels, _OfClasses, _OfContent, _OfVideos, _OfFiles]


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


@dataclass(frozen=True)
class Annotations:
    """Content of a data set's annotation files."""

    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()


def plan_splits(
    listed: Collection[tuple[int, ListedSet]],
) -> dict[tuple[int, ListedSet], tuple[tuple[int, Side], ...]]:
    """Return the split numbers and sides that the sets of a data set become.

    A split has two sides, so a data set of three sets becomes two splits: 1 is train and
    validation, 2 is train and test. Test sets beside validation sets are numbered on from the
    last split: with splits 1..3 of three sets each, the test sets are those of splits 4..6.

    Args:
        listed: (split number from 1, set) of each list found.

    Returns:
        For each of them the (split, side) pairs that its videos get.
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

    `kinetics400_train_list_videos` -> "train", `ucf101_val_split_1` -> "validation",
    `testlist01` -> "test", `Archery` -> "".
    """
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in SET_WORDS:
            return SET_WORDS[word]
    return ""


def split_number(name: str) -> int:
    """Return the split that a list's file name speaks of, 1 where it names none.

    `ucf101_val_split_3_videos` -> 3, `trainlist02` -> 2, `train_320p` -> 1.
    """
    match = re.search(
        r"(?:split|list|train|val|test)[_\- ]?0*([1-9][0-9]?)(?![0-9p])", name.lower()
    )
    return int(match.group(1)) if match else 1


_NOT_DATA = frozenset({"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "thumbs.db"})


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the operating system's own and no part of a data set.

    `._clip.avi` (macOS's second file beside `clip.avi`), `.DS_Store`, `__MACOSX`, `@eaDir`.
    """
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
