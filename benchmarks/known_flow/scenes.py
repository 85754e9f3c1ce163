"""Scenes of textured layers in motion, rendered by supersampling, with their exact flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from .textures import Texture

SAMPLES = 4
"""Samples along each side of a pixel: a pixel is the mean of 16 points of the scene."""

_INVERSION_STEPS = 60


class Motion(Protocol):
    """A smooth one-to-one map of the plane: where the points of frame 1 are in frame 2."""

    def forward(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, H, W) pixels of frame 1 -> their places in frame 2."""

    def backward(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, H, W) pixels of frame 2 -> where they were in frame 1."""


@dataclass(frozen=True, eq=False)
class Affine:
    """x -> centre + matrix (x - centre) + shift."""

    matrix: NDArray[np.float64]
    """(2, 2), invertible."""
    centre_px: tuple[float, float] = (0.0, 0.0)
    shift_px: tuple[float, float] = (0.0, 0.0)

    def forward(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        centre, shift = _column(self.centre_px), _column(self.shift_px)
        return np.einsum("ij,jhw->ihw", self.matrix, points - centre) + centre + shift

    def backward(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        centre, shift = _column(self.centre_px), _column(self.shift_px)
        inverse = np.linalg.inv(self.matrix)
        return np.einsum("ij,jhw->ihw", inverse, points - centre - shift) + centre


@dataclass(frozen=True, eq=False)
class Waves:
    """A sum of plane waves: backward(y) = y - shift - sum of amplitude * sin(wave . y + phase).

    `backward` is closed; `forward` inverts it by iteration, which the bound on the slopes makes
    shrink the error by half a step at least.
    """

    amplitudes_px: NDArray[np.float64]
    """(K, 2)."""
    waves: NDArray[np.float64]
    """(K, 2) radians a pixel."""
    phases: NDArray[np.float64]
    """(K,) radians."""
    shift_px: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        slopes = np.linalg.norm(self.amplitudes_px, axis=1) * np.linalg.norm(self.waves, axis=1)
        if slopes.sum() > 0.5:
            raise ValueError(f"The slopes of the waves sum to {slopes.sum():.2f}, above 0.5.")

    def forward(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        found = points
        for _ in range(_INVERSION_STEPS):
            found = points + self._displacement(found)
        return found

    def backward(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return points - self._displacement(points)

    def _displacement(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.empty_like(points)
        total[:] = _column(self.shift_px)
        for amplitude, wave, phase in zip(self.amplitudes_px, self.waves, self.phases, strict=True):
            total += _column(amplitude) * np.sin(wave[0] * points[0] + wave[1] * points[1] + phase)
        return total


@dataclass(frozen=True, eq=False)
class Blob:
    """A round shape with a wavy edge: radius * (1 + sum of amplitude cos(n angle + phase))."""

    centre_px: tuple[float, float]
    radius_px: float
    amplitudes: NDArray[np.float64]
    """(n,) of the waves 2, 3, ... around the edge, relative to the radius."""
    phases: NDArray[np.float64]
    """(n,)"""

    def covers(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(2, H, W) points -> (H, W), whether they lie inside."""
        x, y = points - _column(self.centre_px)
        angle = np.arctan2(y, x)
        edge = np.ones_like(x)
        for n, (amplitude, phase) in enumerate(zip(self.amplitudes, self.phases, strict=True), 2):
            edge += amplitude * np.cos(n * angle + phase)
        return np.hypot(x, y) < self.radius_px * edge


@dataclass(frozen=True, eq=False)
class Layer:
    """One thing in the scene, placed as it is in frame 1."""

    texture: Texture
    motion: Motion
    shape: Blob | None = None
    """None covers everything (the background)."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Layers from the background to the front."""

    layers: tuple[Layer, ...]
    height: int
    width: int

    def __post_init__(self) -> None:
        if not self.layers or self.layers[0].shape is not None:
            raise ValueError("The first layer of a scene must be a background (shape None).")

    def first(self, *, blur_px: float = 0.0) -> NDArray[np.float32]:
        """(H, W, 3) RGB 0..255 of frame 1, blurred by a Gaussian before pixels are formed."""
        return self._render(moved=False, blur_px=blur_px)

    def second(self, *, blur_px: float = 0.0) -> NDArray[np.float32]:
        """(H, W, 3) RGB 0..255 of frame 2, blurred by a Gaussian before pixels are formed."""
        return self._render(moved=True, blur_px=blur_px)

    def flow(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Displacement of the layer in front at each pixel's centre, and where it can be seen.

        Returns:
            (2, H, W) pixels, and (H, W): True where the point stays inside the image (between the
            centres of its outer pixels) and no other layer hides it in frame 2.
        """
        centres = pixel_centres(self.height, self.width)
        owner = self._front(centres, moved=False)
        target = np.empty_like(centres)
        for number, layer in enumerate(self.layers):
            target = np.where(owner == number, layer.motion.forward(centres), target)
        inside = (target >= 0).all(axis=0)
        inside &= (target[0] <= self.width - 1) & (target[1] <= self.height - 1)
        visible = inside & (self._front(target, moved=True) == owner)
        return (target - centres).astype(np.float32), visible

    def _front(self, points: NDArray[np.float64], *, moved: bool) -> NDArray[np.int64]:
        """(H, W) number of the layer in front at each point of frame 1, or of frame 2."""
        owner = np.zeros(points.shape[1:], np.int64)
        for number, layer in enumerate(self.layers):
            if layer.shape is not None:
                origin = layer.motion.backward(points) if moved else points
                owner[layer.shape.covers(origin)] = number
        return owner

    def _render(self, *, moved: bool, blur_px: float) -> NDArray[np.float32]:
        points = pixel_centres(self.height, self.width, samples=SAMPLES)
        picture = np.empty((*points.shape[1:], 3), np.float32)
        for layer in self.layers:
            origin = layer.motion.backward(points) if moved else points
            if layer.shape is None:
                picture[:] = layer.texture.at(origin)
                continue
            covered = layer.shape.covers(origin)
            if covered.any():
                box = _bounds(covered)
                colours = layer.texture.at(origin[:, box[0], box[1]])
                picture[box][covered[box]] = colours[covered[box]]
        if blur_px > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), SAMPLES * blur_px)
        size = (self.width, self.height)
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def pixel_centres(height: int, width: int, *, samples: int = 1) -> NDArray[np.float64]:
    """(2, height * samples, width * samples) x and y of samples spread evenly over each pixel.

    Pixel 0 reaches from -0.5 to 0.5: with 2 samples they lie at -0.25, 0.25, 0.75, 1.25, ...
    """
    x = (np.arange(width * samples) + 0.5) / samples - 0.5
    y = (np.arange(height * samples) + 0.5) / samples - 0.5
    return np.stack(np.meshgrid(x, y))


def _bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _column(pair: tuple[float, float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """(2,) -> (2, 1, 1)"""
    return np.asarray(pair, np.float64).reshape(2, 1, 1)
