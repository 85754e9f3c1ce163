"""Videos that the lines of annotation files name, each with its class and its sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dualstream.clips.data.annotations.class_lists import find_label, labels_by_name
from dualstream.clips.data.annotations.entries import Annotations, Entry, Problem, Side, folder_of
from dualstream.clips.data.video_files import VideoIndex


@dataclass
class ListedVideo:
    """Class and sides that the lists give one video file."""

    label: int
    origin: str
    """`file:line` of its first entry."""
    sides: dict[int, tuple[Side, str]] = field(default_factory=dict)
    """Split number -> side, and `file:line` of its entry."""


def match_entries(
    root: Path,
    names: Sequence[str],
    annotations: Annotations,
    problems: list[Problem],
    *,
    check_folders: bool,
) -> tuple[dict[str, ListedVideo], frozenset[str]]:
    """Match the lines of annotation files with the videos that they name.

    Args:
        root: folder of the videos, for messages.
        names: the videos below it.
        annotations: the lines.
        problems: those of the lines are added.
        check_folders: leave out lines that contradict the class folder of their video.

    Returns:
        (class and sides of each listed video, videos of which all lines are left out).
    """
    hint_folders = {folder_of(entry.path_hint) for entry in annotations.entries} - {""}
    labels = labels_by_name(annotations.classes) if check_folders else {}
    index = VideoIndex(names, class_folders={*annotations.classes, *hint_folders})
    listed: dict[str, ListedVideo] = {}
    refused: set[str] = set()
    for entry in annotations.entries:
        class_name = annotations.classes[entry.label]
        hints = (entry.path_hint, *entry.alternatives)
        found = next((f for hint in hints if (f := index.find(hint, class_name=class_name))), ())
        if len(found) == 1:
            if problem := _check_folder(entry, found[0], labels, annotations.classes):
                problems.append(problem)
                refused.add(found[0])
                continue
            video = listed.setdefault(found[0], ListedVideo(entry.label, entry.origin))
            if problem := _add_entry(video, entry, found[0], annotations.classes):
                problems.append(problem)
        elif found:
            what = f"{entry.path_hint!r} may be {' or '.join(map(repr, found[:3]))}"
            remedy = "The line is left out; give the path from the folder of the videos."
            problems.append(Problem("ambiguous name", entry.origin, what, remedy))
        else:
            what = f"there is no video {entry.path_hint!r} in {root}"
            remedy = "The line is left out; add the file or remove the line."
            problems.append(Problem("missing file", entry.origin, what, remedy))
    return listed, frozenset(refused - listed.keys())


def _check_folder(
    entry: Entry, name: str, labels: dict[str, int], classes: tuple[str, ...]
) -> Problem | None:
    """Problem of a video that lies in the folder of another class than its line gives it."""
    for folder in (folder_of(name), folder_of(entry.path_hint)):
        label = find_label(folder, labels)
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
    video: ListedVideo, entry: Entry, name: str, classes: tuple[str, ...]
) -> Problem | None:
    if entry.label != video.label:
        what = (
            f"{name!r} is of class {classes[entry.label]!r} here and of "
            f"{classes[video.label]!r} in {video.origin}"
        )
        remedy = "The line is left out; correct one of the two."
        return Problem("conflicting label", entry.origin, what, remedy)
    before, earlier = video.sides.get(entry.split, (None, ""))
    in_both = {before, entry.part} == {"train", "test"}
    if not before or (in_both and entry.part == "test"):
        video.sides[entry.split] = entry.part, entry.origin
    if before is None or earlier == entry.origin:
        return None
    if in_both:
        what = (
            f"{name!r} is in {entry.part} of split {entry.split} here and in {before} in {earlier}"
        )
        remedy = "The video is kept in test only; remove one of the two lines."
        return Problem("in train and test", entry.origin, what, remedy)
    what = f"{name!r} stands in {earlier} already"
    return Problem("listed twice", entry.origin, what, "It is used once; remove one line.")
