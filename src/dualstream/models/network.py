"""What every network of this package is: input check, classifier, freezing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self, get_args

import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.types import InputSpec

FrozenBatchNorm = Literal["none", "partial", "all"]
"""Which batch norms keep their statistics and are not trained; partial: all but the first."""

Trainable = Literal["all", "last_layer"] | int
"""Which parameters are trained; a number n >= 1: the head and the last n stages."""

ANY_LENGTH = None
"""`length` of a network that takes snippets of any length."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Network(nn.Module):
    """A network from clips to logits.

    Subclasses set `classifier`, the last linear layer, and call `apply_freezing` at the end of
    their `__init__`. Freezing holds through any later call of `train()`.

    Args:
        num_classes: K, at least 1.
        in_channels: C of one time step: 3 for RGB and RGB difference, 2 for optical flow.
        length: T of one snippet; None takes any.
        frozen_batch_norm: which batch norms are frozen.

    Raises:
        InputError: a number is below 1.
        UnknownNameError: `frozen_batch_norm` is none of its choices.
    """

    classifier: nn.Linear
    spec: InputSpec | None
    """Input that the weights were made for; None without weights."""
    classes: tuple[str, ...]
    """Class names of the weights; () without."""
    name: str
    """What `create_model` knows it by; until that sets it, the name of the class."""

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        length: int | None,
        frozen_batch_norm: FrozenBatchNorm = "none",
    ) -> None:
        super().__init__()
        for name, value in (
            ("num_classes", num_classes),
            ("in_channels", in_channels),
            ("length", length),
        ):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}.")
        check_choice("frozen_batch_norm", frozen_batch_norm, FrozenBatchNorm)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.length = length
        self.frozen_batch_norm = frozen_batch_norm
        self.trainable: Trainable = "all"
        self.spec = None
        self.classes = ()
        self.name = type(self).__name__

    def stages(self) -> tuple[nn.Module, ...]:
        """Parts of the network in front of the head, from input to output; () if it has none."""
        return ()

    def head(self) -> tuple[nn.Module, ...]:
        """What is trained where only the last layer is."""
        return (self.classifier,)

    @property
    def joins_segments(self) -> bool:
        """Whether the logits of a video are more than the mean over its segments' logits."""
        return False

    def apply_freezing(self) -> None:
        """Set `requires_grad` of every parameter from `trainable` and `frozen_batch_norm`."""
        self.requires_grad_(self.trainable == "all")
        for module in (*self.head(), *self._trained_stages()):
            module.requires_grad_(True)
        for norm in self._frozen_batch_norms():
            norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but frozen stages and batch norms stay in evaluation mode."""
        super().train(mode)
        for stage in self._frozen_stages():
            stage.eval()
        for norm in self._frozen_batch_norms():
            norm.eval()
        return self

    def _trained_stages(self) -> tuple[nn.Module, ...]:
        return self.stages()[-self.trainable :] if isinstance(self.trainable, int) else ()

    def _frozen_stages(self) -> tuple[nn.Module, ...]:
        if isinstance(self.trainable, int):
            return self.stages()[: -self.trainable]
        return self.stages() if self.trainable == "last_layer" else ()

    def _frozen_batch_norms(self) -> Iterator[nn.Module]:
        norms = batch_norms(self)
        if self.trainable == "last_layer" or self.frozen_batch_norm == "all":
            yield from norms
            return
        if self.frozen_batch_norm == "partial":
            yield from norms[1:]
        if isinstance(self.trainable, int):
            trained = {id(norm) for stage in self._trained_stages() for norm in batch_norms(stage)}
            yield from (norm for norm in norms if id(norm) not in trained)


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """All batch norms inside a module."""
    return [part for part in module.modules() if isinstance(part, BATCH_NORMS)]


def check_dropout(dropout: float) -> None:
    """Raise InputError unless 0 <= dropout < 1."""
    if not 0 <= dropout < 1:
        raise InputError(f"dropout must lie in 0 <= dropout < 1, got {dropout}.")


@contextmanager
def explained_statistics(name: str) -> Iterator[None]:
    """Raise ShapeError where torch's batch norms complain of too few values to train with."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ShapeError(
            f"In training a batch norm of {name} is left with one value a channel, which has no "
            "variance: give it a larger batch, or larger or longer clips."
        ) from error


