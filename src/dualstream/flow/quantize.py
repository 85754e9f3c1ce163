"""Optical flow as bytes, in this package's mapping and in denseflow's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError
from dualstream.types import Flow

ZERO_BYTE = 128
"""The byte of no motion."""


def quantize(flow: NDArray[np.float32], *, bound_px: float = 20.0) -> NDArray[np.uint8]:
    """Encode optical flow as bytes: round(d * 127.5 / bound_px) + 128, clipped to 0..255.

    No motion is exactly 128, and a flip (d -> -d) turns byte b into 256 - b. Inside the bound
    `dequantize` is off by at most half a step, bound_px / 255 (0.08 px at the default); a
    displacement in the last half step below +bound_px is off by up to a whole one.

    Args:
        flow: (..., 2, H, W) displacement in pixels of this grid; channel 0 is x (right is +),
            1 is y (down is +).
        bound_px: largest displacement kept, above 0.

    Returns:
        (..., 2, H, W) bytes.

    Raises:
        ShapeError: `flow` has another shape.
        InputError: `flow` holds a NaN or infinity, or the bound is not above 0.

    Source:
        Simonyan & Zisserman 2014, section 5 (flow stored as JPEG); the bound of 20 px from
        the I3D release notes.
    """
    _check(flow, bound_px)
    scaled = flow * np.float32(127.5 / bound_px)
    np.rint(scaled, out=scaled)
    scaled += np.float32(ZERO_BYTE)
    np.clip(scaled, 0, 255, out=scaled)
    return scaled.astype(np.uint8)


def dequantize(data: NDArray[np.uint8], *, bound_px: float = 20.0) -> NDArray[np.float32]:
    """Bytes of `quantize` -> displacement in pixels: (b - 128) * bound_px / 127.5.

    Args:
        data: bytes of any shape.
        bound_px: the bound they were written with, above 0.

    Returns:
        float32 of the same shape; -1.004 * bound_px for byte 0.

    Raises:
        ShapeError: `data` does not hold bytes.
        InputError: the bound is not above 0.
    """
    if data.dtype != np.uint8:
        raise ShapeError(f"Quantised flow is uint8, got {data.dtype}.")
    check_bound(bound_px)
    return (data.astype(np.float32) - np.float32(ZERO_BYTE)) * np.float32(bound_px / 127.5)


def pixels(flow: Flow) -> NDArray[np.float32]:
    """Displacements (T-1, 2, H, W) in pixels, whether `flow` holds pixels or bytes."""
    if flow.bound_px is None:
        return flow.data.astype(np.float32, copy=False)
    return dequantize(flow.data.astype(np.uint8, copy=False), bound_px=flow.bound_px)


def encoded(flow: Flow, *, bound_px: float = 20.0) -> NDArray[np.uint8]:
    """Bytes (T-1, 2, H, W) of `flow` in the mapping of `quantize` with `bound_px`.

    Bytes of that bound are returned as they are, those of another are mapped again.

    Raises:
        InputError: the flow holds a NaN or infinity, or the bound is not above 0.
    """
    if flow.bound_px == bound_px:
        return flow.data.astype(np.uint8, copy=False)
    return quantize(pixels(flow), bound_px=bound_px)


def quantize_denseflow(flow: NDArray[np.float32], *, bound_px: float = 20.0) -> NDArray[np.uint8]:
    """Encode flow as denseflow and MMAction2 do: round((d + bound) * 255 / (2 * bound)).

    Halves go to the even neighbour, as OpenCV's `cvRound` does, so that no motion is 128.
    Shapes, units and errors are those of `quantize`.

    Source:
        open-mmlab/denseflow, `convertFlowToImage`.
    """
    _check(flow, bound_px)
    scaled = (flow.astype(np.float64) + bound_px) * (255 / (2 * bound_px))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def from_denseflow(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bytes of denseflow's mapping -> bytes of `quantize`'s, for the same bound.

    denseflow's byte b covers the displacements of our steps b - 128 to b - 127. The one nearer
    to no motion is taken, so that static pixels are exactly 128 and a flip stays a flip:
    128 -> 128, 129 -> 129, 127 -> 128, 126 -> 127.
    """
    return data + (data < ZERO_BYTE).astype(np.uint8)


def _check(flow: NDArray[np.float32], bound_px: float) -> None:
    if flow.ndim < 3 or flow.shape[-3] != 2 or not np.issubdtype(flow.dtype, np.floating):
        raise ShapeError(f"Flow must be (..., 2, H, W) float, got {flow.shape} {flow.dtype}.")
    check_bound(bound_px)
    if not np.isfinite(flow).all():
        bad = np.argwhere(~np.isfinite(flow))[0]
        raise InputError(f"Flow holds a NaN or an infinity at {tuple(int(i) for i in bad)}.")


def check_bound(bound_px: float) -> None:
    """Raise InputError unless a bound is above 0 and finite."""
    if not 0 < bound_px < float("inf"):
        raise InputError(f"bound_px must be above 0 and finite, got {bound_px}.")
