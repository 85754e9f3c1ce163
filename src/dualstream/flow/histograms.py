"""Histograms of flow (HOF) and of motion boundaries (MBH): a window's motion in few numbers.

Both say how much moves which way in each cell of a coarse grid over the window. Nothing of them is
trained, so they describe motion where there is no trained flow stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, check_least, check_shape
from dualstream.flow.images import one_opencv_thread


@dataclass(frozen=True, kw_only=True)
class HistogramGrid:
    """Directions and cells of the histograms of a window."""

    bins: int = 8
    """Directions. Bin b is centred at b / bins of a turn: 0 right, bins / 4 down."""
    times: int = 1
    """Equal parts of the window in time."""
    rows: int = 2
    """Equal parts of its height."""
    columns: int = 2
    """Equal parts of its width."""
    still_px: float = 0.4
    """Displacement up to which a pixel counts as still in a histogram of flow."""

    def __post_init__(self) -> None:
        check_least(1, bins=self.bins, times=self.times, rows=self.rows, columns=self.columns)
        check_least(0, still_px=self.still_px)

    @property
    def cells(self) -> tuple[int, int, int]:
        """(times, rows, columns)."""
        return self.times, self.rows, self.columns


def flow_histogram(
    fields: NDArray[np.float32], grid: HistogramGrid | None = None
) -> NDArray[np.float32]:
    """Return the histogram of flow (HOF) in each cell of a window.

    A pixel that moves adds its displacement to the two bins nearest to its direction, the more to
    the nearer one. One that stands still adds 1 to the last bin. Values are means over the pixels
    of the cell: where all of it moves right by 2 px, bin 0 is 2 and all else is 0.

    Args:
        fields: (T, 2, H, W) flow in pixels, x right and y down.
        grid: None takes the defaults.

    Returns:
        (times, rows, columns, bins + 1).

    Raises:
        ShapeError: fields of another shape or type.
        InputError: fewer fields, rows or columns of pixels than the grid has cells.

    Source:
        Laptev et al. 2008, section 3.2 (HOF), with the bin for no motion and the soft choice of
        bins of Wang & Schmid 2013, section 4.1.
    """
    grid = grid or HistogramGrid()
    owner, counts = _owners(fields, grid)
    found = np.zeros((counts.size, grid.bins + 1), np.float64)
    with one_opencv_thread():
        for field, time in zip(fields, _parts(len(fields), grid.times), strict=True):
            cells = owner + time * grid.rows * grid.columns
            magnitude, angle = cv2.cartToPolar(field[0], field[1])
            still = magnitude <= grid.still_px
            found[:, -1] += np.bincount(cells[still], minlength=counts.size)
            magnitude[still] = 0
            found[:, :-1] += _directions(magnitude, angle, cells, counts.size, grid.bins)
    return (found / counts[:, None]).reshape(*grid.cells, -1).astype(np.float32)


def boundary_histogram(
    fields: NDArray[np.float32], grid: HistogramGrid | None = None
) -> NDArray[np.float32]:
    """Return the histograms of motion boundaries (MBH) in each cell of a window.

    They are of the gradients over the picture of the flow's x and of its y, so motion that is the
    same everywhere, as a turning camera makes it, leaves nothing. Values are means over the pixels
    of the cell, in pixels of flow a pixel of the picture.

    Args:
        fields: as of `flow_histogram`, whose errors are raised too.
        grid: as of `flow_histogram`.

    Returns:
        (times, rows, columns, 2, bins): of x, of y.

    Source:
        Dalal, Triggs & Schmid 2006, section 5 (MBH); Wang & Schmid 2013 for the grid of cells.
    """
    grid = grid or HistogramGrid()
    owner, counts = _owners(fields, grid)
    found = np.zeros((2, counts.size, grid.bins), np.float64)
    with one_opencv_thread():
        for field, time in zip(fields, _parts(len(fields), grid.times), strict=True):
            cells = owner + time * grid.rows * grid.columns
            for histogram, component in zip(found, field, strict=True):
                # ksize=1 is the central difference, (next - previous) / 2 with this scale.
                gradients = (
                    cv2.Sobel(component, cv2.CV_32F, dx, 1 - dx, ksize=1, scale=0.5)
                    for dx in (1, 0)
                )
                magnitude, angle = cv2.cartToPolar(*gradients)
                histogram += _directions(magnitude, angle, cells, counts.size, grid.bins)
    means = found / counts[None, :, None]  # (2, cells, bins)
    return means.swapaxes(0, 1).reshape(*grid.cells, 2, -1).astype(np.float32)


def root_normalized(histograms: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the square roots of histograms scaled to sum 1, each row by itself; zeros stay zeros.

    Euclidean distances of the results are Hellinger distances of the histograms.

    Args:
        histograms: (N, D), none below 0.

    Raises:
        ShapeError: not (N, D).

    Source:
        Arandjelovic & Zisserman 2012 (RootSIFT); Wang & Schmid 2013, section 4.2, for HOF and MBH.
    """
    check_shape("histograms", histograms, ("N", "D"))
    sums = histograms.sum(axis=1, keepdims=True)
    roots: NDArray[np.float32] = np.sqrt(histograms / np.where(sums > 0, sums, 1)).astype(
        np.float32
    )
    return roots


def _owners(
    fields: NDArray[np.float32], grid: HistogramGrid
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cell (row and column) of each pixel (H, W), and the pixels of all (times x ...) cells."""
    check_shape("fields", fields, ("T", 2, "H", "W"), "float32")
    length, _, height, width = fields.shape
    if length < grid.times or height < grid.rows or width < grid.columns:
        raise InputError(
            f"{length} fields of {height}x{width} px are too few for a grid of {grid.times} x "
            f"{grid.rows} x {grid.columns} cells: take fewer cells."
        )
    rows, columns = _parts(height, grid.rows), _parts(width, grid.columns)
    owner = rows[:, None] * grid.columns + columns[None, :]
    pixels = np.bincount(owner.ravel(), minlength=grid.rows * grid.columns)
    fields_of_part = np.bincount(_parts(length, grid.times), minlength=grid.times)
    return owner, np.outer(fields_of_part, pixels).ravel()


def _parts(length: int, count: int) -> NDArray[np.int64]:
    """Which of `count` equal parts each place lies in: (5, 2) -> 0 0 0 1 1."""
    return np.arange(length) * count // length


def _directions(
    magnitude: NDArray[np.float32],
    angle: NDArray[np.float32],
    cells: NDArray[np.int64],
    num_cells: int,
    bins: int,
) -> NDArray[np.float64]:
    """Sum of (H, W) magnitudes in each cell and direction: (num_cells, bins)."""
    place = angle * (bins / (2 * np.pi))  # in bins, 0..bins
    low = place.astype(np.int64)
    share = (place - low) * magnitude  # of the next bin
    first = cells * bins
    total = np.bincount((first + low % bins).ravel(), (magnitude - share).ravel(), num_cells * bins)
    total += np.bincount((first + (low + 1) % bins).ravel(), share.ravel(), num_cells * bins)
    return np.asarray(total, np.float64).reshape(num_cells, bins)
