"""Test of one stream: every video seen through segments x crops views, scores averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.clips.manifest import Manifest
from dualstream.clips.transforms import normalize
from dualstream.engine.checkpoint import Checkpoint, check_classes
from dualstream.engine.datasets import Part, test_dataset, videos_of
from dualstream.errors import DualstreamError, ScoresError
from dualstream.models.fastest import fastest
from dualstream.models.network import ANY_LENGTH, Network
from dualstream.scores import average_views
from dualstream.types import Clip, InputSpec, Scores

VIEWS_AT_ONCE = 64
"""Views of one forward pass, or frames of them for a network over clips (but one view at least);
bounds memory, changes no result."""


@dataclass(frozen=True, eq=False)
class VideoScore:
    """What the network says about one video."""

    name: str
    label: int
    probabilities: NDArray[np.float32] | None
    """(K,) mean over the views of the softmax; None when the video could not be read."""
    error: str | None
    """Why it could not be read."""


def evaluate(
    checkpoint: Checkpoint,
    *,
    part: Part = "test",
    manifest_folder: Path | None = None,
    flow_store: Path | None = None,
    backward_store: Path | None = None,
    workers: int = 2,
    device: str = "cpu",
    optimize: bool = False,
) -> tuple[int, Iterator[VideoScore]]:
    """Score the videos of one part of the checkpoint's split.

    The mean over the 25 x 10 views of each video's softmax is taken as Simonyan & Zisserman
    (2014, section 5) do. A video that cannot be read gives a `VideoScore` with an error, and
    the rest goes on.

    Args:
        part: "test"; "held_out" and "train" serve to fit fusions without touching the test.
        manifest_folder: another place of the manifest than the run's own.
        flow_store: another place of the flow than the run's own.
        backward_store: another place of the backward flow than the run's own.
        workers: reading processes, 0 for none.
        device: where the network runs.
        optimize: compile the network first where that is faster (`models.fastest`).

    Returns:
        Number of videos, and an iterator that gives one score after the other.

    Raises:
        CheckpointError: the manifest's classes are not the checkpoint's.
    """
    folder = manifest_folder or Path(checkpoint.info.manifest)
    manifest = Manifest.read(folder)
    check_classes(checkpoint, manifest.classes, str(folder))
    info = dataclasses.replace(
        checkpoint.info,
        flow_store=str(flow_store) if flow_store else checkpoint.info.flow_store,
        backward_store=str(backward_store) if backward_store else checkpoint.info.backward_store,
    )
    videos = videos_of(manifest, checkpoint.recipe, part)
    loader = make_loader(
        test_dataset(videos, checkpoint.recipe, info),
        EpochBatches(len(videos), batch_size=1, shuffle=False),
        workers=workers,
        pin_memory=device.startswith("cuda"),
    )
    return len(videos), _scores(checkpoint, videos, iter(loader), device, optimize=optimize)


def collect(results: Iterable[VideoScore], classes: tuple[str, ...]) -> Scores:
    """Scores of the videos that could be read.

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


def view_logits(
    model: Network,
    views: Tensor,
    spec: InputSpec,
    *,
    segments: int,
    run: Callable[[Tensor], Tensor] | None = None,
) -> NDArray[np.float32]:
    """Logits of the views of one video.

    A network with a consensus other than the average sees the segments of a crop together, as
    in training; every other one sees each view by itself.

    Args:
        views: (S x crops, C, T, H, W) uint8 on any device, the crops of a segment side by side.
        segments: S.
        run: computes the model's logits in its place (`models.fastest`).

    Returns:
        (S x crops, K), or (crops, K) where the network joins segments.
    """
    device = next(model.parameters()).device
    at_once = VIEWS_AT_ONCE
    if _grows_with_time(model):
        at_once = max(1, VIEWS_AT_ONCE // int(views.shape[2]))
    if model.joins_segments:
        # (S x crops, C, T, H, W) -> (crops, S, C, T, H, W)
        views = views.reshape(segments, -1, *views.shape[1:]).transpose(0, 1)
        at_once = max(1, at_once // segments)
    with torch.inference_mode():
        parts = [
            (run or model)(normalize(part.to(device, non_blocking=True), spec)).float().cpu()
            for part in torch.split(views, at_once)
        ]
    return torch.cat(parts).numpy()


def _grows_with_time(model: Network) -> bool:
    """Whether what the network keeps grows with T: not where its first layer takes all of T."""
    return model.length is ANY_LENGTH or any(weight.ndim == 5 for weight in model.parameters())


def _scores(
    checkpoint: Checkpoint,
    videos: Manifest,
    batches: Iterator[Clip],
    device: str,
    *,
    optimize: bool,
) -> Iterator[VideoScore]:
    model = checkpoint.model.to(device).eval()
    run = fastest(model, name=model.name) if optimize else model
    spec = checkpoint.recipe.test_spec()
    for record in videos.records:
        try:
            clip = next(batches)
        except DualstreamError as error:
            yield VideoScore(record.path, record.label, None, str(error))
            continue
        views = clip.data[spec.modality][0]  # (V, C, T, H, W)
        segments = checkpoint.recipe.test.segments
        logits = view_logits(model, views, spec, segments=segments, run=run)
        mean = average_views(logits, average="probabilities")
        yield VideoScore(record.path, record.label, mean, None)
