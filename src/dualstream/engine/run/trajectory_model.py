"""Trained streams of dense trajectories, in run folders.

RUN/codebook.safetensors     principal axes and Gaussians of each descriptor
RUN/classifier.safetensors   the linear SVM
RUN/recipe.yaml, classes.txt, run.json, metrics.json   as of networks (`engine.run.info`)
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dualstream.clips.data.manifest import Manifest
from dualstream.engine.run.info import COPY_AGAIN, RunInfo, read_facts
from dualstream.engine.trajectory_recipe import TrajectoryRecipe, load_trajectory_recipe
from dualstream.errors import CheckpointError, RecipeError
from dualstream.files import replacing
from dualstream.flow.trajectories import (
    Trajectories,
    TrajectoryJob,
    TrajectoryStore,
    trajectory_runs,
)
from dualstream.models.fisher import FisherEncoder
from dualstream.scores.linear import LinearClassifier
from dualstream.scores.views import softmax
from dualstream.video.source import FrameSource

CODEBOOK, CLASSIFIER = "codebook.safetensors", "classifier.safetensors"

Codebook = Mapping[str, FisherEncoder]
"""Descriptor -> its encoder, in the order in which Fisher vectors are joined."""

Sums = Mapping[str, NDArray[np.float64]]
"""Descriptor -> its `FisherEncoder.sums`."""


@dataclass(frozen=True, eq=False)
class TrajectoryModel:
    """A trained stream with everything needed to use it."""

    folder: Path
    recipe: TrajectoryRecipe
    classes: tuple[str, ...]
    info: RunInfo
    codebook: Codebook
    classifier: LinearClassifier

    @property
    def name(self) -> str:
        """Name of its scores."""
        return self.folder.name

    def logits(self, sums: Sums) -> NDArray[np.float32]:
        """Return (K,) calibrated scores of a video: zeros where it has no trajectories.

        So a video that nothing moves in is equally likely of each class, and a fusion leaves it to
        the other streams.
        """
        if not any(table[:, 0].any() for table in sums.values()):
            return np.zeros(len(self.classes), np.float32)
        features = fisher_vector(self.codebook, sums)[None].astype(np.float64)
        scores = self.classifier.apply(features, num_classes=len(self.classes))
        return np.asarray(scores[0], np.float32)

    def window_probabilities(
        self, frames: FrameSource, windows: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """Return (M, K) of windows of a video: of the trajectories that lie inside each.

        The video is looked at once, and only what the windows of the moment need is held.

        Args:
            frames: of the video.
            windows: first frame and one past the last of each, in order.
        """
        params = self.recipe.trajectories.params()
        numbers = range(windows[0][0], max(last for _, last in windows))
        none = Trajectories.empty(params.length)
        logits = np.zeros((len(windows), len(self.classes)), np.float32)
        sums: dict[int, Sums] = {}
        firsts, done = [first for first, _ in windows], 0
        for run in trajectory_runs(frames, numbers=numbers, params=params):
            ends = run.place[:, 0]
            while done < len(windows) and windows[done][1] <= ends.min():
                if done in sums:
                    logits[done] = self.logits(sums.pop(done))
                done += 1
            for place in range(done, bisect_right(firsts, ends.max() - params.length)):
                first, last = windows[place]
                inside = (ends - params.length >= first) & (ends < last)
                if inside.any():
                    before = sums.get(place) or sums_of(self.codebook, none)
                    new = sums_of(self.codebook, run.rows(inside))
                    sums[place] = {name: before[name] + table for name, table in new.items()}
        for place, table in sums.items():
            logits[place] = self.logits(table)
        return np.asarray(softmax(logits), np.float32)


def sums_of(codebook: Codebook, trajectories: Trajectories) -> Sums:
    """Return what a video's Fisher vector is made of; those of its parts add up.

    Descriptors count as a store keeps them, in float16.
    """
    return {
        name: one.sums(getattr(trajectories, name).astype(np.float16).astype(np.float32))
        for name, one in codebook.items()
    }


def fisher_vector(codebook: Codebook, sums: Sums) -> NDArray[np.float32]:
    """Return the Fisher vectors of all descriptors, one after the other."""
    return np.concatenate([one.vector(sums[name]) for name, one in codebook.items()])


def jobs_of(videos: Manifest) -> list[TrajectoryJob]:
    """Return the job of each video or interval of a manifest."""
    jobs = []
    for record in videos.records:
        part = record.interval
        seconds = None if part is None else (part.start_seconds, part.end_seconds)
        path = str(videos.video_path(record))
        jobs.append(TrajectoryJob(record.name, path, record.sha256, seconds))
    return jobs


def store_of(recipe: TrajectoryRecipe, data: str | os.PathLike[str]) -> TrajectoryStore:
    """Return the store of a data set, which all runs with these settings share."""
    return TrajectoryStore(Path(data) / "trajectories", recipe.trajectories.params())


def save_codebook(folder: Path, codebook: Codebook) -> None:
    """Write the codebook, whole or not at all."""
    tensors = {
        f"{name}.{field}": np.ascontiguousarray(value)
        for name, encoder in codebook.items()
        for field, value in vars(encoder).items()
    }
    with replacing(folder / CODEBOOK) as temporary:
        save_file(tensors, temporary)


def read_codebook(folder: Path) -> Codebook:
    """Read what `save_codebook` wrote; CheckpointError where it is missing or broken."""
    parts: dict[str, dict[str, NDArray[np.float64]]] = {}
    for key, value in _read(folder / CODEBOOK).items():
        name, _, field = key.partition(".")
        parts.setdefault(name, {})[field] = value
    try:
        return {name: FisherEncoder(**fields) for name, fields in parts.items()}
    except TypeError as error:
        raise CheckpointError(
            f"{folder / CODEBOOK} is incomplete ({error}). {COPY_AGAIN}"
        ) from None


def save_classifier(folder: Path, classifier: LinearClassifier) -> None:
    """Write the classifier, whole or not at all."""
    tensors = {
        "c": np.array(classifier.c),
        "fitted_classes": classifier.fitted_classes,
        "coefficients": classifier.coefficients.astype(np.float32),
        "intercepts": classifier.intercepts,
    }
    with replacing(folder / CLASSIFIER) as temporary:
        save_file(tensors, temporary)


def load_trajectory_model(folder: str | os.PathLike[str]) -> TrajectoryModel:
    """Return the trained stream of a run folder.

    Raises:
        CheckpointError: the folder is no run of trajectories, its training has not ended, or a
            file is broken.
    """
    root = Path(folder)
    classes, info = read_facts(root)
    try:
        recipe = load_trajectory_recipe(root / "recipe.yaml")
    except RecipeError as error:
        raise CheckpointError(f"{error} {COPY_AGAIN}") from error
    if not (root / CLASSIFIER).is_file():
        raise CheckpointError(
            f"{root} has no classifier yet: finish it with `dualstream train --resume {root}`."
        )
    tensors = _read(root / CLASSIFIER)
    try:
        classifier = LinearClassifier(kind="svm", **{**tensors, "c": float(tensors["c"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{root / CLASSIFIER} is incomplete ({error}). {COPY_AGAIN}"
        ) from None
    return TrajectoryModel(root, recipe, classes, info, read_codebook(root), classifier)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or broken ({error}). {COPY_AGAIN}") from error
