"""The folder of a project: its settings, videos and marks, written whole or not at all.

FOLDER/project.json     version, settings, videos
FOLDER/intervals.csv    the marks: path,start_seconds,end_seconds,label; may be edited by hand
FOLDER/manifest.csv     the same as a manifest (with classes.txt, dataset.yaml), made from them
FOLDER/features/        what the networks see of each video, kept
FOLDER/model.json       the classifier, with model.npz
FOLDER/report.json      how well it does on what it was not taught
FOLDER/timeline.csv     the proposed timeline of every video
FOLDER/runs/            run folders of the classifier of each network
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

from dualstream.engine.teach.marks import Mark, marks_text, read_marks
from dualstream.engine.teach.settings import TeachSettings
from dualstream.errors import (
    AnnotationError,
    CorruptVideoError,
    InputError,
    UnknownNameError,
    VideoError,
    VideoNotFoundError,
)
from dualstream.files import file_sha256, in_use, read_json, write_text

PROJECT_FILE, MARKS_FILE, FEATURES_FOLDER = "project.json", "intervals.csv", "features"

VERSION = 1
"""Of the project's files."""

WAIT_SECONDS = 10.0
"""For another process that changes the project, which takes a moment."""


@dataclass(frozen=True)
class ProjectVideo:
    """A video of the project."""

    name: str
    """Unique in the project: its file name, with folders before it where two share that."""
    path: str
    """The file; absolute, or from the project's folder where it lies in it."""
    sha256: str
    size_bytes: int
    modified_ns: int
    """When the file was last written; with the same time and size it is the same."""
    frames: int
    fps: float
    width: int
    height: int
    duration_seconds: float
    is_reviewed: bool = False
    """All actions of it are marked, so that its other time is none of them."""

    def entry(self) -> dict[str, Any]:
        """The video as JSON has it."""
        hidden = ("size_bytes", "modified_ns")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}


@dataclass(frozen=True)
class Project:
    """State of a project at one moment."""

    folder: Path
    settings: TeachSettings = field(default_factory=TeachSettings)
    videos: tuple[ProjectVideo, ...] = ()
    """By name."""
    marks: tuple[Mark, ...] = ()
    """By video and start."""

    def video(self, name: str) -> ProjectVideo:
        """Return the video of a name, or of the path of its file.

        Raises:
            UnknownNameError: the project has none; lists those that it has.
        """
        found = {video.name: video for video in self.videos}
        if name in found:
            return found[name]
        absolute = os.path.abspath(name)
        for video in self.videos:
            if str(self.file_of(video)) == absolute:
                return video
        raise UnknownNameError("video", name, found or ("none yet, add one first",))

    def file_of(self, video: ProjectVideo) -> Path:
        """Absolute path of a video's file."""
        return Path(os.path.abspath(self.folder / video.path))

    def checked_file(self, video: ProjectVideo) -> Path:
        """Return the file of a video after making sure that it is there and the same as ever.

        Raises:
            VideoNotFoundError: it is missing.
            VideoError: its content has changed.
        """
        file = self.file_of(video)
        again = f"`dualstream teach add {self.folder} {file}`"
        try:
            stat = file.stat()
            if (stat.st_size, stat.st_mtime_ns) == (video.size_bytes, video.modified_ns):
                return file
            is_same = stat.st_size == video.size_bytes and file_sha256(file) == video.sha256
        except FileNotFoundError:
            raise VideoNotFoundError(
                f"{file}: the file of video {video.name!r} is missing. Put it back, or take the "
                f"video out with `dualstream teach remove {self.folder} {video.name}`."
            ) from None
        except OSError as error:
            raise VideoError(f"{file}: cannot be read ({error.strerror}).") from error
        if not is_same:
            raise VideoError(
                f"{file}: the content of video {video.name!r} has changed since it was added, so "
                f"its marks may be wrong. Check them and accept the new content with {again}."
            )
        return file

    def marks_of(self, name: str) -> tuple[Mark, ...]:
        """Marks of one video."""
        return tuple(mark for mark in self.marks if mark.video == name)

    def with_video(self, new: ProjectVideo) -> Project:
        """Return the project with a video, in place of that of its name where there is one."""
        others = (video for video in self.videos if video.name != new.name)
        return replace(self, videos=tuple(sorted((*others, new), key=lambda video: video.name)))

    def with_settings(self, settings: TeachSettings) -> Project:
        """Return the project with other settings.

        Raises:
            InputError: it has marks that overlap, and there shall be one label at a time.
        """
        if settings.labels == "one":
            for mark, other in pairwise(self.marks):  # by video and start
                if mark.video == other.video and other.start_seconds < mark.end_seconds:
                    raise InputError(
                        f"labels cannot be 'one': {mark} and {other} overlap. Erase one of them in "
                        "the time that they share."
                    )
        return replace(self, settings=settings)

    def free_name(self, file: Path) -> str:
        """Return a name for a file: its own, with as many folders as tell it from the others."""
        taken = {video.name for video in self.videos}
        parts = PurePath(file).parts
        for count in range(1, len(parts) + 1):
            name = "/".join(part.strip("/\\:") for part in parts[-count:])
            if name not in taken:
                return name
        raise InputError(f"{file}: no name is left for it; give one.")


