"""Continuous textures for rendered scenes: many octaves of noise, or a frame of a real video."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

TEXELS_PER_PX = 2
"""Texels along one pixel of the rendered image, so that interpolating texels loses no detail."""

_OCTAVES = 7


@dataclass(frozen=True, eq=False)
class Texture:
    """A colour for every point of the plane; beyond its edges it is mirrored."""

    texels: NDArray[np.float32]
    """(h, w, 3) RGB, 0..255, `TEXELS_PER_PX` a pixel."""

    def __post_init__(self) -> None:
        if self.texels.ndim != 3 or self.texels.shape[2] != 3 or self.texels.dtype != np.float32:
            raise ValueError(
                f"Texels must be (h, w, 3) float32, got {self.texels.shape} {self.texels.dtype}."
            )

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Colours at points in pixels, bicubic between texels.

        Not `cv2.remap`, which rounds positions to 1/32 of a texel: a good flow method would then
        be measured by that. Any smooth kernel does, as both images sample the same surface.

        Args:
            points: (2, H, W) x and y.

        Returns:
            (H, W, 3) RGB.
        """
        height, width = self.texels.shape[:2]
        scale = np.array([2 / (width - 1), 2 / (height - 1)]).reshape(2, 1, 1)
        grid = (points * TEXELS_PER_PX * scale - 1).transpose(1, 2, 0)  # (2, H, W) -> (H, W, 2)
        image = torch.from_numpy(self.texels.transpose(2, 0, 1))[None]  # (h, w, 3) -> (1, 3, h, w)
        colours = torch.nn.functional.grid_sample(
            image,
            torch.from_numpy(grid.astype(np.float32))[None],
            mode="bicubic",
            padding_mode="reflection",
            align_corners=True,
        )
        return colours[0].permute(1, 2, 0).numpy()  # (1, 3, H, W) -> (H, W, 3)


def noise_texture(height_px: int, width_px: int, *, rng: np.random.Generator) -> Texture:
    """A few flat colours with soft and sharp borders, under noise of seven octaves.

    The noise is strong in some places and nearly absent in others, as in pictures of rooms and
    streets, so that smooth areas must be filled in from their borders.

    Args:
        height_px: size in pixels of the rendered image.
        width_px: size in pixels of the rendered image.
        rng: everything random comes from here.
    """
    shape = (height_px * TEXELS_PER_PX, width_px * TEXELS_PER_PX)
    colours = rng.uniform(40, 215, (4, 3))
    picture = np.broadcast_to(colours[0], (*shape, 3)).astype(np.float32)
    for colour in colours[1:]:
        region = _octave(shape, cells=int(rng.integers(3, 8)), rng=rng)
        steepness = float(np.exp(rng.uniform(np.log(8), np.log(120))))
        logit = steepness * (region - rng.uniform(0.0, 0.6))
        share = 1 / (1 + np.exp(-np.clip(logit, -30, 30)))
        picture += share[..., None] * (colour.astype(np.float32) - picture)
    detail = np.zeros(shape, np.float32)
    for octave in range(_OCTAVES):
        cells = 5 * 2**octave  # the last: 320 cells, one for about a pixel of 340
        detail += _octave(shape, cells=cells, rng=rng) * np.float32(0.78**octave)
    strength = 4 + 50 * np.clip(_octave(shape, cells=4, rng=rng) + 0.4, 0, 1)
    tint = rng.uniform(0.8, 1.2, 3).astype(np.float32)
    picture += (detail * strength)[..., None].astype(np.float32) * tint
    return Texture(np.clip(picture, 0, 255).astype(np.float32))


def frame_texture(frame: NDArray[np.uint8], *, magnification: float = 1.0) -> Texture:
    """A video frame as texture.

    Args:
        frame: (H, W, 3) RGB.
        magnification: size of the frame's pixels in pixels of the rendered image.
    """
    factor = TEXELS_PER_PX * magnification
    size = (round(frame.shape[1] * factor), round(frame.shape[0] * factor))
    larger = cv2.resize(frame.astype(np.float32), size, interpolation=cv2.INTER_LANCZOS4)
    return Texture(np.clip(larger, 0, 255).astype(np.float32))


def _octave(shape: tuple[int, int], *, cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(h, w) smooth noise about 0, in -1..1 mostly, with `cells` independent values along w."""
    rows = max(2, round(cells * shape[0] / shape[1]))
    grid = rng.uniform(-1, 1, (rows, cells)).astype(np.float32)
    return cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]
