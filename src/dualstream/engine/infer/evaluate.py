"""Test of a trained network: every video seen through segments x crops views, scores averaged."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.engine.datasets import Part, test_dataset, videos_of
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.recipe import Crops
from dualstream.engine.run.checkpoint import (
    Checkpoint,
    check_classes,
    load_checkpoint,
    with_test_views,
)
from dualstream.engine.run.info import FlowFolders, flow_origins, save_metrics
from dualstream.errors import DualstreamError, ScoresError
from dualstream.scores import Accuracy, measure, write_scores
from dualstream.types import Scores


class VideoScore(NamedTuple):
    """Scores of one video, or the reason why there are none."""

    name: str
    label: int
    probabilities: NDArray[np.float32] | None
    """(K,) mean over the views of the softmax; None when the video could not be read."""
    error: str | None
    """Why it could not be read."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of a test."""

    scores: Scores
    """Of the videos that could be read."""
    accuracy: Accuracy
    failures: Mapping[str, str]
    """Video -> why it could not be scored."""
    path: Path
    """The score file."""
    metrics: Mapping[str, Any]
    """As in metrics.json of the run."""


class TestOptions(TypedDict, total=False):
    """Keyword arguments of `evaluate` and `score_videos`."""

    part: Part
    """The default is "test"; "held_out" and "train" serve to fit a fusion."""
    data: str | os.PathLike[str] | None
    """Another place of the manifest than the run's own."""
    flow: FlowFolders | None
    """Another place of the flow than the run's own."""
    backward_flow: FlowFolders | None
    """Another place of the backward flow than the run's own."""
    workers: int
    """Reading processes, 0 for none; the default is 2."""
    device: str
    """Where the network runs; the default is the CPU."""
    optimize: bool
    """Compile the network first where that is faster; off by default."""


def evaluate(
    run: Checkpoint | str | os.PathLike[str],
    *,
    segments: int | None = None,
    crops: Crops | None = None,
    out: str | os.PathLike[str] | None = None,
    listener: Callable[[int, int], object] | None = None,
    **options: Unpack[TestOptions],
) -> Evaluation:
    """Score the videos of one part of a run's split, and write scores and metrics.

    The mean over the 25 x 10 views of each video's softmax is taken as Simonyan & Zisserman
    (2014, section 5) do. A video that cannot be read is among the failures, and the rest goes on.

    Args:
        run: run folder that training wrote, or its checkpoint.
        segments: snippets a video; None takes the recipe's.
        crops: views of a snippet; None takes the recipe's.
        out: the score file; None is `scores.npz` of the run, `scores_PART.npz` for other parts.
        listener: called after every video with the number of those done, and of all.
        options: see `TestOptions`.

    Raises:
        CheckpointError: not a trained run, or the manifest's classes are not the checkpoint's.
        ScoresError: no video could be scored.
    """
    part = options.get("part", "test")
    if not isinstance(run, Checkpoint):
        run = load_checkpoint(run, device=options.get("device", "cpu"))
    checkpoint = with_test_views(run, segments=segments, crops=crops)
    total, results = score_videos(checkpoint, **options)
    done = []
    for result in results:
        done.append(result)
        if listener is not None:
            listener(len(done), total)
    scores = collect(done, checkpoint.classes)
    failures = {result.name: result.error for result in done if result.error is not None}
    path = Path(out or checkpoint.folder / f"scores{'' if part == 'test' else f'_{part}'}.npz")
    write_scores(path, scores)
    accuracy = measure(scores)
    metrics = {
        "videos": accuracy.num_videos,
        "failed": len(failures),
        "top1": accuracy.top_1,
        "top5": accuracy.top_5,
        "mean_class": accuracy.mean_class,
        "segments": checkpoint.recipe.test.segments,
        "crops": checkpoint.recipe.test.crops,
    }
    save_metrics(checkpoint.folder, {part: metrics})
    return Evaluation(scores, accuracy, failures, path, metrics)


def score_videos(
    checkpoint: Checkpoint, **options: Unpack[TestOptions]
) -> tuple[int, Iterator[VideoScore]]:
    """Return the number of videos of `evaluate`, and an iterator over their scores.

    Nothing is written. Arguments and errors are those of `evaluate`.
    """
    folder = Path(options.get("data") or checkpoint.info.manifest)
    device = options.get("device", "cpu")
    manifest = Manifest.read(folder)
    check_classes(checkpoint, manifest.classes, str(folder))
    origins = flow_origins(
        checkpoint.info.flow, forward=options.get("flow"), backward=options.get("backward_flow")
    )
    info = dataclasses.replace(checkpoint.info, flow=origins)
    videos = videos_of(manifest, checkpoint.recipe, options.get("part", "test"))
    checkpoint.model.to(device)
    predictor = Predictor(
        checkpoint,
        segments=checkpoint.recipe.test.segments,
        crops=checkpoint.recipe.test.crops,
        optimize=options.get("optimize", False),
    )
    loader = make_loader(
        test_dataset(videos, checkpoint.recipe, info),
        EpochBatches(len(videos), batch_size=1, shuffle=False),
        workers=options.get("workers", 2),
        pin_memory=device.startswith("cuda"),
    )

    def results() -> Iterator[VideoScore]:
        batches = iter(loader)
        for record in videos.records:
            try:
                clip = next(batches).sample(0)
            except DualstreamError as error:
                yield VideoScore(record.path, record.label, None, str(error))
            else:
                yield VideoScore(record.path, record.label, predictor.scores([clip])[0], None)

    return len(videos), results()


def collect(results: Iterator[VideoScore] | list[VideoScore], classes: tuple[str, ...]) -> Scores:
    """Return the scores of the videos that could be read.

    Raises:
        ScoresError: none could.
    """
    good = [r for r in results if r.probabilities is not None]
    if not good:
        raise ScoresError("No video could be scored; the errors of the single videos say why.")
    return Scores(
        names=tuple(r.name for r in good),
        labels=np.array([r.label for r in good], np.int64),
        scores=np.stack([r.probabilities for r in good if r.probabilities is not None]),
        classes=classes,
        kind="probabilities",
    )