def check_choice(kind: str, value: object, choices: Any) -> None:
    """Raise UnknownNameError unless `value` is one of the Literal `choices`."""
    if value not in get_args(choices):
        raise UnknownNameError(kind, value, get_args(choices))


def set_trainable(model: Network, which: Trainable) -> None:
    """Choose the parameters that are trained.

    With last_layer everything but the head (the classifier, and a consensus that has parameters)
    is frozen, statistics of batch norms included; one of the settings of Simonyan & Zisserman
    2014 for the spatial stream. With a number, the head and that many last `stages()` are trained.
    Frozen stages stay in evaluation mode, so they drop out nothing.
    Batch norms that the network was made to freeze stay frozen in any case.

    Raises:
        UnknownNameError: `which` is none of the names.
        InputError: a number of stages that the network does not have.
    """
    if isinstance(which, int) and not isinstance(which, bool):
        count = len(model.stages())
        if not 1 <= which <= count:
            raise InputError(
                f"{model.name} has {count} stages to train besides its head, got {which}."
            )
    elif which not in ("all", "last_layer"):
        raise UnknownNameError("trainable part", which, ("all", "last_layer", "a number of stages"))
    model.trainable = which
    model.apply_freezing()


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters as optimiser groups: weights decay, biases and norms do not.

    What has one dimension or none (biases, gains, weights of a linear consensus) is in the
    second group.

    Args:
        weight_decay: decay of the first group, at least 0.

    Returns:
        Groups for a torch optimiser; a group without parameters is left out.

    Source:
        Decay policy of TSN's reference code (`get_optim_policies`: decay 0 for biases and batch
        norms); its doubled learning rate of biases is left out.
    """
    if weight_decay < 0:
        raise InputError(f"weight_decay must be at least 0, got {weight_decay}.")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def split_segments(
    clips: torch.Tensor, *, in_channels: int, length: int | None
) -> tuple[torch.Tensor, int]:
    """Bring both forms of input to one.

    Args:
        clips: (N, C, T, H, W), or (N, S, C, T, H, W) with S segments.
        in_channels: the C that is expected.
        length: the T that is expected; None takes any.

    Returns:
        (N*S, C, T, H, W), segments of a sample next to each other, and S (1 in the first form).

    Raises:
        ShapeError: `clips` has neither form, another C or T, or no sample.
    """
    if (
        clips.ndim not in (5, 6)
        or clips.shape[-4] != in_channels
        or length not in (ANY_LENGTH, clips.shape[-3])
        or not clips.is_floating_point()
        or 0 in clips.shape
    ):
        raise ShapeError(
            f"Input must be (N, C, T, H, W) or (N, S, C, T, H, W) floating point with "
            f"C = {in_channels}{'' if length is None else f' and T = {length}'}, "
            f"got {tuple(clips.shape)} "
            f"{str(clips.dtype).removeprefix('torch.')}."
        )
    if clips.ndim == 5:
        return clips, 1
    return clips.flatten(0, 1), int(clips.shape[1])


def check_image_size(clips: torch.Tensor, image_size: int, *, name: str) -> None:
    """Raise ShapeError where H, W of (N, C, T, H, W) are not those of a network's full layers."""
    height, width = int(clips.shape[-2]), int(clips.shape[-1])
    if (height, width) != (image_size, image_size):
        raise ShapeError(
            f"{name} was made for images of {image_size} x {image_size}, got {height} x {width}; "
            "its full layers fix the size, make it with another image_size."
        )


def join_segments(values: torch.Tensor, *, segments: int) -> torch.Tensor:
    """(N*S, D) -> (N, S, D), the inverse of `split_segments` behind a network."""
    return values.reshape(-1, segments, values.shape[1])


def stack_time(clips: torch.Tensor) -> torch.Tensor:
    """Fold time into channels for a 2D network.

    Two flow fields come out as x1, y1, x2, y2 (Simonyan & Zisserman 2014, equation 1).

    Args:
        clips: (N, C, T, H, W).

    Returns:
        (N, T*C, H, W), the C channels of a time step next to each other.
    """
    return clips.transpose(1, 2).flatten(1, 2)
