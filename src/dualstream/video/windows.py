"""A stream of (image, seconds) pairs, resampled in time and gathered into `Frames`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from dualstream.types import Frames
from dualstream.video.times import CLOCK_ROUNDING_SECONDS, num_samples

TimedImage = tuple[NDArray[np.uint8], float]
"""(H, W, 3) RGB bytes and the time in seconds from which they are shown."""


def resample(frames: Iterable[TimedImage], fps: float) -> Iterator[TimedImage]:
    """The same choice as `frame_indices_at_rate`, made while frames pass by in rising order.

    Yields:
        (image on display, time of the sample).
    """
    sample = count = 0
    start = last = 0.0
    held: NDArray[np.uint8] | None = None
    for image, seconds in frames:
        if held is None:
            start = seconds
        else:
            while sample / fps + CLOCK_ROUNDING_SECONDS < seconds - start:
                yield held, start + sample / fps
                sample += 1
        held, last, count = image, seconds, count + 1
    if held is not None:
        for number in range(sample, num_samples(last - start, count, fps)):
            yield held, start + number / fps


def cut_windows(
    frames: Iterable[TimedImage], *, length: int, step: int, source: str
) -> Iterator[Frames]:
    """Gather runs of frames, holding no more than one run at a time; see `VideoReader.windows`.

    5 frames, length 3, step 2 -> (0, 1, 2), (2, 3, 4); 6 frames -> also (4, 5).
    """
    held: deque[TimedImage] = deque()
    skip = fresh = 0
    for frame in frames:
        if skip:
            skip -= 1
            continue
        held.append(frame)
        fresh += 1
        if len(held) == length:
            yield _join(held, source)
            fresh = 0
            skip = max(0, step - length)
            for _ in range(min(step, length)):
                held.popleft()
    if fresh:
        yield _join(held, source)


def _join(frames: Iterable[TimedImage], source: str) -> Frames:
    images, seconds = zip(*frames, strict=True)
    return Frames(np.stack(images), np.asarray(seconds, np.float64), source)


def collect(frames: Iterable[TimedImage], *, expected: int, source: str) -> Frames:
    """Gather all frames, at least one, into one array, without holding every image twice.

    `expected` is their likely number, 0 where unknown; it costs memory only where wrong.
    """
    images: NDArray[np.uint8] | None = None
    seconds: list[float] = []
    for image, time in frames:
        if images is None:
            # A header may claim anything, so what it expects is only believed in parts.
            images = np.empty((min(max(expected, 1), 1024), *image.shape), np.uint8)
        elif len(seconds) == len(images):
            images = np.concatenate([images, np.empty_like(images)])
        images[len(seconds)] = image
        seconds.append(time)
    assert images is not None  # `frames` raises where nothing decodes
    return Frames(images[: len(seconds)], np.asarray(seconds, np.float64), source)
