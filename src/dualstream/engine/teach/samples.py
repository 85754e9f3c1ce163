"""Samples: windows of the project's videos, what marks say of them, and which belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.data.groups import group_videos
from dualstream.engine.teach.marks import Mark
from dualstream.engine.teach.project import Project
from dualstream.engine.teach.steps import StepFeatures
from dualstream.errors import AnnotationError
from dualstream.types import BACKGROUND, Labels

LEAST_SHARE = 0.5
"""Of a window: a mark that covers more is its label."""

BACKGROUND_WINDOWS = (200, 3)
"""Windows of unmarked time that are learnt from, at most: so many, or so many for each marked one
where that is more."""

STRETCH_SECONDS = 10.0
"""Unmarked time of one video is cut into so long parts, which are measured one by one where there
are too few videos."""


@dataclass(frozen=True, eq=False)
class Samples:
    """N windows that are known."""

    vectors: NDArray[np.float32]
    """(N, D)."""
    sizes: Mapping[str, int]
    """Block -> its part of D, in their order."""
    targets: NDArray[np.bool_]
    """(N, K) which classes each window has."""
    videos: NDArray[np.str_]
    """(N,) the group of videos that each is of: one source, or one content."""
    pieces: NDArray[np.str_]
    """(N,) the mark, or the stretch of unmarked time, that each is of."""
    of_marks: Mapping[Mark, NDArray[np.int64]]
    """Places of each mark's windows among the N."""

    def __len__(self) -> int:
        return len(self.vectors)


def classes_of(project: Project) -> tuple[str, ...]:
    """Return the classes that a project's marks teach, in alphabetical order, background last.

    Where several labels may be there at once, background is that none of them is.
    """
    labels = {mark.label for mark in project.marks}
    classes = sorted(labels - {BACKGROUND}, key=lambda name: (name.casefold(), name))
    has_background = BACKGROUND in labels or any(video.is_reviewed for video in project.videos)
    return (
        (*classes, BACKGROUND)
        if has_background and project.settings.labels == "one"
        else (*classes,)
    )


def check_teachable(project: Project) -> tuple[str, ...]:
    """Return the classes of a project that can be taught.

    Raises:
        AnnotationError: nothing is marked, or one class only and no time without it.
    """
    classes = classes_of(project)
    names = [name for name in classes if name != BACKGROUND]
    unmarked = BACKGROUND in {mark.label for mark in project.marks} or any(
        video.is_reviewed for video in project.videos
    )
    if not names:
        raise AnnotationError(
            f"{project.folder}: no action is marked yet. Mark some: dualstream teach mark "
            f"{project.folder} VIDEO START END LABEL"
        )
    if len(names) == 1 and not unmarked:
        raise AnnotationError(
            f"{project.folder}: only {names[0]!r} is marked. Teaching needs two actions, or one "
            f"and time without it: mark a second one, mark some {BACKGROUND!r}, or say which "
            f"videos are marked completely (dualstream teach done {project.folder} VIDEO)."
        )
    return classes


