"""Training of a project: missing features, the classifier, and what other verbs go on with."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from dualstream.engine.teach.export import TIMELINE_FILE, write_runs
from dualstream.engine.teach.feature_files import (
    FeatureFiles,
    Listener,
    TeachProgress,
    compute_all,
)
from dualstream.engine.teach.head import (
    OUTER_FOLDS,
    Head,
    choose_c,
    columns_of,
    fit_head,
    folds_of,
    held_out_probabilities,
)
from dualstream.engine.teach.model import (
    TaughtModel,
    VideoTimeline,
    taught_on,
    timeline_of,
    write_model,
)
from dualstream.engine.teach.project import FEATURES_FOLDER, Project, ProjectVideo
from dualstream.engine.teach.report import MeasuredOver, TeachReport, measure
from dualstream.engine.teach.samples import Samples, check_teachable, collect_samples
from dualstream.engine.teach.steps import HISTOGRAM_BLOCKS, StepFeatures, windows_of
from dualstream.errors import CheckpointError, VideoNotFoundError
from dualstream.report.timeline_files import write_timeline

if TYPE_CHECKING:
    from dualstream.engine.teach.features import FeatureExtractor
    from dualstream.scores.timeline import Thresholds


@dataclass
class _Clock:
    """Times of the phases of a training."""

    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    def stop(self, phase: str) -> None:
        """Count the time since the last call as that of a phase."""
        now = time.monotonic()
        self.seconds[phase], self._last = round(now - self._last, 2), now


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread inside the block, for hundreds of small fits.

    On a busy machine its threads wait for each other: 169 s for what one does in 1 s.
    """
    import sklearn.linear_model  # noqa: F401  the limit holds for what is loaded already

    with threadpool_limits(1):
        yield


def features_folder(project: Project) -> Path:
    """Folder of the kept features of a project."""
    return project.folder / FEATURES_FOLDER


def train_project(
    project: Project, *, device: str = "cpu", listener: Listener | None = None
) -> TeachReport:
    """Train a project and write its classifier, report, timelines and run folders.

    Args:
        project: as it was when the training began.
        device: where the networks compute features.
        listener: called after each step; an error that it raises stops the training. Features that
            are computed are kept, and what an earlier training left stays.

    Raises:
        AnnotationError: too little is marked.
        VideoError: a video has changed, cannot be read, or is missing and has no kept features.
        UnknownNameError, WeightsError, CheckpointError: networks that cannot be had.
        DiskError: a file cannot be written.
    """
    clock = _Clock()
    classes = check_teachable(project)
    digest = project.settings.features_digest()
    files = FeatureFiles(features_folder(project), digest)
    notes = update_features(project, files, device=device, listener=listener)
    steps = _kept(project, files)
    windows = {
        name: windows_of(found, count=project.settings.steps) for name, found in steps.items()
    }
    clock.stop("features")
    samples = collect_samples(project, classes, windows)
    with _one_blas_thread():
        head, held_out, over = _fit(project, samples, listener=listener)
        runs = _heads_of_networks(project, samples)
    notes += _about_groups(over)
    clock.stop("fit")
    if listener is not None:
        listener(TeachProgress("runs", 0, len(runs)))
    report = measure(
        samples,
        classes,
        held_out,
        labels=project.settings.labels,
        streams=tuple(samples.sizes),
        c=head.c,
        measured_over=over,
        notes=notes,
        seconds=clock.seconds,
    )
    model = TaughtModel(head, classes, project.settings.steps, digest, taught_on(project), report)
    write_model(project.folder, model)
    timelines = {name: timeline_of(model, name, found).segments for name, found in windows.items()}
    write_timeline(project.folder / TIMELINE_FILE, timelines)
    write_runs(project, runs, classes)
    if listener is not None:
        listener(TeachProgress("runs", len(runs), len(runs)))
    return report


def update_features(
    project: Project, files: FeatureFiles, *, device: str, listener: Listener | None
) -> list[str]:
    """Compute the features that are not there yet; return notes about videos that are missing.

    Networks are loaded only where something is to be computed.

    Raises:
        VideoError: a video has changed, cannot be read, or is missing and has no features.
    """
    due: dict[str, tuple[Path, str, float]] = {}
    notes = []
    for video in project.videos:
        is_kept = files.read(video.sha256) is not None
        try:
            file = project.checked_file(video)
        except VideoNotFoundError:
            if not is_kept:
                raise
            notes.append(f"The file of video {video.name!r} is missing; its kept features serve.")
            continue
        if not is_kept:
            due[video.name] = file, video.sha256, video.duration_seconds
    if due:
        compute_all(
            files,
            _once_a_content(due),
            extractor_of(project, device=device),
            workers=os.cpu_count() or 1,
            listener=listener,
        )
    return notes