def read_project(folder: Path) -> Project:
    """Read a project as it is now.

    Raises:
        AnnotationError: there is none, another version made it, or its files are broken.
    """
    file = folder / PROJECT_FILE
    if not file.is_file():
        raise AnnotationError(
            f"{folder} is no project: {PROJECT_FILE} is missing. `dualstream teach add {folder} "
            "VIDEO...` makes one."
        )
    values = read_json(file, error=AnnotationError)
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        raise AnnotationError(
            f"{file}: version {version!r} of a project, and this dualstream reads version "
            f"{VERSION}. Use the dualstream that made it, or begin a new project and bring the "
            f"marks over with `dualstream teach import NEW {folder / MARKS_FILE}`."
        )
    try:
        settings = TeachSettings(**values["settings"])
        videos = tuple(ProjectVideo(**video) for video in values["videos"])
    except (KeyError, TypeError, InputError) as error:
        raise AnnotationError(
            f"{file}: this is no project of version {VERSION} ({error})."
        ) from None
    marks = read_marks(folder / MARKS_FILE)
    names = {video.name for video in videos}
    if unknown := sorted({mark.video for mark in marks} - names):
        raise AnnotationError(
            f"{folder / MARKS_FILE}: {unknown[0]!r} is no video of the project. Add it, or remove "
            "its rows."
        )
    return Project(folder, settings, videos, marks)


def write_project(project: Project, *, removes_video: bool = False) -> None:
    """Write a project's files, each whole or not at all.

    Args:
        project: its new state.
        removes_video: whether a video of the state before is gone.
    """
    values = {
        "version": VERSION,
        "settings": project.settings.entry(),
        "videos": [
            {f.name: getattr(video, f.name) for f in fields(video)} for video in project.videos
        ],
    }
    texts = {
        PROJECT_FILE: json.dumps(values, indent=2) + "\n",
        MARKS_FILE: marks_text(project.marks),
    }
    # Marks never name a video that the project lacks, whenever the write is stopped: those of a
    # video that goes are erased before it, and those of a new one come after it.
    order = [MARKS_FILE, PROJECT_FILE] if removes_video else [PROJECT_FILE, MARKS_FILE]
    for name in order:
        write_text(project.folder / name, texts[name])


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Keep other processes and threads from changing a project inside the block.

    Raises:
        InputError: another one has been changing it for `WAIT_SECONDS`.
    """
    until = time.monotonic() + WAIT_SECONDS
    while True:
        with in_use(folder) as is_free:
            if is_free is not False:
                yield
                return
        if time.monotonic() > until:
            raise InputError(
                f"{folder} is being changed by another process. Try again when it has ended."
            )
        time.sleep(0.02)


@contextmanager
def training(folder: Path) -> Iterator[None]:
    """Keep other processes and threads from training a project inside the block.

    Raises:
        InputError: another one is training it.
    """
    features = folder / FEATURES_FOLDER
    features.mkdir(exist_ok=True)
    with in_use(features) as is_free:
        if is_free is False:
            raise InputError(
                f"{folder} is being trained by another process. Try again when it has ended; "
                "marks can be made meanwhile."
            )
        yield


def check_new_folder(folder: Path) -> None:
    """Raise InputError where a new project would be mixed up with files of something else."""
    for name in ("manifest.csv", "recipe.yaml", "run.json"):
        if (folder / name).exists():
            raise InputError(
                f"{folder} holds {name} of something else than a project. Give another folder for "
                "the project."
            )


def facts_of(file: Path) -> dict[str, Any]:
    """Return the fields of a video that its file tells.

    Raises:
        VideoError: the file is missing or no video, or has one frame only.
    """
    from dualstream.video import VideoReader

    with VideoReader(file) as video:
        pts, info = video.pts_seconds, video.info
        if len(pts) < 2:
            raise CorruptVideoError(f"{file} has one frame only; an action needs more.")
        spacing = float(pts[-1] - pts[0]) / (len(pts) - 1)
        stat = file.stat()
        return {
            "sha256": file_sha256(file),
            "size_bytes": stat.st_size,
            "modified_ns": stat.st_mtime_ns,
            "frames": len(pts),
            "fps": video.fps,
            "width": info.width,
            "height": info.height,
            "duration_seconds": round(float(pts[-1] - pts[0]) + spacing, 6),
        }
