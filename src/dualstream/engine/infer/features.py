"""Features: what the classifiers of networks see of the windows of a video."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualstream.clips.transforms import Normalizer
from dualstream.engine.infer.recognizer import Recognizer, Recognizes, Views, network_batches
from dualstream.engine.infer.window_clips import WindowClips
from dualstream.errors import InputError
from dualstream.models.network import Network
from dualstream.types import Features


def features_of(
    source: str, windows: Iterable[WindowClips], models: Sequence[Recognizes], *, num_crops: int
) -> Features:
    """Return what the networks' classifiers see in each window of a video.

    Args:
        source: name of the video.
        windows: read for these networks.
        models: the networks.
        num_crops: views of a snippet.

    Raises:
        InputError: a value is NaN or infinite, or an exported file, which has logits only.
    """
    recognizers = [one for one in models if isinstance(one, Recognizer)]
    if len(recognizers) < len(models):
        raise InputError("An exported file gives logits only: take the features of the run folder.")
    normalizers = [Normalizer(one.spec) for one in recognizers]
    seconds: list[tuple[float, float]] = []
    rows: dict[str, list[NDArray[np.float32]]] = {}
    with ExitStack() as back_to_training:
        for model in (recognizer.model for recognizer in recognizers):
            if model.training:
                back_to_training.callback(model.train)
                model.eval()
        for window in windows:
            seconds.append((window.start_seconds, window.end_seconds))
            for one, normalizer, views in zip(recognizers, normalizers, window.views, strict=True):
                (means,) = mean_vectors(one.model, [views], normalizer, num_crops=num_crops)
                for head, mean in means.items():
                    name = one.name if len(means) == 1 else f"{one.name}/{head}"
                    rows.setdefault(name, []).append(mean)
    return Features(
        source, np.array(seconds), {name: np.stack(found) for name, found in rows.items()}
    )


def mean_vectors(
    model: Network, clips: Sequence[Views], normalizer: Normalizer, *, num_crops: int
) -> list[dict[str, NDArray[np.float32]]]:
    """Return what the classifier of each head sees of each clip, the mean over its views.

    Where a network's logits are the mean over views too (most do), the classifier makes of this
    mean the logits of the clip. Clips go through the network together: torch computes small 3D
    convolutions of two samples faster than those of one, by its oneDNN kernels (I3D at 16x128x128
    on one core: 0.19 s a clip, not 0.33 s).

    Args:
        model: in evaluation mode.
        clips: (S x crops, C, T, H, W) uint8 a stream, the crops of a segment side by side.
        normalizer: of the network's input.
        num_crops: views of a segment.

    Returns:
        For each clip: head -> (D,), see `Network.vectors`.

    Raises:
        InputError: a value is NaN or infinite.
    """
    counts = [len(next(iter(views.values()))) for views in clips]
    if model.joins_segments:  # the views of one clip are one sample
        seen = [
            _vectors(model, views, normalizer, segments=count // num_crops)
            for views, count in zip(clips, counts, strict=True)
        ]
    else:
        views = {name: np.concatenate([clip[name] for clip in clips]) for name in clips[0]}
        rows = _vectors(model, views, normalizer, segments=sum(counts) // num_crops)
        parts = (torch.split(of_head, counts) for of_head in rows.values())
        seen = [dict(zip(rows, of_clip, strict=True)) for of_clip in zip(*parts, strict=True)]
    means = [{head: one.mean(dim=0).float().numpy() for head, one in of.items()} for of in seen]
    if not all(np.isfinite(mean).all() for found in means for mean in found.values()):
        raise InputError("Features hold a NaN or an infinity: the network has diverged.")
    return means


def _vectors(
    model: Network, views: Views, normalizer: Normalizer, *, segments: int
) -> dict[str, Tensor]:
    """Return what the classifier of each head sees: a float64 row for each view or sample."""
    rows: dict[str, list[Tensor]] = {}
    with torch.inference_mode():
        for part in network_batches(model, views, normalizer, segments=segments):
            for head, seen in model.vectors(part).items():
                rows.setdefault(head, []).append(seen.double().cpu())
    return {head: torch.cat(parts) for head, parts in rows.items()}
