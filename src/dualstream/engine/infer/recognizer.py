"""A network with all that it needs to see a video, and the views of a video through it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualstream.clips.transforms import Normalizer
from dualstream.engine.run.checkpoint import Checkpoint, load_checkpoint
from dualstream.errors import CheckpointError, InputError
from dualstream.flow.methods.params import FlowParams
from dualstream.models.network import Network
from dualstream.types import Clip, ClipSpec, Labels


@dataclass(frozen=True, eq=False)
class Recognizer:
    """A network, what it is fed and what its logits stand for."""

    name: str
    model: Network
    spec: ClipSpec
    classes: tuple[str, ...]
    flow_params: Mapping[str, FlowParams] = field(default_factory=dict)
    """Stream -> settings of its flow method; the defaults of the method where there are none."""
    labels: Labels = "one"
    """Whether a video has one of the classes, or several: what its probabilities are of."""


Model = Recognizer | Checkpoint | Network | str | os.PathLike[str]
"""A recognizer or what one is made of: a trained checkpoint or its run folder, or a network that
brings its input and classes (`create_model(..., weights=...)`)."""


def as_recognizer(model: Model) -> Recognizer:
    """Return the recognizer that a model stands for; errors as in `as_recognizers`."""
    if isinstance(model, Recognizer):
        return model
    if isinstance(model, Network):
        if model.spec is None or not model.classes:
            raise InputError(
                "This network does not know its input or its classes. Use one made with "
                "create_model(weights=...) and its own classes, a run folder, or a Recognizer."
            )
        return Recognizer(model.name, model, model.spec, model.classes)
    checkpoint = model if isinstance(model, Checkpoint) else load_checkpoint(model)
    return Recognizer(
        checkpoint.folder.name,
        checkpoint.model,
        checkpoint.spec,
        checkpoint.classes,
        checkpoint.flow_params,
        checkpoint.recipe.train.labels,
    )


def as_recognizers(models: Model | Sequence[Model]) -> tuple[Recognizer, ...]:
    """Return one recognizer or several of the same classes, with names that differ.

    Where two share a name they are numbered: rgb, rgb -> rgb, rgb (2).

    Raises:
        InputError: there is none, or a network does not know its input or its classes.
        CheckpointError: different classes, or a run folder that cannot be loaded.
    """
    several = isinstance(models, Sequence) and not isinstance(models, str)
    found = [as_recognizer(m) for m in cast("Sequence[Model]", models if several else [models])]
    if not found:
        raise InputError("Prediction needs at least one network.")
    for other in found[1:]:
        if other.classes != found[0].classes:
            raise CheckpointError(
                f"{found[0].name} and {other.name} have different classes; they must come from "
                "the same data set."
            )
        if other.labels != found[0].labels:
            raise CheckpointError(
                f"{found[0].name} and {other.name} were trained with other train.labels "
                f"({found[0].labels} and {other.labels}): their probabilities cannot be joined."
            )
    names = [one.name for one in found]
    times = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return tuple(
        one if count == 1 else replace(one, name=f"{one.name} ({count})")
        for one, count in zip(found, times, strict=True)
    )


Run = Callable[[dict[str, Tensor]], Tensor]
"""From stream name -> normalised views (N, C, T, H, W) to logits (N, K)."""

VIEWS_AT_ONCE = 64
"""Views of one forward pass, or frames of them for a network whose memory grows with time (but one
view at least); bounds memory, changes no result."""


def view_logits(
    model: Network, clip: Clip, normalizer: Normalizer, *, segments: int, run: Run | None = None
) -> NDArray[np.float32]:
    """Return the logits of the views of one video.

    A network with a consensus other than the average sees the segments of a crop together, as
    in training; every other one sees each view by itself.

    Args:
        model: in evaluation mode.
        clip: (S x crops, C, T, H, W) uint8 a stream, the crops of a segment side by side.
        normalizer: of the network's input.
        segments: S.
        run: in place of the network itself.

    Returns:
        (S x crops, K), or (crops, K) where the network joins segments.
    """
    device = next(model.parameters()).device
    at_once = VIEWS_AT_ONCE
    # A network whose first layer joins the frames keeps no more of longer snippets.
    if model.conv_dims == 3 or any(accepts.length is None for accepts in model.inputs.values()):
        at_once = max(1, at_once // max(s.num_frames for s in normalizer.spec.streams.values()))
    views: Mapping[str, Tensor] = clip.data
    if model.joins_segments:
        # (S x crops, C, T, H, W) -> (crops, S, C, T, H, W)
        views = {
            name: value.reshape(segments, -1, *value.shape[1:]).transpose(0, 1)
            for name, value in views.items()
        }
        at_once = max(1, at_once // segments)
    count = len(next(iter(views.values())))
    parts = []
    with torch.inference_mode():
        for first in range(0, count, at_once):
            part = {
                name: value[first : first + at_once].to(device, non_blocking=True)
                for name, value in views.items()
            }
            parts.append((run or model)(normalizer(part)).float().cpu())
    return torch.cat(parts).numpy()
