"""Marks out of the files of other software."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dualstream.clips.data.annotations import AnnotationFormat, detect_format, read_annotations
from dualstream.clips.data.annotations.entries import Entry, Problem
from dualstream.clips.data.video_files import VideoIndex
from dualstream.engine.teach.marks import Mark, known_label, with_mark
from dualstream.engine.teach.project import Project
from dualstream.errors import AnnotationError, InputError, check_choice
from dualstream.types import BACKGROUND

ImportFormat = Literal["auto", "intervals", "boris", "elan"]

_READ: dict[str, AnnotationFormat] = {"intervals": "intervals", "boris": "boris", "elan": "elan"}


@dataclass(frozen=True)
class ImportReport:
    """What came of importing marks."""

    added: int
    """Rows that have become marks, or parts of some."""
    problems: tuple[Problem, ...]
    """Rows that could not be used as they are, and what became of them."""

    def entry(self) -> dict[str, Any]:
        """The report as JSON has it."""
        problems = [{"where": p.where, "what": p.what, "remedy": p.remedy} for p in self.problems]
        return {"added": self.added, "problems": problems}


def import_file(
    project: Project, path: Path, *, format: ImportFormat
) -> tuple[Project, ImportReport]:
    """Return a project with the marks of a file, and what came of its rows.

    Raises:
        UnknownNameError: another format.
        InputError: there is no such file.
        AnnotationError: it is of no known form, or nothing in it can be read.
    """
    check_choice("format", format, ImportFormat)
    if not path.exists():
        raise InputError(f"{path}: there is no such file.")
    found = detect_format(path) if format == "auto" else _READ[format]
    if found not in _READ.values():
        raise AnnotationError(
            f"{path}: this is no table of marks. Known are tables with the columns "
            "path,start_seconds,end_seconds,label and what BORIS and ELAN export; name the form "
            "with --format if it is one of them."
        )
    assert found is not None
    names = [video.name for video in project.videos]
    read = read_annotations(path, found, root=project.folder, names=names)
    index = VideoIndex(names, class_folders=set())
    problems, added = [*read.problems], 0
    for entry in read.entries:
        try:
            project, problem = _with_entry(project, entry, read.classes[entry.label], index)
        except InputError as error:
            remedy = "The row is left out; correct it and import it again."
            problem = Problem("malformed line", entry.origin, str(error), remedy)
        else:
            added += 1
        problems += [problem] if problem else []
    return project, ImportReport(added, tuple(problems))


def _with_entry(
    project: Project, entry: Entry, label: str, index: VideoIndex
) -> tuple[Project, Problem | None]:
    """The project with the mark of a row, and what had to be changed in it.

    Raises:
        InputError: it cannot be a mark.
    """
    finds = (index.find(name, class_name=label) for name in (entry.path_hint, *entry.alternatives))
    names = next((names for names in finds if names), ())
    if len(names) != 1:
        found = " or ".join(map(repr, names[:3])) or "no video of the project"
        raise InputError(f"{entry.path_hint!r} is {found}. Add the video first.")
    video, problem = project.video(names[0]), None
    end = video.duration_seconds
    start, stop = 0.0, end
    if entry.interval is not None:
        start, stop = entry.interval.start_seconds, entry.interval.end_seconds
    if start >= end:
        raise InputError(f"{entry.interval} lies outside {video.name}, which is {end:.2f} s long.")
    if stop > end:
        what = f"{entry.interval} leaves {video.name}, which is {end:.2f} s long"
        remedy = "It is used up to the end of the video; correct its times."
        problem = Problem("outside the video", entry.origin, what, remedy)
    spelled = known_label(label, project.marks, BACKGROUND)
    new = Mark(video.name, start, min(stop, end), spelled)
    may_overlap = project.settings.labels == "several"
    marks, _ = with_mark(project.marks, new, may_overlap=may_overlap)
    return replace(project, marks=marks), problem
