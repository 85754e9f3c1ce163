"""Shape of the clips that a network takes as one of its inputs, and its check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualstream.errors import ShapeError, check_least
from dualstream.models.layers.conv import Triple


@dataclass(frozen=True)
class Accepts:
    """Shape of clips that a network takes as one of its inputs."""

    channels: int
    """C of one time step: 3 for RGB and RGB difference, 2 for optical flow."""
    length: int | None = None
    """T that is demanded; None takes any from `smallest` on."""
    smallest: Triple = (1, 1, 1)
    """Least T, H and W that every layer has an output for."""
    side: int | None = None
    """H = W in pixels that is demanded, as fully connected layers do; None takes any."""

    def __post_init__(self) -> None:
        given = {"in_channels": self.channels, "length": self.length, "image_size": self.side}
        check_least(1, **{name: value for name, value in given.items() if value is not None})

    def nearest(self, wanted: Triple) -> Triple:
        """T, H, W of a clip that is taken, as near to `wanted` as may be."""
        time, height, width = (max(a, b) for a, b in zip(wanted, self.smallest, strict=True))
        return self.length or time, self.side or height, self.side or width

    def check(self, shape: Sequence[int], *, name: str) -> None:
        """Raise ShapeError unless clips of a shape are taken.

        Args:
            shape: (N, C, T, H, W), or (N, S, C, T, H, W) with S segments.
            name: of the network, for the message.
        """
        if (
            len(shape) not in (5, 6)
            or shape[-4] != self.channels
            or self.length not in (None, shape[-3])
            or 0 in shape
        ):
            demanded = "" if self.length is None else f" and T = {self.length}"
            raise ShapeError(
                f"Input of {name} must be (N, C, T, H, W) or (N, S, C, T, H, W) with "
                f"C = {self.channels}{demanded}, got {tuple(shape)}."
            )
        time, height, width = shape[-3:]
        if self.side is not None and (height, width) != (self.side, self.side):
            raise ShapeError(
                f"{name} was made for images of {self.side} x {self.side}, got {height} x "
                f"{width}. Give it images of that size, or make it for another one "
                "(`dualstream models` shows the options: image_size or backbone)."
            )
        least = self.nearest((1, 1, 1))
        if any(found < wanted for found, wanted in zip(shape[-3:], least, strict=True)):
            raise ShapeError(
                f"{name} needs clips of at least {' x '.join(map(str, least))} (frames x height x "
                f"width), got {time} x {height} x {width}."
            )
