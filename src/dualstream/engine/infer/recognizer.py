"""A network with all that it needs to see a video, and the views of a video through it.

Importing this file needs no torch, which prediction by exported files does without.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import CheckpointError, InputError
from dualstream.flow.methods.params import FlowParams
from dualstream.types import Clip, ClipSpec, Labels

if TYPE_CHECKING:
    from torch import Tensor

    from dualstream.clips.transforms import Normalizer
    from dualstream.engine.run.checkpoint import Checkpoint
    from dualstream.models.network import Network
    from dualstream.video.source import FrameSource

Views = Mapping[str, Any]
"""Stream -> bytes (V, C, T, H, W) of the views of one video, arrays or tensors."""

LogitsOf = Callable[[Views, int], NDArray[np.float32]]
"""From the views (S x crops, ...) of one video and S to their logits; see `view_logits`."""


@runtime_checkable
class Recognizes(Protocol):
    """What a `Predictor` needs of a network, in torch or in an exported file."""

    @property
    def name(self) -> str:
        """Name of its scores."""

    @property
    def spec(self) -> ClipSpec:
        """Input."""

    @property
    def classes(self) -> tuple[str, ...]:
        """K class names."""

    @property
    def flow_params(self) -> Mapping[str, FlowParams]:
        """Stream -> settings of its flow method."""

    @property
    def labels(self) -> Labels:
        """Whether a video has one of the classes, or several."""

    @property
    def joins_segments(self) -> bool:
        """Whether it sees the segments of a video together."""

    @property
    def num_segments(self) -> int | None:
        """Segments that it demands; None takes any number."""

    def running(self, *, optimize: bool = False) -> LogitsOf:
        """Return the function that runs it; `optimize`: in the form that is fastest here."""


@runtime_checkable
class SeesVideo(Protocol):
    """A stream that looks at all frames of a window, not at clips: `TrajectoryModel`."""

    @property
    def name(self) -> str:
        """Name of its scores."""

    @property
    def classes(self) -> tuple[str, ...]:
        """K class names."""

    def window_probabilities(
        self, frames: FrameSource, windows: Sequence[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """Return (M, K) of windows from a first frame up to another, in order."""


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

    @property
    def joins_segments(self) -> bool:
        """Whether the network sees the segments of a video together."""
        return self.model.joins_segments

    @property
    def num_segments(self) -> int | None:
        """None: any number."""
        return None

    def running(self, *, optimize: bool = False) -> LogitsOf:
        """Return the function that runs the network, in evaluation mode whatever mode it is in.

        Args:
            optimize: in the form that is fastest here (see `models.fastest`).
        """
        from dualstream.clips.transforms import Normalizer
        from dualstream.models.fastest import fastest

        run = fastest(self.model) if optimize else self.model
        normalizer = Normalizer(self.spec)

        def logits(views: Views, segments: int) -> NDArray[np.float32]:
            was_training = self.model.training
            if was_training:
                self.model.eval()
            try:
                return view_logits(self.model, views, normalizer, segments=segments, run=run)
            finally:
                if was_training:
                    self.model.train()

        return logits


Trained: TypeAlias = "Recognizer | Checkpoint | Network | str | os.PathLike[str]"
"""A recognizer or what one is made of: a trained checkpoint or its run folder, or a network that
brings its input and classes (`create_model(..., weights=...)`)."""

Model: TypeAlias = "Trained | Recognizes | SeesVideo"
"""The same, a network of an exported file (`deploy.runtime.open_exported`), or a stream of
trajectories (`load_trajectory_model`, or its run folder). Where networks are named one by one, the
folder of a recipe of several streams names all of them (`named_streams`)."""


def open_models(
    runs: Sequence[str | os.PathLike[str]], weights: Sequence[str] = (), *, device: str = "cpu"
) -> list[Model]:
    """Return the streams of run folders, then those of published weights.

    Args:
        runs: run folders.
        weights: names of published weights, which are fetched if necessary.
        device: where the networks are to be.

    Raises:
        InputError: no such device.
        CheckpointError: a run folder that cannot be loaded.
        UnknownNameError, WeightsError: weights that there are not or that cannot be had.
    """
    from dualstream.engine.run.checkpoint import check_device, load_checkpoint
    from dualstream.models import create_model
    from dualstream.models.weights import weights_entry

    place = check_device(device)
    found: list[Model] = [open_stream(run) for run in runs]
    found = [
        load_checkpoint(m, device=device) if isinstance(m, str | os.PathLike) else m for m in found
    ]
    for name in weights:
        found.append(create_model(weights_entry(name).model, weights=name).to(place))
    return found


def open_stream(model: Model) -> Model:
    """Return the stream of trajectories that a run folder is of; anything else as it is.

    Raises:
        CheckpointError: its training has not ended, or a file is broken.
    """
    from dualstream.engine.trajectory_recipe import is_trajectory_run

    if isinstance(model, str | os.PathLike) and is_trajectory_run(model):
        from dualstream.engine.run.trajectory_model import load_trajectory_model

        return load_trajectory_model(model)
    return model


@overload
def as_recognizer(model: Trained) -> Recognizer: ...


@overload
def as_recognizer(model: Model) -> Recognizes: ...


def as_recognizer(model: Model) -> Recognizes:
    """Return the recognizer that a model stands for; errors as in `as_recognizers`."""
    if isinstance(model, Recognizes):
        return model
    if isinstance(model, SeesVideo):
        raise InputError(
            f"{model.name} is a stream of trajectories and no network: it can be tested, fused and "
            "predict videos."
        )
    from dualstream.engine.run.checkpoint import Checkpoint, load_checkpoint
    from dualstream.models.network import Network

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


@overload
def as_recognizers(models: Trained | Sequence[Trained]) -> tuple[Recognizer, ...]: ...


@overload
def as_recognizers(models: Model | Sequence[Model]) -> tuple[Recognizes, ...]: ...


def as_recognizers(models: Model | Sequence[Model]) -> tuple[Recognizes, ...]:
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
        one if count == 1 else replace(cast("Recognizer", one), name=f"{one.name} ({count})")
        for one, count in zip(found, times, strict=True)
    )


Run: TypeAlias = "Callable[[dict[str, Tensor]], Tensor]"
"""From stream name -> normalised views (N, C, T, H, W) to logits (N, K)."""

VIEWS_AT_ONCE = 64
"""Views of one forward pass, or frames of them for a network whose memory grows with time (but one
view at least); bounds memory, changes no result."""


def view_logits(
    model: Network,
    clip: Clip | Views,
    normalizer: Normalizer,
    *,
    segments: int,
    run: Run | None = None,
) -> NDArray[np.float32]:
    """Return the logits of the views of one video.

    A network with a consensus other than the average sees the segments of a crop together, as
    in training; every other one sees each view by itself.

    Args:
        model: in evaluation mode.
        clip: (S x crops, C, T, H, W) uint8 a stream, the crops of a segment side by side; of one
            video.
        normalizer: of the network's input.
        segments: S.
        run: in place of the network itself.

    Returns:
        (S x crops, K), or (crops, K) where the network joins segments.
    """
    import torch

    with torch.inference_mode():
        batches = network_batches(model, clip, normalizer, segments=segments)
        return torch.cat([(run or model)(views).float().cpu() for views in batches]).numpy()


def network_batches(
    model: Network, clip: Clip | Views, normalizer: Normalizer, *, segments: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the views of one video, normalised, a forward pass at a time; see `view_logits`."""
    import torch

    device = next(model.parameters()).device
    at_once = VIEWS_AT_ONCE
    # A network whose first layer joins the frames keeps no more of longer snippets.
    if model.conv_dims == 3 or any(accepts.length is None for accepts in model.inputs.values()):
        at_once = max(1, at_once // max(s.num_frames for s in normalizer.spec.streams.values()))
    views = clip.data if isinstance(clip, Clip) else clip
    together = segments if model.joins_segments else None
    for few in view_batches(views, segments=together, at_once=at_once):
        part = {
            name: torch.as_tensor(value).to(device, non_blocking=True)
            for name, value in few.items()
        }
        yield normalizer(part)


def view_batches(views: Views, *, segments: int | None, at_once: int) -> Iterator[dict[str, Any]]:
    """Yield the views of a video as samples of a network, few at a time.

    Args:
        views: (S x crops, C, T, H, W) a stream, the crops of a segment side by side.
        segments: S where the network joins segments, whose samples are (S, C, T, H, W), one a crop;
            None where every view is a sample.
        at_once: views of a part, or those of one sample where it has more.
    """
    if segments is not None:
        # (S x crops, C, T, H, W) -> (crops, S, C, T, H, W)
        views = {
            name: value.reshape(segments, -1, *value.shape[1:]).swapaxes(0, 1)
            for name, value in views.items()
        }
        at_once = max(1, at_once // segments)
    for first in range(0, len(next(iter(views.values()))), at_once):
        yield {name: value[first : first + at_once] for name, value in views.items()}
