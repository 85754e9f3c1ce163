"""Readers of the annotation files that data sets are published with, one file a format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from dualstream.clips.data.annotations import hmdb51, ucf101
from dualstream.clips.data.annotations.class_lists import read_class_list
from dualstream.clips.data.annotations.entries import Annotations, Entry, Problem, ProblemKind
from dualstream.clips.data.annotations.folders import read_folders
from dualstream.clips.data.annotations.hmdb51 import read_hmdb51
from dualstream.clips.data.annotations.kinetics import is_kinetics, read_kinetics
from dualstream.clips.data.annotations.lists import LIST_SUFFIXES, is_list, read_lists
from dualstream.clips.data.annotations.something import is_something, read_something
from dualstream.clips.data.annotations.ucf101 import read_ucf101
from dualstream.errors import AnnotationError, UnknownNameError

__all__ = [
    "AnnotationFormat",
    "Annotations",
    "Entry",
    "Problem",
    "ProblemKind",
    "detect_format",
    "read_annotations",
    "read_class_list",
    "read_folders",
    "read_hmdb51",
    "read_kinetics",
    "read_lists",
    "read_something",
    "read_ucf101",
]

AnnotationFormat = Literal["folders", "ucf101", "hmdb51", "kinetics", "something", "list"]


def detect_format(path: Path) -> AnnotationFormat | None:
    """Format of an annotation file, or of the annotation files that lie in a folder.

    None: there are none, so that the folders can only speak for themselves.
    """
    if path.is_file():
        files = [path]
    else:
        files = [f for f in sorted(path.iterdir()) if f.is_file() and not f.name.startswith(".")]
    if any(ucf101.LIST_NAME.fullmatch(f.name) for f in files):
        return "ucf101"
    if any(hmdb51.LIST_NAME.fullmatch(f.name) for f in files):
        return "hmdb51"
    if any(is_kinetics(f) for f in files):
        return "kinetics"
    if any(is_something(f) for f in files):
        return "something"
    if any(is_list(f) for f in files) or path.suffix.lower() in LIST_SUFFIXES:
        return "list"
    return None


def read_annotations(
    path: Path, format: AnnotationFormat, *, root: Path, names: Sequence[str]
) -> Annotations:
    """Read annotations of a known format.

    Args:
        path: annotation file or folder of such files; not looked at for "folders".
        format: how to read them.
        root: folder of the videos; looked at for "folders" only.
        names: paths of the videos from `root`; looked at for "folders" only.

    Raises:
        UnknownNameError: `format` is not one of the allowed names.
        AnnotationError: nothing in the files can be used.
    """
    if format not in get_args(AnnotationFormat):
        raise UnknownNameError("annotation format", format, get_args(AnnotationFormat))
    if format == "folders":
        return read_folders(root, names)
    if not path.exists():
        raise AnnotationError(f"{path}: there is no such file or folder.")
    readers = {
        "ucf101": read_ucf101,
        "hmdb51": read_hmdb51,
        "kinetics": read_kinetics,
        "something": read_something,
        "list": read_lists,
    }
    annotations = readers[format](path)
    if not annotations.entries:
        first = annotations.problems[0] if annotations.problems else None
        found = (
            f" First of {len(annotations.problems)}: {first.where}: {first.what}." if first else ""
        )
        raise AnnotationError(f"{path}: no video is listed in the form {format!r}.{found}")
    return annotations
