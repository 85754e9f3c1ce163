"""Video files below a folder, and those that the lines of annotation files name."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dualstream.clips.data.annotations.entries import (
    VIDEO_SUFFIXES,
    Annotations,
    Entry,
    Problem,
    Side,
    folder_of,
    is_hidden,
    label_finder,
    normalize_class,
)
from dualstream.clips.data.intervals import Interval
from dualstream.errors import AnnotationError


def list_videos(root: Path) -> list[str]:
    """Return the video files below a folder; see `list_files`."""
    return [name for name in list_files(root) if is_video(name)]


def is_video(name: str) -> bool:
    """Whether a file is taken for a video, told from its extension."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def list_files(root: Path) -> list[str]:
    """Return the paths from `root` of all files below it, with `/` between folders, sorted.

    Links are followed (once); the system's own files and folders (`is_hidden`) are left out.

    Raises:
        AnnotationError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise AnnotationError(f"{error.filename}: cannot be read ({error.strerror}).") from error

    names: list[str] = []
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not is_hidden(name)]
        base = PurePosixPath(Path(folder).relative_to(root).as_posix())
        names += [str(base / name) for name in files if not is_hidden(name)]
    return sorted(names)


class VideoIndex:
    """Finds the file that a line of an annotation file names.

    Args:
        names: the videos (see `list_videos`).
        class_folders: names of folders that hold the videos of one class; a line that says
            `a/1.mp4` never names the file `b/1.mp4` when `b` is such a folder.
    """

    def __init__(self, names: Sequence[str], *, class_folders: Iterable[str] = ()) -> None:
        self._exact = {_key(name): name for name in names}
        self._tails: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name in names:
            parts = _parts(name)
            for start in range(len(parts)):
                self._tails[parts[start:]].append(name)
        self._class_folders = set(map(normalize_class, class_folders))

    def find(self, hint: str, *, class_name: str = "") -> tuple[str, ...]:
        """Return the videos that a hint may name: none, one, or several that it leaves open.

        Folders and extensions may differ: with a file `UCF-101/Archery/v_g01.mp4`, the hints
        `Archery/v_g01.avi`, `/data/UCF-101/Archery/v_g01` and `v_g01` name it. `class_name` tells
        files of one name in several class folders apart.
        """
        for text in (hint, hint.replace("\\", "/")):
            if name := self._exact.get(_key(text)):
                return (name,)
        parts = _parts(hint.replace("\\", "/"))
        found: list[str] = []
        for start in range(len(parts)):
            found = self._tails.get(parts[start:], [])
            if 0 < start == len(parts) - 1:
                found = [name for name in found if _class_of(name) not in self._class_folders]
            if found:
                break
        if len(found) > 1 and class_name:
            wanted = normalize_class(class_name)
            found = [name for name in found if _class_of(name) == wanted] or found
        return tuple(found)


def _class_of(name: str) -> str:
    return normalize_class(folder_of(name))


def _key(name: str) -> str:
    """Names in one Unicode form: macOS stores `é` as two characters."""
    return unicodedata.normalize("NFC", name)


def _parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a name: `a/b.mp4` -> ("a", "b"); only a video's extension is cut."""
    path = PurePosixPath(_key(name))
    stem = path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
    return (*(part for part in path.parts[:-1] if part not in ("/", "..")), stem)


Place = tuple[str, Interval | None]
"""A video file and what of it is meant, None for all."""


@dataclass
class ListedVideo:
    """Classes and sides that the lists give one video file, or an interval of it."""

    labels: tuple[int, ...]
    """One, unless a video may have several; in the order of the lists."""
    origin: str
    """`file:line` of its first entry."""
    may_be_cut: bool = False
    """Whether the file may hold the interval only; its length tells."""
    sides: dict[int, tuple[Side, str]] = field(default_factory=dict)
    """Split number -> side, and `file:line` of its entry."""