def extractor_of(project: Project, *, device: str) -> FeatureExtractor:
    """Load the networks of a project."""
    from dualstream.engine.teach.features import FeatureExtractor

    return FeatureExtractor(project.settings, device=device)


def features_of_file(
    file: Path,
    extractor: FeatureExtractor,
    *,
    steps_of_window: int,
    listener: Listener | None = None,
) -> StepFeatures:
    """Compute the features of the windows of a file, and keep none of them.

    Raises:
        VideoError: the file cannot be read.
    """
    from dualstream.video import VideoReader

    with VideoReader(file) as video:
        steps, first = extractor.steps(video), float(video.pts_seconds[0])
        total = round(steps[-1].end_seconds - first)
        rows = []
        for step, row in zip(steps, extractor.features(video, steps), strict=True):
            rows.append(row)
            if listener is not None:
                done = round(step.end_seconds - first)
                listener(TeachProgress("features", done, total, str(file)))
    seconds = np.array([(step.start_seconds - first, step.end_seconds - first) for step in steps])
    blocks = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return windows_of(StepFeatures(seconds, blocks), count=steps_of_window)


def kept_timeline(
    project: Project, model: TaughtModel, video: ProjectVideo, **thresholds: Unpack[Thresholds]
) -> VideoTimeline:
    """Return the timeline of a video of a project by its kept features.

    Raises:
        CheckpointError: the classifier was taught before the video was added or changed.
        InputError: thresholds out of range.
    """
    steps = FeatureFiles(features_folder(project), model.features_digest).read(video.sha256)
    if steps is None:
        raise CheckpointError(
            f"{project.folder} was trained before {video.name!r} was added or changed. Run: "
            f"dualstream teach train {project.folder}"
        )
    return timeline_of(model, video.name, windows_of(steps, count=model.steps), **thresholds)


def _once_a_content(
    due: Mapping[str, tuple[Path, str, float]],
) -> dict[str, tuple[Path, str, float]]:
    """The first video of each content: copies share their features."""
    first = {sha256: name for name, (_, sha256, _) in reversed(list(due.items()))}
    return {name: due[name] for name in sorted(first.values())}


def _kept(project: Project, files: FeatureFiles) -> dict[str, StepFeatures]:
    found = {video.name: files.read(video.sha256) for video in project.videos}
    return {name: features for name, features in found.items() if features is not None}


def _fit(
    project: Project, samples: Samples, *, listener: Listener | None
) -> tuple[Head, NDArray[np.float64], MeasuredOver]:
    """The classifier of all samples, and what those of each fold say of what they did not see."""
    labels = project.settings.labels
    groups, over = samples.videos, "videos"
    if not folds_of(samples.targets, groups, folds=OUTER_FOLDS):
        groups, over = samples.pieces, "intervals"
    held_out = np.full(samples.targets.shape, np.nan)
    total = len(folds_of(samples.targets, groups, folds=OUTER_FOLDS)) + 1
    of_folds = held_out_probabilities(
        samples.vectors, samples.targets, groups, sizes=samples.sizes, labels=labels
    )
    for done, found in enumerate(of_folds, start=1):
        held_out = found
        if listener is not None:
            listener(TeachProgress("fit", done, total))
    head = _chosen(samples, samples.sizes, samples.vectors, groups, project)
    if listener is not None:
        listener(TeachProgress("fit", total, total))
    measured_over: MeasuredOver = "videos" if over == "videos" else "intervals"
    return head, held_out, measured_over


def _chosen(
    samples: Samples,
    sizes: Mapping[str, int],
    vectors: NDArray[np.float32],
    groups: NDArray[np.str_],
    project: Project,
) -> Head:
    labels = project.settings.labels
    c = choose_c(vectors, samples.targets, groups, sizes=sizes, labels=labels)
    return fit_head(vectors, samples.targets, sizes=sizes, labels=labels, c=c)


def _heads_of_networks(project: Project, samples: Samples) -> dict[str, Head]:
    """Network -> the classifier on its features alone; histograms have no network."""
    heads = {}
    for block, size in samples.sizes.items():
        if block not in HISTOGRAM_BLOCKS:
            vectors = samples.vectors[:, columns_of(samples.sizes, [block])]
            heads[block] = _chosen(samples, {block: size}, vectors, samples.videos, project)
    return heads


def _about_groups(over: MeasuredOver) -> list[str]:
    if over == "videos":
        return []
    note = (
        "No class could be measured in a video other than those it was taught from, so each mark "
        "is measured with what the others teach: new videos will be told less well. Mark every "
        "action in a second video."
    )
    return [note]
