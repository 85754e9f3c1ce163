"""Readers of the annotation files that data sets are published with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from dualstream.clips.data.annotations.entries import (
    SET_WORDS,
    Annotations,
    ListLine,
    Problem,
    annotation_files,
    is_class_name,
    is_hidden,
    label_lines,
    listed_set,
)
from dualstream.clips.data.annotations.lists import (
    LIST_SUFFIXES,
    is_hmdb51,
    is_list,
    is_ucf101,
    read_hmdb51,
    read_lists,
    read_ucf101,
)
from dualstream.clips.data.annotations.tables import (
    is_kinetics,
    is_something,
    read_kinetics,
    read_something,
)
from dualstream.errors import AnnotationError, check_choice

AnnotationFormat = Literal["folders", "ucf101", "hmdb51", "kinetics", "something", "list"]

_READERS: dict[AnnotationFormat, tuple[Callable[[Path], bool], Callable[[Path], Annotations]]] = {
    "ucf101": (is_ucf101, read_ucf101),
    "hmdb51": (is_hmdb51, read_hmdb51),
    "kinetics": (is_kinetics, read_kinetics),
    "something": (is_something, read_something),
    "list": (is_list, read_lists),
}
"""How a file of each format is told, and how it is read; the first one that fits is taken."""


def detect_format(path: Path) -> AnnotationFormat | None:
    """Return the format of an annotation file, or of the annotation files that lie in a folder.

    None: there are none, so that the folders alone tell the classes.
    """
    for format, (matches, _) in _READERS.items():
        if any(matches(file) for file in annotation_files(path, matches)):
            return format
    return "list" if path.suffix.lower() in LIST_SUFFIXES and path.is_file() else None


def unread_lists(folder: Path, format: AnnotationFormat) -> list[Problem]:
    """Return problems of files called as lists are (`val.csv`) but not read in this format."""
    is_read = _READERS[format][0] if format in _READERS else lambda file: False
    unread = annotation_files(
        folder, lambda file: bool(listed_set(file.stem)) and not is_read(file)
    )
    what = f"it is no list of the form {format!r}"
    remedy = "It is left out; name it and its form with --splits and --format to read it."
    return [Problem("unread list", str(file), what, remedy) for file in unread]


def read_annotations(
    path: Path, format: AnnotationFormat, *, root: Path, names: Sequence[str]
) -> Annotations:
    """Read annotations of a known format.

    Args:
        path: annotation file or folder of such files; not looked at for "folders".
        format: form of the files.
        root, names: folder of the videos and their paths from it, looked at for "folders" only.

    Raises:
        UnknownNameError: `format` is not one of the allowed names.
        AnnotationError: nothing in the files can be used.
    """
    check_choice("annotation format", format, AnnotationFormat)
    if format == "folders":
        return read_folders(root, names)
    if not path.exists():
        raise AnnotationError(f"{path}: there is no such file or folder.")
    annotations = _READERS[format][1](path)
    if not annotations.entries:
        first = annotations.problems[0] if annotations.problems else None
        found = (
            f" First of {len(annotations.problems)}: {first.where}: {first.what}." if first else ""
        )
        raise AnnotationError(f"{path}: no video is listed in the form {format!r}.{found}")
    for name in annotations.classes:
        if not is_class_name(name):
            raise AnnotationError(
                f"{path}: class name {name!r} holds line ends or characters that are not Unicode."
            )
    return annotations


def read_folders(root: Path, names: Sequence[str]) -> Annotations:
    """Return the classes and sides of videos, told from the folders that they lie in.

    `archery/a.mp4` or, with folders for train, validation and test, `train/archery/a.mp4`, at any
    depth below the class folder.
    """
    top = _folders_in(root)
    sets = {f.name: SET_WORDS[f.name.lower()] for f in top if f.name.lower() in SET_WORDS}
    # A class may be called `train`; with `val` or `test` beside it, it is the training set.
    has_sets = len(sets) == len(top) or (len(set(sets.values())) > 1 and "train" in sets.values())
    depth = 1 if has_sets else 0
    class_folders = [f for s in sets for f in _folders_in(root / s)] if has_sets else top
    classes = tuple(sorted(filter(is_class_name, {f.name.strip() for f in class_folders})))
    labels = {name: i for i, name in enumerate(classes)}
    lines: list[ListLine] = []
    problems: list[Problem] = []
    used: set[Path] = set()
    for name in names:
        folders, where = name.split("/")[:-1], str(root / name)
        known = len(folders) > depth and (not has_sets or folders[0] in sets)
        label = labels.get(folders[depth].strip()) if known else None
        if label is None:
            remedy = "It is left out; move it into its class's folder."
            what = "the video lies in no class folder"
            problems.append(Problem("outside class folders", where, what, remedy))
            continue
        used.add(root.joinpath(*folders[: depth + 1]))
        lines.append(ListLine(where, name, sets[folders[0]] if has_sets else "", label=label))
    for folder in class_folders:
        if folder not in used and is_class_name(folder.name.strip()):
            remedy = "Put videos into it, or remove it."
            what = "the class folder holds no video"
            problems.append(Problem("class without video", str(folder), what, remedy))
    return label_lines(lines, problems, classes=classes)


def _folders_in(folder: Path) -> list[Path]:
    """Folders of data: neither the system's own nor written by `dualstream prepare`."""
    found = sorted(f for f in folder.iterdir() if f.is_dir() and not is_hidden(f.name))
    written = ("manifest.csv", "checked.jsonl", "checked.csv")
    return [f for f in found if not any((f / name).is_file() for name in written)]
