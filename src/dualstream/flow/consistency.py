"""Flow in both directions, and where the two agree: elsewhere a pixel is hidden or misjudged."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError
from dualstream.flow.compute import flow_both_ways
from dualstream.flow.images import one_opencv_thread
from dualstream.flow.methods.params import DEFAULT_METHOD, FlowParams
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
        shape = (len(self.forward), *self.forward.size)
        for name in ("error_px", "consistent"):
            if getattr(self, name).shape != shape:
                raise ShapeError(
                    f"BidirectionalFlow.{name} must be {shape} as the flow is, got "
                    f"{getattr(self, name).shape}."
                )
        if self.backward.data.shape != self.forward.data.shape:
            raise ShapeError(
                f"Backward flow must be {self.forward.data.shape} as the forward flow is, got "
                f"{self.backward.data.shape}."
            )


def bidirectional_flow(
    frames: Frames,
    *,
    method: str = DEFAULT_METHOD,
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
) -> BidirectionalFlow:
    """Flow forward and backward, with the pixels on which the two agree.

    Args:
        frames: T >= 2 frames.
        method: see `optical_flow`, as the other options.
        params: settings of the method.
        device: torch device of methods that use one.
        short_side: size that frames are brought to first; the flow is in pixels of that grid.

    Returns:
        BidirectionalFlow of T-1 fields each way.

    Raises:
        FlowError, InputError, UnknownNameError, WeightsError: as `optical_flow`.

    Source:
        Sundaram, Brox & Keutzer 2010, "Dense Point Trajectories by GPU-accelerated Large
        Displacement Optical Flow" (see `check_consistency`).
    """
    forward, backward = flow_both_ways(
        frames, method=method, params=params, device=device, short_side=short_side
    )
    return check_consistency(forward, backward)


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
        Sundaram, Brox & Keutzer 2010, whose two tolerances these are.
    """
    if forward.data.shape != backward.data.shape:
        raise ShapeError(
            f"Forward and backward flow must have one shape, got {forward.data.shape} and "
            f"{backward.data.shape}."
        )
    for name, flow in (("Forward", forward), ("Backward", backward)):
        if not np.isfinite(flow.data).all():
            raise InputError(f"{name} flow of {flow.source or 'memory'} holds a NaN or infinity.")
    error_px = np.empty((len(forward), *forward.size), np.float32)
    consistent = np.empty(error_px.shape, np.bool_)
    with one_opencv_thread():
        for there, back, error, agrees in zip(
            forward.data, backward.data, error_px, consistent, strict=True
        ):
            returned, is_inside = _read_along(back, there)
            squared = np.square(there + returned).sum(0)
            lengths = np.square(there).sum(0) + np.square(returned).sum(0)
            np.sqrt(squared, out=error)
            agrees[:] = squared < RELATIVE_TOLERANCE * lengths + ABSOLUTE_TOLERANCE_PX2
            agrees &= is_inside
    return BidirectionalFlow(forward, backward, error_px, consistent)


def _read_along(
    field: NDArray[np.float32], displacement: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(2, H, W) field at x + displacement(x), and (H, W) whether that place is in the image."""
    height, width = field.shape[1:]
    x = np.arange(width, dtype=np.float32) + displacement[0]
    y = np.arange(height, dtype=np.float32)[:, None] + displacement[1]
    is_inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    # Without the cut, far places would overflow the integers that OpenCV splits them into.
    np.clip(x, 0, width - 1, out=x)
    np.clip(y, 0, height - 1, out=y)
    planes = [
        cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for plane in field
    ]
    return np.stack(planes), is_inside
