"""The taught classifier of a project in its file, and what it says of windows."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from dualstream.engine.teach.head import Head
from dualstream.engine.teach.project import Project
from dualstream.engine.teach.report import TeachReport
from dualstream.engine.teach.steps import StepFeatures
from dualstream.errors import CheckpointError, InputError
from dualstream.files import replacing, write_text
from dualstream.scores.timeline import Segment, Thresholds, find_segments
from dualstream.types import BACKGROUND, Labels

MODEL_FILE, REPORT_FILE = "model.npz", "report.json"

_ARRAYS = ("mean", "scale", "coefficients", "intercepts")


@dataclass(frozen=True, eq=False)
class TaughtModel:
    """The classifier that the last training left, and what it was taught from."""

    head: Head
    classes: tuple[str, ...]
    """K names."""
    steps: int
    """Of a window."""
    features_digest: str
    """Of the features it takes."""
    taught_on: str
    """Digest of the marks."""
    report: TeachReport


@dataclass(frozen=True, eq=False)
class VideoTimeline:
    """What a taught classifier says of one video."""

    video: str
    classes: tuple[str, ...]
    """K names."""
    labels: Labels
    window_seconds: NDArray[np.float64]
    """(M, 2) start and end of each window, from the first frame."""
    probabilities: NDArray[np.float32]
    """(M, K)."""
    certainty: NDArray[np.float32]
    """(M,) 0..1, see `certainty_of`."""
    segments: tuple[Segment, ...]
    """The proposed marks."""

    def entry(self) -> dict[str, Any]:
        """The timeline as JSON has it."""
        return {
            "video": self.video,
            "classes": list(self.classes),
            "segments": [
                {
                    "label": segment.label,
                    "start": round(segment.start_seconds, 3),
                    "end": round(segment.end_seconds, 3),
                    "confidence": round(segment.confidence, 6),
                }
                for segment in self.segments
            ],
            "windows": [
                {
                    "start": round(float(start), 3),
                    "end": round(float(end), 3),
                    "probabilities": [round(float(p), 6) for p in row],
                    "certainty": round(float(sure), 6),
                }
                for (start, end), row, sure in zip(
                    self.window_seconds, self.probabilities, self.certainty, strict=True
                )
            ],
        }


@dataclass(frozen=True)
class Suggestion:
    """A window worth looking at: what the classifier takes it for, and what else it may be."""

    video: str
    start_seconds: float
    end_seconds: float
    label: str
    runner_up: str
    probability: float
    """Of the label."""
    certainty: float

    def entry(self) -> dict[str, Any]:
        """The suggestion as JSON has it."""
        return {
            "video": self.video,
            "start": round(self.start_seconds, 3),
            "end": round(self.end_seconds, 3),
            "label": self.label,
            "runner_up": self.runner_up,
            "probability": round(self.probability, 6),
            "certainty": round(self.certainty, 6),
        }


def certainty_of(probabilities: NDArray[np.floating], *, labels: Labels) -> NDArray[np.float32]:
    """Return how sure probabilities (M, K) are of each window, 0..1.

    With one label it is the lead of the best class over the second; with several the distance from
    .5 of the class nearest to it, doubled.

    Source:
        Scheffer et al. 2001 (margin sampling); Settles 2009, section 3.1.
    """
    if labels == "several":
        found = np.abs(2 * probabilities - 1).min(axis=1)
    elif probabilities.shape[1] == 1:
        found = probabilities[:, 0]
    else:
        ranked = np.sort(probabilities, axis=1)
        found = ranked[:, -1] - ranked[:, -2]
    return np.asarray(found, np.float32)


def timeline_of(
    model: TaughtModel, video: str, windows: StepFeatures, **thresholds: Unpack[Thresholds]
) -> VideoTimeline:
    """Return what the classifier says of the windows of a video; errors as of `find_segments`."""
    vectors = np.concatenate(list(windows.blocks.values()), axis=1)
    probabilities, labels = model.head.probabilities(vectors), model.head.labels
    return VideoTimeline(
        video,
        model.classes,
        labels,
        windows.seconds,
        probabilities,
        certainty_of(probabilities, labels=labels),
        find_segments(windows.seconds, probabilities, model.classes, labels=labels, **thresholds),
    )


def suggestions(
    timelines: Sequence[VideoTimeline], project: Project, *, most: int
) -> tuple[Suggestion, ...]:
    """Return the least certain windows of all videos, the least certain first.

    Windows that a mark touches, those of videos that are reviewed, and those that overlap one that
    is less certain are left out.
    """
    found: list[Suggestion] = []
    for timeline in timelines:
        if project.video(timeline.video).is_reviewed:
            continue
        marks = [mark.interval for mark in project.marks_of(timeline.video)]
        for (start, end), row, sure in zip(
            timeline.window_seconds, timeline.probabilities, timeline.certainty, strict=True
        ):
            if any(start < mark.end_seconds and mark.start_seconds < end for mark in marks):
                continue
            label, runner_up, probability = _two_best(timeline, row)
            found.append(
                Suggestion(
                    timeline.video,
                    float(start),
                    float(end),
                    label,
                    runner_up,
                    probability,
                    float(sure),
                )
            )
    found.sort(key=lambda one: (one.certainty, one.video, one.start_seconds))
    kept: list[Suggestion] = []
    for one in found:
        if len(kept) == most:
            break
        if not any(
            one.video == other.video
            and one.start_seconds < other.end_seconds - 1e-6
            and other.start_seconds < one.end_seconds - 1e-6
            for other in kept
        ):
            kept.append(one)
    return tuple(kept)


def _two_best(timeline: VideoTimeline, row: NDArray[np.float32]) -> tuple[str, str, float]:
    """Likeliest class, the next one, and the probability of the first.

    With several labels they are the least certain class and its absence, the likelier one first.
    """
    if timeline.labels == "several":
        unsure = int(np.abs(row - 0.5).argmin())
        pair = (timeline.classes[unsure], BACKGROUND)
        is_there = bool(row[unsure] >= 0.5)
        first, second = pair if is_there else pair[::-1]
        return first, second, float(row[unsure] if is_there else 1 - row[unsure])
    best, *others = np.argsort(-row, kind="stable")
    second = timeline.classes[others[0]] if others else BACKGROUND
    return timeline.classes[best], second, float(row[best])


def taught_on(project: Project) -> str:
    """Return a digest of all that the classifier is taught from, besides the networks."""
    settings = project.settings
    matters = {
        "marks": [mark.entry() for mark in project.marks],
        "videos": [(video.name, video.sha256, video.is_reviewed) for video in project.videos],
        "settings": [settings.labels, settings.window_seconds, settings.step_seconds],
        "networks": [settings.rgb, settings.motion, settings.side, settings.frames],
    }
    return hashlib.sha256(json.dumps(matters).encode()).hexdigest()


def write_model(folder: Path, model: TaughtModel) -> None:
    """Write the classifier with its report, and the report by itself for others to read."""
    head = model.head
    card = {
        "version": 1,
        "classes": model.classes,
        "labels": head.labels,
        "sizes": dict(head.sizes),
        "c": head.c,
        "steps": model.steps,
        "features_digest": model.features_digest,
        "taught_on": model.taught_on,
        "report": model.report.entry(),
    }
    arrays = {name: getattr(head, name) for name in _ARRAYS}
    with replacing(folder / MODEL_FILE, keep_suffix=True) as temporary:
        np.savez(temporary, card=np.array(json.dumps(card)), **arrays)
    write_text(folder / REPORT_FILE, json.dumps(model.report.entry(), indent=2) + "\n")


def read_model(folder: Path) -> TaughtModel:
    """Read the classifier of a project.

    Raises:
        CheckpointError: there is none yet, or its file is broken or of another version.
    """
    file, again = folder / MODEL_FILE, f"Run: dualstream teach train {folder}"
    if not file.is_file():
        raise CheckpointError(f"{folder} is not trained yet. {again}")
    try:
        with file.open("rb") as opened, np.load(opened) as content:
            card = json.loads(str(content["card"]))
            arrays = {name: content[name] for name in _ARRAYS}
        if card["version"] != 1:
            raise InputError(f"it is of version {card['version']}, not 1")
        head = Head(card["labels"], card["sizes"], **arrays, c=card["c"])
        return TaughtModel(
            head,
            tuple(card["classes"]),
            card["steps"],
            card["features_digest"],
            card["taught_on"],
            TeachReport.of_entry(card["report"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file} is broken ({error}). {again}") from None
