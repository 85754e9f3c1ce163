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
from dualstream.types import Clip, Features


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
                segments = len(next(iter(views.values()))) // num_crops
                means = mean_vectors(one.model, views, normalizer, segments=segments)
                for head, mean in means.items():
                    name = one.name if len(means) == 1 else f"{one.name}/{head}"
                    rows.setdefault(name, []).append(mean)
    return Features(
        source, np.array(seconds), {name: np.stack(found) for name, found in rows.items()}
    )


def mean_vectors(
    model: Network, clip: Clip | Views, normalizer: Normalizer, *, segments: int
) -> dict[str, NDArray[np.float32]]:
    """Return what the classifier of each head sees of one video, the mean over its views.

    Where a network's logits are the mean over views too (most do), the classifier makes of this
    mean the logits of the video.

    Args:
        model: in evaluation mode.
        clip: (S x crops, C, T, H, W) uint8 a stream, the crops of a segment side by side.
        normalizer: of the network's input.
        segments: S.

    Returns:
        Head -> (D,), see `Network.vectors`.

    Raises:
        InputError: a value is NaN or infinite.
    """
    sums: dict[str, Tensor] = {}
    rows: dict[str, int] = {}
    with torch.inference_mode():
        for views in network_batches(model, clip, normalizer, segments=segments):
            for head, seen in model.vectors(views).items():
                total = seen.double().sum(dim=0).cpu()
                sums[head] = sums[head] + total if head in sums else total
                rows[head] = rows.get(head, 0) + len(seen)
    means = {head: (total / rows[head]).float().numpy() for head, total in sums.items()}
    if not all(np.isfinite(mean).all() for mean in means.values()):
        raise InputError("Features hold a NaN or an infinity: the network has diverged.")
    return means
