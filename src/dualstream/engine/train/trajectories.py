"""Training of a stream of dense trajectories: extraction, codebook, Fisher vectors, linear SVM.

Extraction goes into a store beside the manifest that all runs with the same settings share: other
splits, other codebooks. A stopped run goes on: with the videos that are not there yet, and after
the codebook where that is there.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.data.manifest import MANIFEST_FILE, Manifest, folder_of_manifest
from dualstream.engine.datasets import videos_of
from dualstream.engine.run.info import RunInfo, git_commit, read_facts, save_metrics, start_run
from dualstream.engine.run.trajectory_model import (
    CODEBOOK,
    Codebook,
    TrajectoryModel,
    fisher_vector,
    jobs_of,
    read_codebook,
    save_classifier,
    save_codebook,
    store_of,
    sums_of,
)
from dualstream.engine.train.run_folder import Listener, Phase, TrainProgress
from dualstream.engine.trajectory_recipe import TrajectoryRecipe, load_trajectory_recipe
from dualstream.errors import (
    AnnotationError,
    CheckpointError,
    InputError,
    VideoError,
    first_names,
)
from dualstream.files import file_sha256
from dualstream.flow.trajectories import DESCRIPTORS, TrajectoryStore
from dualstream.models.fisher import fit_encoder
from dualstream.scores.linear import LinearClassifier
from dualstream.scores.pool import fit_pool
from dualstream.types import Scores

_log = logging.getLogger(__name__)

VECTORS = "fisher_vectors.npy"
"""Of the training videos, in the run folder while it trains."""
ROWS_AT_ONCE = 256
"""Fisher vectors that are held while their products are formed; bounds memory."""

Tell = Callable[[Phase, int, int], None]
"""Phase, done, total -> None."""


@dataclass(frozen=True)
class TrajectoryResult:
    """Result of a finished training."""

    run: Path
    videos: int
    """Training videos that the SVM has seen."""
    without: int
    """Training videos that have no trajectories and were left out."""
    cross_validated_top1: float | None
    """Of training videos by SVMs that have not seen their source, 0..1; None where the data have
    too few sources."""
    held_out_top1: float | None
    """None without held-out videos."""
    seconds: float
    """Of this call."""


def train_trajectories(
    recipe: TrajectoryRecipe,
    manifest_folder: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    listener: Listener | None = None,
) -> TrajectoryResult:
    """Train a stream of dense trajectories into a new run folder.

    Trajectories go into `trajectories` beside the manifest, by `data.workers` processes.

    Args:
        recipe: see `load_trajectory_recipe`.
        manifest_folder: folder that `dualstream prepare` wrote.
        run: folder to create.
        listener: told of every video that is extracted and encoded, and of every descriptor.

    Raises:
        InputError: `run` holds a run already, or there are fewer trajectories than Gaussians.
        AnnotationError: videos of several classes, or of one class only.
        VideoError: training videos cannot be read; the others were extracted.
        MissingDependencyError: the compiled kernel was not built.

    Source:
        Wang & Schmid 2013, section 3.2; calibration by one temperature: Guo et al. 2017.
    """
    folder, source = Path(run).absolute(), folder_of_manifest(manifest_folder)
    if (folder / "recipe.yaml").exists():
        raise InputError(
            f"{folder} holds a run already. Go on with `dualstream train --resume {run}`, or "
            "choose another folder."
        )
    manifest = Manifest.read(source)
    _check(recipe, manifest)
    info = RunInfo(
        str(source),
        file_sha256(source / MANIFEST_FILE),
        seed=recipe.encoding.seed,
        git_commit=git_commit(),
    )
    start_run(folder, recipe, manifest.classes, info)
    try:
        return _fit(folder, recipe, manifest, info, listener)
    except (InputError, AnnotationError, VideoError):  # its data teach nothing: leave no run of it
        (folder / "recipe.yaml").unlink(missing_ok=True)
        raise


def resume_trajectories(
    run: str | os.PathLike[str], *, listener: Listener | None = None
) -> TrajectoryResult:
    """Go on with a training that was stopped; the result is that of an unbroken one.

    Raises:
        CheckpointError: not a run folder, or its manifest has changed since.
    """
    folder = Path(run).absolute()
    _, info = read_facts(folder)
    recipe, source = load_trajectory_recipe(folder / "recipe.yaml"), Path(info.manifest)
    manifest = Manifest.read(source)
    if file_sha256(source / MANIFEST_FILE) != info.manifest_sha256:
        raise CheckpointError(
            f"{source / MANIFEST_FILE} has changed since {folder} was started. Train anew."
        )
    return _fit(folder, recipe, manifest, info, listener)


def _check(recipe: TrajectoryRecipe, manifest: Manifest) -> None:
    videos = videos_of(manifest, recipe, "train")
    if videos.has_several_labels:
        raise AnnotationError(
            f"Videos of {manifest.root} have several classes; the SVM of trajectories tells one of "
            "all. Train a network with train.labels=several."
        )
    if len({record.label for record in videos.records}) < 2:
        raise AnnotationError(
            f"The training videos of {manifest.root} are all of one class; an SVM needs two."
        )


def _fit(
    folder: Path,
    recipe: TrajectoryRecipe,
    manifest: Manifest,
    info: RunInfo,
    listener: Listener | None,
) -> TrajectoryResult:
    started = time.monotonic()

    def tell(phase: Phase, done: int, total: int) -> None:
        if listener is not None:
            listener(TrainProgress(0, 1, done, total, phase=phase))

    videos, store = videos_of(manifest, recipe, "train"), store_of(recipe, info.manifest)
    _extract(store, videos, workers=recipe.data.workers, tell=tell)
    if not (folder / CODEBOOK).is_file():
        save_codebook(folder, _fit_codebook(store, videos, recipe, tell))
    codebook = read_codebook(folder)
    path = folder / VECTORS
    try:
        vectors, is_moving = _encode(path, store, videos, codebook, tell)
        seen = replace(videos, records=tuple(np.array(videos.records, object)[is_moving]))
        gram = _products(vectors)
        labels = np.array([record.label for record in seen.records])
        if len(np.unique(labels)) < 2:
            raise AnnotationError(
                f"Only {len(seen)} of {len(videos)} training videos of {info.manifest}, of one "
                "class at most, have trajectories: they need 16 frames and motion."
            )
        temperature, top1 = _calibrated(gram, seen, recipe)
        classifier = _fit_svm(gram, labels, c=recipe.classifier.c)
        dual = classifier.coefficients / temperature  # (R, N)
        coefficients = np.zeros((len(dual), vectors.shape[1]))
        for first in range(0, len(vectors), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            coefficients += dual[:, rows] @ vectors[rows]
    finally:
        path.unlink(missing_ok=True)
    trained = replace(
        classifier, coefficients=coefficients, intercepts=classifier.intercepts / temperature
    )
    save_classifier(folder, trained)
    held_out_top1 = None
    if recipe.data.hold_out or recipe.data.folds:
        model = TrajectoryModel(folder, recipe, manifest.classes, info, codebook, trained)
        held_out_top1 = _held_out_top1(model, videos_of(manifest, recipe, "held_out"), store, tell)
    without = int((~is_moving).sum())
    if without:
        _log.warning("Left out of training: %d videos without trajectories.", without)
    metrics = {
        "train_videos": len(seen),
        "without_trajectories": without,
        "temperature": temperature,
        "cross_validated_top1": top1,
        "held_out_top1": held_out_top1,
    }
    save_metrics(folder, metrics)
    seconds = time.monotonic() - started
    return TrajectoryResult(folder, len(seen), without, top1, held_out_top1, seconds)


def _extract(store: TrajectoryStore, videos: Manifest, *, workers: int, tell: Tell) -> None:
    failures: dict[str, str] = {}
    for done, outcome in enumerate(store.extract(jobs_of(videos), workers=workers), start=1):
        if outcome.status == "failed":
            failures[outcome.name] = outcome.error
        tell("trajectories", done, len(videos))
    if failures:
        raise VideoError(
            f"{len(failures)} videos have no trajectories that can be computed: "
            f"{first_names(sorted(failures))}. The first: {next(iter(failures.values()))} Correct "
            "them or leave them out of the manifest, and train again: the others are kept."
        )


def _fit_codebook(
    store: TrajectoryStore, videos: Manifest, recipe: TrajectoryRecipe, tell: Tell
) -> Codebook:
    """Learn the encoders from as many trajectories of each training video."""
    settings = recipe.encoding
    share, parts = -(-settings.samples // len(videos)), []
    for index, record in enumerate(videos.records):
        found = store.read(record.name)
        rng = np.random.default_rng([settings.seed, index])
        parts.append(found.rows(rng.permutation(len(found))[:share]))
    codebook = {}
    for done, name in enumerate(DESCRIPTORS):
        tell("codebook", done, len(DESCRIPTORS))
        sample = np.concatenate([getattr(part, name) for part in parts])
        codebook[name] = fit_encoder(sample, num_gaussians=settings.gaussians, seed=settings.seed)
    tell("codebook", len(DESCRIPTORS), len(DESCRIPTORS))
    return codebook


def _encode(
    path: Path, store: TrajectoryStore, videos: Manifest, codebook: Codebook, tell: Tell
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return Fisher vectors (N, D), in a file, and which of the videos they are of."""
    width = sum(2 * encoder.means.size for encoder in codebook.values())
    shape = (len(videos), width)
    table = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    is_moving = np.zeros(len(videos), np.bool_)
    count = 0
    for index, record in enumerate(videos.records):
        found = store.read(record.name)
        if len(found):
            is_moving[index] = True
            table[count] = fisher_vector(codebook, sums_of(codebook, found))
            count += 1
        tell("encode", index + 1, len(videos))
    return table[:count], is_moving


