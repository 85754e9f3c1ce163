"""Looks: patterns of colour that leave luminance as it is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import UnknownNameError

HUE_DEGREES = {"checker": 0.0, "dots": 240.0, "rings": 60.0, "stripes": 120.0}
"""Middle of each look's hue: red, blue, yellow, green."""

LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])
"""Luminance of R, G, B (ITU-R BT.601), as H.264 files of small size and cv2.COLOR_RGB2GRAY
have it."""


def hue_without_luma(degrees: float) -> NDArray[np.float64]:
    """(3,) RGB change of luminance 0 towards a hue, the largest of the three 1 in size.

    Red (0 degrees) is (1, -0.4265, -0.4265): (1, 0, 0) less its luminance 0.299, over 0.701.
    """
    sector = (np.array([5.0, 3.0, 1.0]) + degrees / 60) % 6
    pure = 1 - np.clip(np.minimum(sector, 4 - sector), 0, 1)  # R, G, B of the full hue
    change = pure - pure @ LUMA_WEIGHTS
    return np.asarray(change / np.abs(change).max(), np.float64)


def pattern(
    look: str, *, side: int, angle: float, period_px: float, phase: tuple[float, float]
) -> NDArray[np.float64]:
    """Strength of the colour on a square patch; about half of it is 1, the rest 0, edges soft.

    Args:
        look: one of `LOOKS`.
        side: P, pixels.
        angle: turn of checker, stripes and dots, radians.
        period_px: distance of two stripes, rings, rows of dots or of squares of one kind.
        phase: shift of the pattern in periods (the first one only for stripes and rings).

    Returns:
        (P, P), 0..1.

    Raises:
        UnknownNameError: another look.
    """
    x, y = patch_grid(side)
    cos, sin = math.cos(angle), math.sin(angle)
    u = (cos * x + sin * y) / period_px + phase[0]
    v = (cos * y - sin * x) / period_px + phase[1]
    turn = 2 * math.pi
    if look == "checker":
        height = np.sin(turn * u) * np.sin(turn * v)
    elif look == "dots":
        height = 3 * (0.36 - np.hypot(u - np.rint(u), v - np.rint(v)))
    elif look == "rings":
        height = np.sin(turn * (np.hypot(x, y) / period_px + phase[0]))
    elif look == "stripes":
        height = np.sin(turn * u)
    else:
        raise UnknownNameError("look", look, HUE_DEGREES)
    return np.asarray(np.clip(0.5 + 2 * height, 0, 1), np.float64)


def patch_grid(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of each pixel of a (side, side) patch, 0 in its middle."""
    line = np.arange(side) - (side - 1) / 2
    x, y = np.meshgrid(line, line)
    return x, y
