"""Network: declared inputs, their check, segments, freezing and the classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Required, Self, TypedDict, TypeVar

import torch
from torch import Tensor, nn

from dualstream.errors import InputError, ShapeError, UnknownNameError, check_choice, check_least
from dualstream.models.accepts import Accepts
from dualstream.models.layers.norm import batch_norms, checkpointed, explained_statistics
from dualstream.models.layers.pooling import global_mean
from dualstream.types import ClipSpec

FrozenBatchNorm = Literal["none", "partial", "all"]
"""Batch norms that keep their statistics and are not trained; partial: all but the first."""

Trainable = Literal["all", "last_layer", "none"] | int
"""Parameters that are trained; a number n >= 1: the head and the last n stages; none: for one of
several towers."""

_V = TypeVar("_V")


class NetworkOptions(TypedDict, total=False):
    """Options of every network over clips; their defaults are those of the network's class."""

    num_classes: Required[int]
    """K, at least 1."""
    in_channels: int
    """C of one time step: 3 for RGB and RGB difference, 2 for optical flow."""
    dropout: float
    """Probability in front of the classifier, 0 up to (not including) 1."""
    checkpointing: bool
    """Compute activations inside blocks again in the backward pass: less memory, about a third
    more time."""


class Network(nn.Module):
    """A network from clips to logits.

    Subclasses make their layers, call `add_classifier` last, and define `stages` and either `parts`
    and `pool` or, where they are no chain, `encode`. The base checks the input, folds segments into
    samples and joins them again. What is called through `run` has gradient checkpointing.

    Args:
        num_classes: K, at least 1.
        inputs: what the network takes; of several streams by their names.
        checkpointing: see `NetworkOptions`.
        frozen_batch_norm: which batch norms are frozen.

    Raises:
        InputError: a number is below 1.
        UnknownNameError: `frozen_batch_norm` is none of its choices.
    """

    conv_dims: Literal[2, 3] = 3
    """3 where convolutions run over time, 2 where they run over images; decides the layout in
    memory, and whether memory grows with T."""
    heads: tuple[str, ...] = ("answer",)
    """Names of the logits that `outputs` gives; the first are those of `forward`."""
    own_losses: tuple[str, ...] = ()
    """Names of losses that it has beside those of its logits, for `train.losses` of recipes."""
    starts_from: Mapping[str, str] = {}
    """Other networks -> the part that a run of theirs gives the start of."""
    inputs: Mapping[str, Accepts]
    """Stream -> clips that are taken; one entry, "clip", for a network that sees one stream."""
    spec: ClipSpec | None
    """Input that the weights were made for; None without weights."""
    classes: tuple[str, ...]
    """Class names of the weights; () without."""
    class_groups: tuple[int, ...]
    """Numbers of classes of the data sets that are trained on, in the order of the logits; what is
    normalised over classes is so within each group."""
    name: str
    """Name in `MODELS`; until `create_model` sets it, that of the class."""
    num_features: int
    """D of the vectors that the classifier sees."""
    dropout: nn.Dropout
    classifier: nn.Linear
    exchanges_maps: bool = False
    """Whether the streams see each other's attention maps, which training has to make."""
    left_out: tuple[str, ...] = ()
    """Modules that this network was cut short by, whose weights it does not take."""

    def __init__(
        self,
        *,
        num_classes: int,
        inputs: Accepts | Mapping[str, Accepts],
        checkpointing: bool = False,
        frozen_batch_norm: FrozenBatchNorm = "none",
    ) -> None:
        super().__init__()
        check_least(1, num_classes=num_classes)
        check_choice("frozen_batch_norm", frozen_batch_norm, FrozenBatchNorm)
        self.num_classes = num_classes
        self.inputs = {"clip": inputs} if isinstance(inputs, Accepts) else dict(inputs)
        self.checkpointing = checkpointing
        self.frozen_batch_norm = frozen_batch_norm
        self.trainable: Trainable | Mapping[str, Trainable] = "all"
        self.spec = None
        self.classes = ()
        self.class_groups = (num_classes,)
        self.name = type(self).__name__

    def add_classifier(
        self, num_features: int, *, dropout: float, deviation: float | None = None
    ) -> None:
        """Set `dropout` and `classifier` over vectors of `num_features`, and freeze.

        Args:
            deviation: of the classifier's normal start, with zero biases; None is torch's start.
        """
        check_dropout(dropout)
        self.num_features = num_features
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(num_features, self.num_classes)
        if deviation is not None:
            nn.init.normal_(self.classifier.weight, std=deviation)
            nn.init.zeros_(self.classifier.bias)
        self.apply_freezing()

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Logits (N, K), joined over segments S.

        Args:
            x: (N, C, T, H, W) or (N, S, C, T, H, W), floating point; of several inputs a mapping,
                stream -> one.

        Raises:
            InputError: a mapping of other streams.
            ShapeError: `inputs` does not take the shape, streams differ in N or S, or in training
                a batch norm has too few values for its statistics.
        """
        # Not len(), which would make a constant of N in an export.
        samples = (next(iter(x.values())) if isinstance(x, Mapping) else x).shape[0]
        return self.classify(self.embed(x), samples=samples)

    def classify(self, features: Tensor, *, samples: int) -> Tensor:
        """Logits (N, K) of the vectors (N*S, num_features) of N `samples`, joined over segments."""
        logits: Tensor = self.classifier(self.dropout(features))  # (N*S, K)
        return self.join(
            logits.reshape(samples, -1, logits.shape[1]),
            features.reshape(samples, -1, features.shape[1]),
        )

    def towers(self) -> Mapping[str, Network]:
        """Stream -> the network inside this one that sees it alone; none for most."""
        return {}

    def tower_of(self, stream: str) -> Network:
        """The network inside this one that sees a stream; UnknownNameError where there is none."""
        towers = self.towers()
        if stream not in towers:
            there = tuple(towers) or (f"none, {self.name} has no towers",)
            raise UnknownNameError(f"tower of {self.name}", stream, there)
        return towers[stream]

    def outputs(
        self, x: Tensor | Mapping[str, Tensor], *, absent: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Logits of each of `heads`, in their order, for a loss on each; here of one.

        A network with several heads defines this and lets `forward` give the first of them.

        Args:
            x: as of `forward`.
            absent: stream -> (N,) booleans, true where a sample is to be judged without that
                stream; for modality dropout. Here the clips of such samples are zeros.

        Returns:
            Head -> (N, K).

        Raises:
            InputError, ShapeError: as of `forward`.
        """
        streams = self._by_stream(x)
        for stream, lacks in (absent or {}).items():
            clips = streams[stream]
            streams[stream] = clips.masked_fill(lacks.reshape(-1, *[1] * (clips.ndim - 1)), 0)
        return {self.heads[0]: self(streams)}

    def embed(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return the vectors that the classifier sees, (N*S, num_features).

        Input and errors are those of `forward`.
        """
        clips = self._checked(x)
        with self._explained():
            return self.encode(clips)

    def classifiers(self) -> Mapping[str, nn.Linear]:
        """Head -> its classifier; a head that is made of the answers of others has none."""
        return {self.heads[0]: self.classifier}

    def vectors(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Head -> the vectors that its classifier sees, (N*S, D), N by N.

        Input and errors are those of `forward`. In evaluation mode the logits of a segment are
        `classifiers()[head]` of its vector.
        """
        return {self.heads[0]: self.embed(x)}

    def check(self, shape: Sequence[int] | Mapping[str, Sequence[int]]) -> None:
        """Raise unless input of a shape is taken; nothing is run.

        Args:
            shape: (N, C, T, H, W) or (N, S, C, T, H, W); for several inputs a mapping from each
                stream's name to one, with the same N and S.

        Raises:
            InputError: a mapping of other streams.
            ShapeError: `inputs` does not take the shape.
        """
        shapes = self._by_stream(shape)
        for stream, found in shapes.items():
            name = self.name if len(shapes) == 1 else f"{self.name} ({stream})"
            self.inputs[stream].check(found, name=name)
        first = tuple(next(iter(shapes.values()))[:-4])
        if any(tuple(found[:-4]) != first for found in shapes.values()):
            got = ", ".join(f"{stream} {tuple(found)}" for stream, found in shapes.items())
            raise ShapeError(f"The inputs of {self.name} must have the same N and S, got {got}.")

    def _checked(self, x: Tensor | Mapping[str, Tensor]) -> Any:
        """Argument of `encode`: one tensor (N*S, C, T, H, W), or a mapping of several."""
        streams = self._by_stream(x)
        for clips in streams.values():
            if not clips.is_floating_point():
                kind = str(clips.dtype).removeprefix("torch.")
                raise ShapeError(f"Input of {self.name} must be floating point, got {kind}.")
        self.check({stream: clips.shape for stream, clips in streams.items()})
        folded = {stream: fold_segments(clips) for stream, clips in streams.items()}
        return folded if len(folded) > 1 else folded.popitem()[1]

    def _by_stream(self, x: _V | Mapping[str, _V]) -> dict[str, _V]:
        """One value for each of `inputs`; where there is one, it may have any name or none."""
        given: Mapping[str, _V] = x if isinstance(x, Mapping) else {"clip": x}
        if len(self.inputs) == len(given) == 1:
            return dict(zip(self.inputs, given.values(), strict=True))
        if given.keys() != self.inputs.keys():
            streams = ", ".join(self.inputs)
            wanted = "one input" if len(self.inputs) == 1 else f"a mapping of {streams}"
            got = f"a mapping of {', '.join(given)}" if isinstance(x, Mapping) else "one tensor"
            raise InputError(f"{self.name} takes {wanted}, got {got}.")
        return {stream: given[stream] for stream in self.inputs}

    def encode(self, clips: Any) -> Tensor:
        """Vectors for the classifier.

        Args:
            clips: (N, C, T, H, W), checked; for several inputs a mapping from each stream's name
                to one.

        Returns:
            (N, num_features); by default what `parts` and `pool` make of it.
        """
        return self._finish(clips, first=0)

    def join(self, logits: Tensor, features: Tensor) -> Tensor:
        """Logits (N, S, K), features (N, S, D) -> (N, K): the mean over segments."""
        return logits.mean(dim=1)

    @property
    def joins_segments(self) -> bool:
        """True where the logits of a video are more than the mean over its segments' logits."""
        return False

    def stages(self) -> tuple[nn.Module, ...]:
        """Parts in front of the head that freezing counts, from input to output.

        By default `parts`, but for those without parameters.
        """
        return tuple(part for part in self.parts() if any(True for _ in part.parameters()))

    def head(self) -> tuple[nn.Module, ...]:
        """Parts that are trained where only the last layer is."""
        return (self.classifier,)

    def parts(self) -> tuple[nn.Module, ...]:
        """Modules that a clip passes one by one in front of `pool`; () if `encode` is defined."""
        return ()

    def pool(self, features: Tensor) -> Tensor:
        """Output of the last part, (N, C, T, H, W) -> (N, num_features): the mean.

        Where it is (N, num_features) already, it stays so.
        """
        return features if features.ndim == 2 else global_mean(features)

    def num_frozen_parts(self) -> int:
        """Number of parts at the beginning without anything trained (see `set_trainable`)."""
        trained = [any(p.requires_grad for p in part.parameters()) for part in self.parts()]
        return trained.index(True) if True in trained else len(trained)

    def begin(self, clips: Tensor | Mapping[str, Tensor], *, parts: int) -> Tensor:
        """Clips through the first `parts`; pooled where those are all.

        Raises:
            InputError: the network is no chain of parts.
            ShapeError: as of `forward`.
        """
        if not self.parts():
            raise InputError(f"{self.name} is no chain of parts that can be run in pieces.")
        x: Tensor = self._checked(clips)
        for part in self.parts()[:parts]:
            x = self.run(part, x)
        return self.pool(x) if parts == len(self.parts()) else x

    def finish(self, features: Tensor, *, parts: int) -> Tensor:
        """Logits (N, K) of what `begin` gave with the same `parts`.

        Raises:
            ShapeError: in training, too few values for the statistics of a batch norm.
        """
        if parts < len(self.parts()):
            with self._explained():
                features = self._finish(features, first=parts)
        logits: Tensor = self.classifier(self.dropout(features))
        return logits

    def _finish(self, x: Tensor, *, first: int) -> Tensor:
        for part in self.parts()[first:]:
            x = self.run(part, x)
        return self.pool(x)

    def _explained(self) -> AbstractContextManager[None]:
        return explained_statistics(self.name) if self.training else nullcontext()

    def units(self, part: nn.Module) -> tuple[nn.Module, ...]:
        """Modules of a part that are checkpointed each as one: the blocks of a stage."""
        return tuple(part) if isinstance(part, nn.Sequential) else (part,)

    def run(self, part: nn.Module, x: Tensor) -> Tensor:
        """`part(x)`; with gradient checkpointing while training."""
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            y: Tensor = part(x)
            return y
        for unit in self.units(part):
            x = checkpointed(unit, x)
        return x

    def apply_freezing(self) -> None:
        """Set `requires_grad` of every parameter from `trainable` and `frozen_batch_norm`."""
        self.requires_grad_(self.trainable == "all")
        for module in (*self.head(), *self._stages()[1]):
            module.requires_grad_(self.trainable != "none")
        for norm in self._frozen_batch_norms():
            norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but frozen stages and batch norms stay in evaluation mode."""
        super().train(mode and self.trainable != "none")
        for module in (*self._stages()[0], *self._frozen_batch_norms()):
            module.eval()
        return self

    def _stages(self) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
        """The stages that are frozen, and those that are trained."""
        if self.trainable == "all":
            return (), ()
        stages = self.stages()
        first = len(stages) - (self.trainable if isinstance(self.trainable, int) else 0)
        return stages[:first], stages[first:]

    def _frozen_batch_norms(self) -> list[nn.Module]:
        norms = batch_norms(self)
        frozen = {"none": [], "partial": norms[1:], "all": norms}[self.frozen_batch_norm]
        if self.trainable == "all":
            return frozen
        trained = {norm for stage in self._stages()[1] for norm in batch_norms(stage)}
        return [*frozen, *(norm for norm in norms if norm not in trained)]


def check_dropout(dropout: float) -> None:
    """Raise InputError unless 0 <= dropout < 1."""
    if not 0 <= dropout < 1:
        raise InputError(f"dropout must lie in 0 <= dropout < 1, got {dropout}.")


def fold_segments(clips: Tensor) -> Tensor:
    """(N, C, T, H, W) as it is, (N, S, C, T, H, W) -> (N*S, C, T, H, W), N by N."""
    return clips.flatten(0, 1) if clips.ndim == 6 else clips
