"""Points carried along by flow, as in dense trajectories."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError
from dualstream.flow.images import one_opencv_thread
from dualstream.types import Flow

MEDIAN_SIZES = (1, 3, 5)
"""Sides in pixels of the median filters that float planes can be put through; 1 is none."""

_CORNER_WINDOW_PX = 3


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Paths of N points through L + 1 frames."""

    points: NDArray[np.float32]
    """(N, L+1, 2) x and y in pixels of the flow's grid. A point that has left the image stays
    at the place outside that it left to."""
    alive: NDArray[np.bool_]
    """(N, L+1) whether the point is in the image; once False, it stays so."""

    def __post_init__(self) -> None:
        if self.points.ndim != 3 or self.points.shape[2] != 2:
            raise ShapeError(f"Trajectories.points must be (N, L+1, 2), got {self.points.shape}.")
        if self.alive.shape != self.points.shape[:2]:
            raise ShapeError(
                f"Trajectories.alive must be {self.points.shape[:2]} as points are, got "
                f"{self.alive.shape}."
            )

    def __len__(self) -> int:
        return len(self.points)


def sample(flow_field: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Read one flow field bilinearly at points between its pixels.

    Args:
        flow_field: (2, H, W) pixels; or any other (C, H, W) planes.
        points: (N, 2) x and y, where (0, 0) is the middle of the first pixel. Points outside
            the image read its border.

    Returns:
        (N, 2), or (N, C): exactly the pixel's own value at whole numbers.

    Raises:
        ShapeError: another shape, or no pixel.
        InputError: a point that is NaN or infinite.
    """
    if flow_field.ndim != 3 or not flow_field.size:
        raise ShapeError(f"flow_field must be (2, H, W), got {flow_field.shape}.")
    _check_points("points", points)
    height, width = flow_field.shape[1:]
    x = np.clip(points[:, 0].astype(np.float64), 0, width - 1)
    y = np.clip(points[:, 1].astype(np.float64), 0, height - 1)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    along_x, along_y = x - left, y - top
    above = (1 - along_x) * flow_field[:, top, left] + along_x * flow_field[:, top, right]
    below = (1 - along_x) * flow_field[:, bottom, left] + along_x * flow_field[:, bottom, right]
    return ((1 - along_y) * above + along_y * below).T.astype(np.float32)  # (C, N) -> (N, C)


def follow(
    flow: Flow, starts: NDArray[np.float32], *, length: int = 15, median_size: int = 3
) -> Trajectories:
    """Carry points along through the first `length` fields: p(t+1) = p(t) + M[d(t)](p(t)).

    M is a median filter of the field, which keeps the edges of motion sharp where bilinear
    reading alone mixes the two sides.

    Args:
        flow: at least `length` fields (forward flow).
        starts: (N, 2) x and y in the first frame.
        length: L, steps to take.
        median_size: side of M in pixels: 1 (no filter), 3 or 5.

    Returns:
        Trajectories of L + 1 points each. A point outside the image (more than half a pixel
        beyond the middle of an outer pixel) is not carried on.

    Raises:
        ShapeError: `starts` is not (N, 2).
        InputError: `length` below 1 or above the number of fields, another median size, or a
            NaN or infinity in the starts or in the flow.

    Source:
        Wang, Klaser, Schmid & Liu 2011, "Action Recognition by Dense Trajectories",
        with their length of 15 and filter of 3x3; read bilinearly instead of at the nearest
        pixel.
    """
    if not 1 <= length <= len(flow):
        raise InputError(
            f"length must lie in 1..{len(flow)}, the fields of {flow.source or 'this flow'}; got "
            f"{length}."
        )
    if median_size not in MEDIAN_SIZES:
        raise InputError(f"median_size must be 1, 3 or 5, got {median_size}.")
    if not np.isfinite(flow.data[:length]).all():
        raise InputError(f"Flow of {flow.source or 'memory'} holds a NaN or an infinity.")
    _check_points("starts", starts)
    points = np.empty((len(starts), length + 1, 2), np.float32)
    alive = np.empty((len(starts), length + 1), np.bool_)
    points[:, 0] = starts
    alive[:, 0] = _in_image(points[:, 0], flow.size)
    for step in range(length):
        here = points[:, step]
        moved = here + sample(_filtered(flow.data[step], median_size), here)
        points[:, step + 1] = np.where(alive[:, step, None], moved, here)
        alive[:, step + 1] = alive[:, step] & _in_image(points[:, step + 1], flow.size)
    return Trajectories(points, alive)


def dense_starts(
    image: NDArray[np.uint8], *, step_px: int = 5, quality: float = 0.001
) -> NDArray[np.float32]:
    """Points of a regular grid, without those in areas too even to be followed.

    Args:
        image: (H, W) grey or (H, W, 3) RGB bytes.
        step_px: distance of neighbours of the grid; the first is half a step from the border.
        quality: a point is kept where the smaller eigenvalue of the image's autocorrelation
            matrix is above this share of the largest such value in the image; 0 keeps all that
            are not perfectly even.

    Returns:
        (N, 2) x and y, row by row; (0, 2) for a constant image.

    Raises:
        ShapeError: `image` has another shape or type.
        InputError: `step_px` below 1, or `quality` not in 0..1.

    Source:
        Wang, Klaser, Schmid & Liu 2011 and 2013 (step 5, quality 0.001); Shi & Tomasi 1994.
    """
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not is_image or image.dtype != np.uint8 or not image.size:
        raise ShapeError(
            f"image must be (H, W) or (H, W, 3) uint8, got {image.shape} {image.dtype}."
        )
    if step_px < 1:
        raise InputError(f"step_px must be at least 1, got {step_px}.")
    if not 0 <= quality <= 1:
        raise InputError(f"quality must lie in 0..1, got {quality}.")
    with one_opencv_thread():
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
        strength = cv2.cornerMinEigenVal(np.ascontiguousarray(grey), _CORNER_WINDOW_PX)
    rows, columns = (np.arange(step_px // 2, side, step_px) for side in grey.shape)
    is_kept = strength[np.ix_(rows, columns)] > quality * strength.max()
    row, column = np.nonzero(is_kept)
    return np.stack((columns[column], rows[row]), -1).astype(np.float32)


def _check_points(name: str, points: NDArray[np.float32]) -> None:
    if points.ndim != 2 or points.shape[1] != 2:
        raise ShapeError(f"{name} must be (N, 2), got {points.shape}.")
    if not np.isfinite(points).all():
        bad = int(np.argmin(np.isfinite(points).all(1)))
        raise InputError(f"{name} holds a NaN or an infinity at point {bad}.")


def _in_image(points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    limit = np.array([width - 0.5, height - 0.5], np.float32)
    inside = (points >= -0.5) & (points <= limit)
    return inside[:, 0] & inside[:, 1]


def _filtered(field: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if size == 1:
        return field
    with one_opencv_thread():
        planes = [cv2.medianBlur(np.ascontiguousarray(plane), size) for plane in field]
    return np.stack(planes)
