"""Which trajectories are kept, and where they are: the rules of the authors' release."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMALLEST_DEVIATION_PX = 3**0.5
"""A point whose x and y both deviate less from their means stood still."""
LARGEST_DEVIATION_PX = 50.0
"""A point whose x or y deviates more was lost."""
LARGEST_STEP_PX = 20.0
"""A longer step that is most of the way is a jump,"""
LARGEST_STEP_SHARE = 0.7
"""if it is more than this part of the way."""
CAMERA_PX = 1.0
"""A point that moves no more than this in any step, the camera's motion removed, is background."""
LAST_PLACE = 0.999


def is_kept(points: NDArray[np.float32], displacements: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return (N,) whether each track moves by itself and smoothly.

    Args:
        points: (N, L + 1, 2) x and y in pixels of the video.
        displacements: (N, L, 2) without the camera's motion, in the same pixels.

    Source:
        Wang & Schmid 2013, section 2, and IsValid and IsCameraMotion in the authors' Descriptors.h:
        a step above 20 px drops a trajectory only where it is above .7 of its whole length.
    """
    deviation = points.std(axis=1)  # (N, 2)
    steps = _lengths(np.diff(points, axis=1))  # (N, L)
    longest = steps.max(axis=1, initial=0)
    moves = (deviation >= SMALLEST_DEVIATION_PX).any(axis=1)
    is_lost = (deviation > LARGEST_DEVIATION_PX).any(axis=1)
    jumps = (longest > LARGEST_STEP_PX) & (longest > LARGEST_STEP_SHARE * steps.sum(axis=1))
    is_own = _lengths(displacements).max(axis=1, initial=0) > CAMERA_PX
    return np.asarray(moves & ~is_lost & ~jumps & is_own)


def places(
    points: NDArray[np.float32],
    *,
    frame: int,
    scale: float,
    size: tuple[int, int],
    time: float,
) -> NDArray[np.float32]:
    """Return (N, 10), see `Trajectories.place`.

    Args:
        points: (N, L + 1, 2) x and y in pixels of the video.
        frame: number of the frame on which they end.
        scale: side of a pixel of their grid, in pixels of the video.
        size: (H, W) of the video.
        time: middle of their time as part of the video.
    """
    means, deviations = points.mean(axis=1), points.std(axis=1)  # (N, 2) each
    way = _lengths(np.diff(points, axis=1)).sum(axis=1)
    ones = np.ones(len(points))
    parts = means / (size[1], size[0])
    columns = [frame * ones, *means.T, *deviations.T, way, scale * ones, *parts.T, time * ones]
    table = np.stack(columns, axis=1)
    table[:, 7:] = table[:, 7:].clip(0, LAST_PLACE)
    return table.astype(np.float32)


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., 2) -> (...)."""
    return np.hypot(vectors[..., 0], vectors[..., 1])
