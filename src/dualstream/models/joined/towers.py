"""Towers: networks that see one stream each, inside a network that sees them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import zip_longest
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from dualstream.errors import InputError
from dualstream.models.accepts import Accepts
from dualstream.models.create import fixed_options, new_network
from dualstream.models.network import Network, Trainable

Towers = str | Mapping[str, str | Mapping[str, Any]]
"""Name of the network that every stream gets, or stream -> name, or a mapping of `name` and the
network's options. What the streams share (`num_classes`) or decide (`in_channels`, and the length
and the image size that some networks fix) is no option here."""

RGB_AND_FLOW = {"rgb": 3, "flow": 2}
"""C of the two streams of Simonyan & Zisserman 2014."""

_RESERVED = ("fused", "joint")
"""Names of heads that no stream may have."""


class Joined(Network):
    """A network of towers; a subclass joins what they see and defines `outputs`.

    Args:
        num_classes: K.
        towers: stream -> its network.
        inputs: what the streams accept where it is not what their towers do.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        towers: Mapping[str, Network],
        inputs: Mapping[str, Accepts] | None = None,
    ) -> None:
        accepted = {stream: one_input(tower) for stream, tower in towers.items()}
        super().__init__(num_classes=num_classes, inputs={**accepted, **(inputs or {})})
        self.tower = nn.ModuleDict(towers)
        over_time = any(isinstance(part, nn.Conv3d) for part in self.modules())
        self.conv_dims = 3 if over_time else 2

    def towers(self) -> dict[str, Network]:
        return {stream: cast("Network", tower) for stream, tower in self.tower.items()}

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Logits (N, K) of all streams together; input and errors are those of `Network`."""
        return self.outputs(x)[self.heads[0]]

    def encode(self, clips: Any) -> Tensor:
        """Raise InputError: only the towers have vectors of clips."""
        raise InputError(
            f"{self.name} has no vectors of its own: take those of a tower, "
            "model.towers()[stream].embed(clips)."
        )

    def classifiers(self) -> Mapping[str, nn.Linear]:
        """Stream -> the classifier of its tower."""
        return {stream: tower.classifier for stream, tower in self.towers().items()}

    def vectors(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Head -> the vectors that its classifier sees, N by N: (N*S, D), or fewer rows where a
        head sees several segments at once."""
        return seen_by(self.classifiers(), partial(self.outputs, x))

    @property
    def joins_segments(self) -> bool:
        return any(tower.joins_segments for tower in self.towers().values())

    def head(self) -> tuple[nn.Module, ...]:
        """The heads of the towers."""
        return tuple(part for tower in self.towers().values() for part in tower.head())

    def stages(self) -> tuple[nn.Module, ...]:
        """Stages of all towers side by side, counted from their heads."""
        towers = [reversed(tower.stages()) for tower in self.towers().values()]
        rows = [[stage for stage in row if stage is not None] for row in zip_longest(*towers)]
        return tuple(nn.ModuleList(row) for row in reversed(rows))

    def _trainable_of(self, stream: str) -> Trainable:
        """The trained part of a tower: as many stages as were asked for, or as it has."""
        if isinstance(self.trainable, Mapping):
            return self.trainable.get(stream, "all")
        if not isinstance(self.trainable, int):
            return self.trainable
        return min(self.trainable, len(self.towers()[stream].stages())) or "last_layer"

    def apply_freezing(self) -> None:
        """Freeze each tower as `trainable` says; what joins them is always trained."""
        self.requires_grad_(True)
        for stream, tower in self.towers().items():
            tower.trainable = self._trainable_of(stream)
            tower.apply_freezing()
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; each tower keeps what is frozen of it in evaluation mode."""
        return super(Network, self).train(mode)


def seen_by(classifiers: Mapping[str, nn.Linear], run: Callable[[], object]) -> dict[str, Tensor]:
    """Head -> all that its classifier sees while `run` is called, one row after another."""
    found: dict[str, list[Tensor]] = {head: [] for head in classifiers}
    with ExitStack() as hooks:
        for head, classifier in classifiers.items():

            def keep(_module: nn.Module, inputs: tuple[Tensor], head: str = head) -> None:
                found[head].append(inputs[0])

            hooks.enter_context(classifier.register_forward_pre_hook(keep))
        run()
    return {head: torch.cat(rows) for head, rows in found.items()}


def one_input(tower: Network) -> Accepts:
    """What a tower accepts as its one input."""
    (accepts,) = tower.inputs.values()
    return accepts


def make_towers(
    towers: Towers,
    *,
    num_classes: int,
    in_channels: Mapping[str, int],
    length: Mapping[str, int] | None = None,
    image_size: int | None = None,
) -> dict[str, Network]:
    """Return stream -> its network, without weights, in the order of `in_channels`.

    Args:
        towers: see `Towers`.
        in_channels: stream -> C of one time step, of two streams or more.
        length: stream -> T, for the networks that fix it; None leaves them their default.
        image_size: H = W, for the networks that fix it.

    Raises:
        InputError: fewer than two streams, a stream with a name that cannot be one, towers for
            other streams, or options that a tower does not have.
        UnknownNameError: a network, or the value of a choice, is unknown.
    """
    if len(in_channels) < 2:
        raise InputError(
            f"in_channels must name two streams or more, got {', '.join(in_channels) or 'none'}: "
            "a network of one stream is made by its own name."
        )
    for stream in in_channels:
        if stream in _RESERVED or "." in stream or hasattr(nn.ModuleDict, stream):
            raise InputError(f"A stream cannot be named {stream!r}: choose another name.")
    by_stream = dict.fromkeys(in_channels, towers) if isinstance(towers, str) else towers
    if set(by_stream) != set(in_channels):
        raise InputError(
            f"towers are given for {', '.join(by_stream) or 'no stream'}, the streams are "
            f"{', '.join(in_channels)}: give one to each."
        )
    sizes = {"image_size": image_size}
    return {
        stream: make_tower(
            by_stream[stream],
            stream=stream,
            num_classes=num_classes,
            in_channels=channels,
            sizes={**sizes, "length": (length or {}).get(stream)},
        )
        for stream, channels in in_channels.items()
    }


def make_tower(
    tower: str | Mapping[str, Any],
    *,
    stream: str,
    num_classes: int,
    in_channels: int,
    sizes: Mapping[str, int | None],
) -> Network:
    """Return the network of one stream, see `make_towers`.

    Args:
        sizes: length and image_size, for the networks that fix them; None is their default.
    """
    options = {"name": tower} if isinstance(tower, str) else dict(tower)
    if "name" not in options:
        raise InputError(f"The tower of the stream {stream!r} needs the name of a network.")
    name = options.pop("name")
    shared = {"num_classes": num_classes, "in_channels": in_channels}
    if given := sorted(shared.keys() & options.keys()):
        raise InputError(
            f"The tower of the stream {stream!r} has {' and '.join(given)} of the whole network: "
            "leave it out."
        )
    decided = {k: v for k, v in sizes.items() if v is not None and k in fixed_options(name)}
    return new_network(name, **shared, **{**decided, **options})