def label_windows(
    seconds: NDArray[np.float64],
    marks: Sequence[Mark],
    classes: Sequence[str],
    *,
    labels: Labels,
    is_reviewed: bool,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], list[NDArray[np.int64]]]:
    """Return what the marks of one video say of its windows.

    A window has the label of a mark that covers more than half of it, and each mark has one window
    at least, the one it covers most. Where only one label may be, that of such a short mark counts,
    or else the one that covers most. In a reviewed video windows that no mark touches are
    background. All others are unknown.

    Args:
        seconds: (M, 2) start and end of each window.
        marks: of the video.
        classes: K names; background may be among them.
        labels: whether windows have one label or several.
        is_reviewed: whether all of the video is marked.

    Returns:
        (M, K) labels, (M,) whether they are known, and the windows of each mark.
    """
    count = len(seconds)
    cover = np.zeros((count, len(classes)))
    touched, known = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    places = {name: label for label, name in enumerate(classes)}
    chosen: list[NDArray[np.int64]] = []
    targets = np.zeros((count, len(classes)), np.bool_)
    for mark in marks:
        shared = np.minimum(seconds[:, 1], mark.end_seconds) - np.maximum(
            seconds[:, 0], mark.start_seconds
        )
        share = np.clip(shared, 0, None) / (seconds[:, 1] - seconds[:, 0])
        touched |= share > 0
        windows = np.flatnonzero(share > LEAST_SHARE + 1e-9)
        if not len(windows) and share.any():
            # Of windows that it covers alike, the one in whose middle it is.
            off = np.abs(seconds.sum(axis=1) - mark.start_seconds - mark.end_seconds)
            windows = np.array([int((share.round(6) - 1e-7 * off).argmax())])
            share[windows] += 1  # it goes before longer marks, which have other windows
        chosen.append(windows)
        known[windows] = True
        if (label := places.get(mark.label)) is not None:  # else background among several labels
            targets[windows, label] = True
            cover[:, label] += share
    if labels == "one" and len(classes):
        best = np.where(targets, cover, -1).argmax(axis=1)
        only = np.zeros_like(targets)
        only[np.arange(count), best] = True
        targets &= only
        chosen = [
            windows[targets[windows, places[mark.label]]]
            for windows, mark in zip(chosen, marks, strict=True)
        ]
    if is_reviewed:
        known |= ~touched
        if BACKGROUND in places:
            targets[~touched, places[BACKGROUND]] = True
    return targets, known, chosen


def collect_samples(
    project: Project, classes: Sequence[str], windows: Mapping[str, StepFeatures]
) -> Samples:
    """Return all windows of a project of which something is known.

    Args:
        project: with marks.
        classes: K names.
        windows: name of a video -> features of its windows.
    """
    groups = group_videos([(video.name, video.sha256) for video in project.videos])
    sizes: dict[str, int] = {}
    tables: list[NDArray[np.float32]] = []
    targets, videos, pieces = [], list[str](), list[str]()
    of_marks: dict[Mark, NDArray[np.int64]] = {}
    for video, group in zip(project.videos, groups, strict=True):
        found, marks = windows[video.name], project.marks_of(video.name)
        labels, known, chosen = label_windows(
            found.seconds,
            marks,
            classes,
            labels=project.settings.labels,
            is_reviewed=video.is_reviewed,
        )
        names = [f"{video.name}#{int(start // STRETCH_SECONDS)}" for start in found.seconds[:, 0]]
        for mark, of_mark in zip(marks, chosen, strict=True):
            for window in of_mark:
                names[window] = str(mark)
        places = np.cumsum(known) - 1 + len(videos)
        of_marks |= {mark: places[of_mark] for mark, of_mark in zip(marks, chosen, strict=True)}
        rows = np.flatnonzero(known)
        sizes = {name: table.shape[1] for name, table in found.blocks.items()}
        tables.append(np.concatenate([t[rows] for t in found.blocks.values()], axis=1))
        targets.append(labels[rows])
        videos += [group] * len(rows)
        pieces += [names[row] for row in rows]
    samples = Samples(
        np.concatenate(tables),
        sizes,
        np.concatenate(targets),
        np.array(videos),
        np.array(pieces),
        of_marks,
    )
    return _with_less_background(samples, classes)


def _with_less_background(samples: Samples, classes: Sequence[str]) -> Samples:
    """Leave out background beyond `BACKGROUND_WINDOWS`, evenly over all of it."""
    marked = np.zeros(len(samples), np.bool_)
    for places in samples.of_marks.values():
        marked[places] = True
    others = np.flatnonzero(~marked)
    least, ratio = BACKGROUND_WINDOWS
    most = max(least, ratio * int(marked.sum()))
    if len(others) <= most:
        return samples
    keep = marked.copy()
    keep[others[np.arange(most) * len(others) // most]] = True
    new = np.cumsum(keep) - 1
    return Samples(
        samples.vectors[keep],
        samples.sizes,
        samples.targets[keep],
        samples.videos[keep],
        samples.pieces[keep],
        {mark: new[places] for mark, places in samples.of_marks.items()},
    )
