"""The record of a flow method: its settings, what it needs, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowError, InputError
from dualstream.flow.images import grey_images
from dualstream.flow.methods.params import Direction, FlowParams
from dualstream.flow.quantize import quantize
from dualstream.types import Flow, Frames

P = TypeVar("P", bound=FlowParams | None)

Fields = NDArray[np.float32 | np.uint8]
"""(T-1, 2, H, W) pixels, or bytes in the mapping of `quantize`."""

FieldPair = tuple[Fields | None, Fields | None]
"""Forward and backward flow; None for what was not asked for."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FlowTask(Generic[P]):
    """Images whose flow is wanted, and how."""

    images: NDArray[np.uint8]
    """(T, H, W, 3) RGB or (T, H, W) grey, of the size that the flow is wanted on. The function of
    a method gets what it sees."""
    params: P
    """As given by `Method.resolve`; of no meaning for a method without settings."""
    device: str = "cpu"
    """One that passes `Method.check_device`."""
    directions: tuple[Direction, ...] = ("forward",)
    """Those that are wanted; each passes `Method.check_direction`."""
    bound_px: float | None = None
    """Bound of the bytes that are wanted; None for pixels. A function may return pixels in any
    case: they are quantised afterwards."""
    mask: NDArray[np.bool_] | None = None
    """(T, H, W) where people are, for warped flow; see `estimate_camera_motion`."""
    pts_seconds: NDArray[np.float64] | None = None
    """(T,) presentation times, for plugins; None counts the images."""
    source: str = ""
    """Name of the video, for errors."""

    @property
    def frames(self) -> Frames:
        """The images, (T, H, W, 3), with their times."""
        times = self.pts_seconds
        if times is None:
            times = np.arange(len(self.images), dtype=np.float64)
        return Frames(self.images, times, self.source)


FlowFunction = Callable[[FlowTask[P]], FieldPair]


@dataclass(frozen=True, eq=False, kw_only=True)
class Method(Generic[P]):
    """A way to compute optical flow, and what holds for it."""

    name: str
    function: FlowFunction[P]
    params: type[P] | None
    """Class of its settings; None for a method that has none."""
    sees: Literal["grey", "rgb"] = "grey"
    """Which images its function gets."""
    on_devices: bool = False
    """Whether torch computes it on a device, besides the CPU."""
    smallest_side_px: int = 1
    """Least height and width of the images."""
    directions: tuple[Direction, ...] = ("forward", "backward")
    read_file: Callable[[str, int, P], Iterator[Flow]] | None = None
    """(video file, fields in a run, settings) -> runs of forward flow, for a method that reads
    flow which the file holds; its function then raises an error."""

    def resolve(self, params: FlowParams | None) -> P | None:
        """`params`, or the defaults for None; InputError if they are those of another method."""
        if self.params is None:
            if params is not None:
                raise InputError(f"Flow method {self.name!r} takes no params.")
            return None
        if params is None:
            return self.params()  # type: ignore[misc]  # P is not None here
        if not isinstance(params, self.params):
            raise InputError(
                f"Flow method {self.name!r} takes {self.params.__name__}, got "
                f"{type(params).__name__}."
            )
        return params

    def check_direction(self, direction: Direction) -> None:
        """Raise InputError if the method does not compute that direction."""
        if direction not in self.directions:
            raise InputError(
                f"Flow method {self.name!r} has the direction 'forward' only, got {direction!r}."
            )

    def check_device(self, device: str) -> None:
        """Raise InputError if the method cannot run on the torch device `device` here."""
        if device == "cpu":
            return
        if not self.on_devices:
            raise InputError(
                f"Flow method {self.name!r} runs on the CPU only, got device {device!r}."
            )
        import torch

        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"Device {device!r} cannot be used here: {reason}") from error

    def compute(self, task: FlowTask[P]) -> FieldPair:
        """Flow of neighbouring images, in one pass for the directions that are wanted.

        A field does not depend on the others. Errors are those of `optical_flow`.
        """
        images, bound_px = task.images, task.bound_px
        if len(images) < 2:
            name = task.source or "the input"
            raise FlowError(f"Optical flow needs at least 2 frames; {name} has {len(images)}.")
        (height, width), smallest = images.shape[1:3], self.smallest_side_px
        if min(height, width) < smallest:
            raise InputError(
                f"Flow method {self.name!r} needs frames of at least {smallest}x{smallest} px, got "
                f"{width}x{height} from {task.source or 'memory'}; pass a larger short_side."
            )
        if self.sees == "grey" and images.ndim == 4:
            images = grey_images(images)
        elif self.sees == "rgb" and images.ndim == 3:
            images = np.repeat(images[..., None], 3, axis=3)

        def as_wanted(fields: Fields | None) -> Fields | None:
            if fields is None or bound_px is None or fields.dtype == np.uint8:
                return fields
            return quantize(fields.astype(np.float32, copy=False), bound_px=bound_px)

        there, back = self.function(replace(task, images=images))
        return as_wanted(there), as_wanted(back)


def of_forward(solve: Callable[[FlowTask[P]], Fields]) -> FlowFunction[P]:
    """Function of a method that computes one direction: backward is forward of reversed images."""

    def function(task: FlowTask[P]) -> FieldPair:
        there = solve(task) if "forward" in task.directions else None
        last_first = replace(task, images=task.images[::-1])
        back = solve(last_first)[::-1] if "backward" in task.directions else None
        return there, back

    return function