def match_entries(
    root: Path,
    names: Sequence[str],
    annotations: Annotations,
    problems: list[Problem],
    *,
    check_folders: bool,
) -> tuple[dict[Place, ListedVideo], frozenset[str]]:
    """Match the lines of annotation files with the videos that they name.

    Problems of the lines are added to `problems`; with `check_folders`, lines that contradict the
    class folder of their video are left out.

    Returns classes and sides of each listed video or interval, and the video files of which all
    lines are left out.
    """
    hint_folders = {folder_of(entry.path_hint) for entry in annotations.entries} - {""}
    find_label = label_finder(annotations.classes if check_folders else ())
    index = VideoIndex(names, class_folders={*annotations.classes, *hint_folders})
    listed: dict[Place, ListedVideo] = {}
    refused: set[str] = set()
    for entry in annotations.entries:
        class_name = annotations.classes[entry.label]
        hints = (entry.path_hint, *entry.alternatives)
        finds = ((hint, index.find(hint, class_name=class_name)) for hint in hints)
        hint, found = next((pair for pair in finds if pair[1]), ("", ()))
        if len(found) == 1:
            if problem := _check_folder(entry, found[0], find_label, annotations.classes):
                problems.append(problem)
                refused.add(found[0])
                continue
            is_cut = entry.is_cut and hint == entry.path_hint
            place = found[0], None if is_cut else entry.interval
            new = ListedVideo((entry.label,), entry.origin, entry.is_cut)
            video = listed.setdefault(place, new)
            if problem := _add_entry(video, entry, found[0], annotations):
                problems.append(problem)
        elif found:
            what = f"{entry.path_hint!r} may be {' or '.join(map(repr, found[:3]))}"
            remedy = "The line is left out; give the path from the folder of the videos."
            problems.append(Problem("ambiguous name", entry.origin, what, remedy))
        else:
            what = f"there is no video {entry.path_hint!r} in {root}"
            remedy = "The line is left out; add the file or remove the line."
            problems.append(Problem("missing file", entry.origin, what, remedy))
    return listed, frozenset(refused - {path for path, _ in listed})


def _check_folder(
    entry: Entry, name: str, find_label: Callable[[str], int | None], classes: tuple[str, ...]
) -> Problem | None:
    """Problem of a video that lies in the folder of another class than its line gives it."""
    for folder in (folder_of(name), folder_of(entry.path_hint)):
        label = find_label(folder)
        # A folder `1` need not be class `1`: classes without a name are called by their label.
        if label is not None and label != entry.label and not folder.isdecimal():
            what = (
                f"{entry.path_hint!r} is of class {classes[entry.label]!r} (label {entry.label}) "
                f"here and in the folder of class {classes[label]!r} (label {label})"
            )
            remedy = "The line is left out; correct its label, the class list or the folder."
            return Problem("conflicting label", entry.origin, what, remedy)
    return None


def _add_entry(
    video: ListedVideo, entry: Entry, name: str, annotations: Annotations
) -> Problem | None:
    is_further = entry.label not in video.labels
    if is_further and annotations.may_have_several:
        video.labels += (entry.label,)
    elif is_further:
        classes = annotations.classes
        what = (
            f"{name!r} is of class {classes[entry.label]!r} here and of "
            f"{classes[video.labels[0]]!r} in {video.origin}"
        )
        remedy = "The line is left out; correct one of the two."
        return Problem("conflicting label", entry.origin, what, remedy)
    before, earlier = video.sides.get(entry.split, (None, ""))
    in_both = {before, entry.part} == {"train", "test"}
    if not before or (in_both and entry.part == "test"):
        video.sides[entry.split] = entry.part, entry.origin
    if before is None or earlier == entry.origin or (is_further and not in_both):
        return None
    if in_both:
        what = (
            f"{name!r} is in {entry.part} of split {entry.split} here and in {before} in {earlier}"
        )
        remedy = "The video is kept in test only; remove one of the two lines."
        return Problem("in train and test", entry.origin, what, remedy)
    what = f"{name!r} stands in {earlier} already"
    return Problem("listed twice", entry.origin, what, "It is used once; remove one line.")