def _products(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, D) -> (N, N) inner products, a block of rows at a time."""
    count = len(vectors)
    gram = np.empty((count, count))
    for first in range(0, count, ROWS_AT_ONCE):
        rows = np.array(vectors[first : first + ROWS_AT_ONCE])
        for second in range(0, first + 1, ROWS_AT_ONCE):
            block = rows @ vectors[second : second + ROWS_AT_ONCE].T
            gram[first : first + len(block), second : second + block.shape[1]] = block
            gram[second : second + block.shape[1], first : first + len(block)] = block.T
    return gram


def _fit_svm(gram: NDArray[np.float64], labels: NDArray[np.int64], *, c: float) -> LinearClassifier:
    """One class against the others, on inner products: coefficients are of the N videos."""
    from sklearn.svm import SVC

    classes = np.unique(labels)
    coefficients, intercepts = np.zeros((len(classes), len(labels))), np.zeros(len(classes))
    for row, label in enumerate(classes):
        machine = SVC(C=c, kernel="precomputed").fit(gram, labels == label)
        coefficients[row, machine.support_] = machine.dual_coef_[0]
        intercepts[row] = machine.intercept_[0]
    return LinearClassifier("svm", c, classes, coefficients, intercepts)


def _calibrated(
    gram: NDArray[np.float64], videos: Manifest, recipe: TrajectoryRecipe
) -> tuple[float, float | None]:
    """Temperature of the scores and top-1, by SVMs that have not seen the sources they score."""
    folds, count = recipe.classifier.calibration_folds, len(videos.classes)
    labels = np.array([record.label for record in videos.records])
    places = {record.name: place for place, record in enumerate(videos.records)}
    scored = np.full((len(labels), count), np.nan, np.float32)
    for kept, aside in _folds(videos, folds):
        known, rest = ([places[r.name] for r in part.records] for part in (kept, aside))
        if len(np.unique(labels[known])) < 2:
            continue
        machine = _fit_svm(gram[np.ix_(known, known)], labels[known], c=recipe.classifier.c)
        scored[rest] = machine.apply(gram[np.ix_(rest, known)], num_classes=count)
    there = ~np.isnan(scored[:, 0])
    if not there.any():
        return 1.0, None
    names = tuple(str(place) for place in np.flatnonzero(there))
    scores = Scores(names, labels[there], scored[there], videos.classes, "logits")
    _, (temperature,) = fit_pool((scores,))
    return temperature, float((scores.scores.argmax(axis=1) == scores.labels).mean())


def _folds(videos: Manifest, folds: int) -> Iterator[tuple[Manifest, Manifest]]:
    for number in range(1, folds + 1):
        try:
            yield videos.fold(number, folds=folds)
        except AnnotationError:  # no class has so many sources
            continue


def _held_out_top1(
    model: TrajectoryModel, videos: Manifest, store: TrajectoryStore, tell: Tell
) -> float:
    _extract(store, videos, workers=model.recipe.data.workers, tell=tell)
    right = 0
    for record in videos.records:
        logits = model.logits(sums_of(model.codebook, store.read(record.name)))
        right += int(logits.argmax() == record.label)
    return right / len(videos)
