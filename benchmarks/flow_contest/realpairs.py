"""Neighbouring frames of real videos, 340x256: what the methods are timed on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.video import VideoReader

HEIGHT, WIDTH = 256, 340


@dataclass(frozen=True, eq=False)
class RealPair:
    """Two frames without known flow."""

    name: str
    first: NDArray[np.uint8]
    """(256, 340, 3) RGB."""
    second: NDArray[np.uint8]
    """(256, 340, 3) RGB."""


def real_pairs(data: Path, *, clip_pairs: int = 30, jhmdb_pairs: int = 10) -> Iterator[RealPair]:
    """Frames t and t + 1 at evenly spread times; the same files give the same pairs.

    Args:
        data: folder with `clips/` and `jhmdb/videos/<class>/`; what is missing gives no pairs.
        clip_pairs: pairs in all from `clips`, the same number from each file.
        jhmdb_pairs: pairs from J-HMDB, one from the middle of every so many-th file.
    """
    clips = [p for p in sorted(data.glob("clips/*")) if p.suffix in (".avi", ".mp4")]
    for path in clips:
        yield from _pairs_of(path, max(1, clip_pairs // len(clips)))
    files = sorted(data.glob("jhmdb/videos/*/*.mp4"))
    for number in evenly_spread(len(files), jhmdb_pairs):
        yield from _pairs_of(files[number], 1)


def evenly_spread(available: int, count: int) -> list[int]:
    """Middles of `count` equal parts: (10, 2) -> [2, 7]; (3, 5) -> [0, 1, 2]."""
    count = min(available, count)
    return [int((k + 0.5) * available / count) for k in range(count)]


def resized(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) -> (256, 340, 3), whatever the shape was."""
    shrinks = frame.shape[0] > HEIGHT
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(frame, (WIDTH, HEIGHT), interpolation=how)  # type: ignore[return-value]


def _pairs_of(path: Path, count: int) -> Iterator[RealPair]:
    with VideoReader(path) as reader:
        for index in evenly_spread(reader.num_frames - 1, count):
            first, second = (resized(frame) for frame in reader.read([index, index + 1]).data)
            yield RealPair(f"{path.stem}-{index}", first, second)
