"""Flow in both directions, and where the two agree: elsewhere a pixel is hidden or misjudged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError
from dualstream.flow.compute import FlowOptions, flow_both_ways
from dualstream.flow.images import one_opencv_thread
from dualstream.types import Flow, Frames

RELATIVE_TOLERANCE = 0.01
"""Share of the squared lengths of both vectors that the squared error may reach."""

ABSOLUTE_TOLERANCE_PX2 = 0.5
"""Square pixels that the squared error may reach besides."""


@dataclass(frozen=True, eq=False)
class BidirectionalFlow:
    """Forward and backward flow of the same frames, and how well they agree."""

    forward: Flow
    """Field t leads from frame t to t + 1."""
    backward: Flow
    """Field t leads from frame t + 1 to t."""
    error_px: NDArray[np.float32]
    """(T-1, H, W) distance from each pixel of frame t to where forward and then backward flow
    bring it. Where the forward flow leaves the image, the backward flow is read at its border."""
    consistent: NDArray[np.bool_]
    """(T-1, H, W) whether that distance is small and the way does not leave the image."""

    def __post_init__(self) -> None:
        shape = self.forward.data.shape
        if self.backward.data.shape != shape:
            raise ShapeError(
                f"Forward and backward flow must have one shape, got {shape} and "
                f"{self.backward.data.shape}."
            )
        for name in ("error_px", "consistent"):
            found, expected = getattr(self, name).shape, (shape[0], *shape[2:])
            if found != expected:
                raise ShapeError(f"BidirectionalFlow.{name} must be {expected}, got {found}.")


def bidirectional_flow(frames: Frames, **options: Unpack[FlowOptions]) -> BidirectionalFlow:
    """Flow forward and backward, (T-1) fields each, with the pixels on which the two agree.

    Arguments and errors are those of `optical_flow`; see `check_consistency`.
    """
    return check_consistency(*flow_both_ways(frames, **options))


def check_consistency(forward: Flow, backward: Flow) -> BidirectionalFlow:
    """Compare forward and backward flow of the same frames.

    With forward flow f and backward flow b, a pixel x is consistent if it stays in the image and

        |f(x) + b(x + f(x))|^2 < 0.01 (|f(x)|^2 + |b(x + f(x))|^2) + 0.5

    where b is read bilinearly. The image ends half a pixel beyond its outer pixels' middles.

    Args:
        forward: field t leads from frame t to t + 1.
        backward: field t leads from frame t + 1 to t; of the same shape.

    Returns:
        Both with their error. Mirroring or transposing both fields does the same to the result.

    Raises:
        ShapeError: the two differ in shape.
        InputError: a NaN or an infinity in one of them.

    Source:
        Sundaram, Brox & Keutzer 2010, "Dense Point Trajectories by GPU-accelerated Large
        Displacement Optical Flow", whose two tolerances these are.
    """
    height, width = forward.size
    error_px = np.empty((len(forward), height, width), np.float32)
    consistent = np.empty(error_px.shape, np.bool_)
    result = BidirectionalFlow(forward, backward, error_px, consistent)
    for name, flow in (("Forward", forward), ("Backward", backward)):
        if not np.isfinite(flow.data).all():
            raise InputError(f"{name} flow of {flow.source or 'memory'} holds a NaN or infinity.")
    for t, (there, back) in enumerate(zip(forward.data, backward.data, strict=True)):
        x = np.arange(width, dtype=np.float32) + there[0]
        y = np.arange(height, dtype=np.float32)[:, None] + there[1]
        is_inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        # Without the cut, far places would overflow the integers that OpenCV splits them into.
        x, y = x.clip(0, width - 1), y.clip(0, height - 1)
        with one_opencv_thread():
            returned = np.stack([cv2.remap(plane, x, y, cv2.INTER_LINEAR) for plane in back])
        squared = np.square(there + returned).sum(0)
        lengths = np.square(there).sum(0) + np.square(returned).sum(0)
        error_px[t] = np.sqrt(squared)
        allowed = RELATIVE_TOLERANCE * lengths + ABSOLUTE_TOLERANCE_PX2
        consistent[t] = is_inside & (squared < allowed)
    return result
