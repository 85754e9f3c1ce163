"""Optical flow as colours."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError


def flow_to_rgb(flow: NDArray[np.float32], *, max_px: float | None = None) -> NDArray[np.uint8]:
    """Draw flow with the Middlebury colour wheel: hue is direction, saturation is length.

    Right is red, down is yellow, left is cyan, up is violet; no motion is white.

    Args:
        flow: (..., 2, H, W) pixels.
        max_px: length drawn fully saturated; longer motion is darkened. None takes the longest
            of this array.

    Returns:
        (..., H, W, 3) RGB. Unknown flow (not finite, or 1e9 and more) is black.

    Raises:
        ShapeError: `flow` has another shape.
        InputError: `max_px` is not above 0.

    Source:
        Baker et al. 2007, "A Database and Evaluation Methodology for Optical Flow", figure 4,
        with the wheel of their `colorcode` program.
    """
    if flow.ndim < 3 or flow.shape[-3] != 2:
        raise ShapeError(f"Flow to draw must be (..., 2, H, W), got {flow.shape}.")
    if max_px is not None and not max_px > 0:
        raise InputError(f"max_px must be above 0, got {max_px}.")
    x, y = np.moveaxis(flow.astype(np.float64), -3, 0)
    with np.errstate(invalid="ignore"):
        known = (np.abs(x) < 1e9) & (np.abs(y) < 1e9)
    x, y = np.where(known, x, 0), np.where(known, y, 0)
    length = np.hypot(x, y)
    longest = max_px if max_px is not None else float(length.max(initial=0)) or 1.0
    saturation = (length / longest)[..., None]
    wheel = colour_wheel()
    place = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
    below = place.astype(np.int64)
    above = (below + 1) % len(wheel)
    share = (place - below)[..., None]
    hue = (1 - share) * wheel[below] + share * wheel[above]
    within = saturation <= 1 + 1e-6  # what is exactly max_px long stays within after rounding
    colour = np.where(within, 1 - np.minimum(saturation, 1) * (1 - hue), 0.75 * hue)
    return np.where(known[..., None], np.floor(255 * colour), 0).astype(np.uint8)


@functools.cache
def colour_wheel() -> NDArray[np.float64]:
    """(55, 3) RGB in 0..1: red, yellow, green, cyan, blue, magenta and back.

    The stretches have 15, 6, 4, 11, 13 and 6 steps, so that equal steps look alike; each is in
    whole bytes as in `colorcode`.
    """
    corners = np.array(
        [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0)]
    )
    steps = (15, 6, 4, 11, 13, 6)
    stretches = [
        255 * start + (255 * np.arange(count) // count)[:, None] * (end - start)
        for start, end, count in zip(corners[:-1], corners[1:], steps, strict=True)
    ]
    return np.concatenate(stretches) / 255.0
