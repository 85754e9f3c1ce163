"""Small videos of known motion: a textured square, a background, a camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.types import Frames


def texture(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """(H, W) noise of two sizes, 0..255."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for sigma, weight in ((1.5, 1), (5, 2)):
        noise = cv2.GaussianBlur(rng.normal(size=total.shape).astype(np.float32), (0, 0), sigma)
        total += weight * noise / noise.std()
    return np.asarray(np.clip(total * 22 + 128, 0, 255), np.float32)


def scene(
    num_frames: int,
    *,
    size: tuple[int, int] = (96, 128),
    square: int = 0,
    start: tuple[int, int] = (20, 20),
    motion: tuple[int, int] = (0, 0),
    camera: tuple[int, int] = (0, 0),
    seed: int = 0,
) -> Frames:
    """A square that moves over a background, seen by a camera that moves; x, y in whole pixels."""
    height, width = size
    margin = num_frames * max(map(abs, camera), default=0)
    world = texture(height + 2 * margin, width + 2 * margin, seed)
    front = texture(square, square, seed + 1) if square else world
    images = []
    for t in range(num_frames):
        picture = world.copy()
        if square:
            x, y = (margin + s + t * m for s, m in zip(start, motion, strict=True))
            picture[y : y + square, x : x + square] = front
        x, y = (margin + t * c for c in camera)
        images.append(picture[y : y + height, x : x + width])
    grey = np.stack(images).round().astype(np.uint8)
    return Frames(np.repeat(grey[..., None], 3, axis=3), np.arange(num_frames) / 25)
