"""How good a flow is: against the truth, and against the images where no truth is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LAMBDA = 0.15
"""Weight of the data term for images in 0..255: OpenCV's default."""


def end_point_error_px(
    flow: NDArray[np.float32], truth: NDArray[np.float32], valid: NDArray[np.bool_]
) -> float:
    """Mean length of the difference of two fields (2, H, W) over the valid pixels (H, W).

    Source:
        Otte & Nagel 1994, the "end-point error" of Baker et al. 2007.
    """
    difference = flow.astype(np.float64) - truth
    return float(np.hypot(difference[0], difference[1])[valid].mean())


def warped(
    second: NDArray[np.float64], flow: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The second image fetched back along the flow.

    Args:
        second: (H, W) grey.
        flow: (2, H, W) pixels.

    Returns:
        (H, W) second(x + flow(x)), bilinear, and (H, W) whether that place is inside the image;
        outside it is the nearest edge's value.
    """
    height, width = second.shape
    x = np.arange(width) + flow[0].astype(np.float64)
    y = np.arange(height)[:, None] + flow[1].astype(np.float64)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    along_x, along_y = x - left, y - top
    upper = (1 - along_x) * second[top, left] + along_x * second[top, left + 1]
    lower = (1 - along_x) * second[top + 1, left] + along_x * second[top + 1, left + 1]
    return (1 - along_y) * upper + along_y * lower, inside


def photometric_error(
    first: NDArray[np.uint8], second: NDArray[np.uint8], flow: NDArray[np.float32]
) -> float:
    """Mean of |first(x) - second(x + flow(x))| over the pixels that stay inside, in 0..255.

    Args:
        first: (H, W) grey.
        second: (H, W) grey.
        flow: (2, H, W) pixels.
    """
    difference, inside = _difference(first, second, flow)
    return float(difference[inside].mean())


def tvl1_energy(
    first: NDArray[np.uint8], second: NDArray[np.uint8], flow: NDArray[np.float32]
) -> float:
    """What TV-L1 minimises, per pixel: |grad u| + |grad v| + lambda |first - second warped|.

    Gradients are forward differences, 0 over the last row and column. Where the flow leaves the
    image there is no data term.

    Args:
        first: (H, W) grey.
        second: (H, W) grey.
        flow: (2, H, W) pixels.

    Source:
        Zach, Pock & Bischof 2007, equation 3.
    """
    difference, inside = _difference(first, second, flow)
    along_x, along_y = np.zeros(flow.shape), np.zeros(flow.shape)
    along_x[:, :, :-1] = np.diff(flow, axis=2)
    along_y[:, :-1] = np.diff(flow, axis=1)
    variation = np.hypot(along_x, along_y).sum(axis=0)
    return float((variation + LAMBDA * difference * inside).mean())


def _difference(
    first: NDArray[np.uint8], second: NDArray[np.uint8], flow: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    fetched, inside = warped(second.astype(np.float64), flow)
    return np.abs(first - fetched), inside
