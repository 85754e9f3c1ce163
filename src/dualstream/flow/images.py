"""Frames as the flow methods read them: of the wanted size, and grey."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import check_least


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to the calling thread inside the block: pairs run side by side, not split up."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def resized_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(H, W) after the short side becomes `short_side`; the long side is rounded half up.

    240x320 at 256 gives 256x341 (341.33); None keeps the size.
    """
    if short_side is None:
        return height, width
    check_least(1, short_side=short_side)
    short, long = min(height, width), max(height, width)
    resized = (2 * long * short_side + short) // (2 * short)
    return (short_side, resized) if height <= width else (resized, short_side)


def resize_short_side(images: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    """(T, H, W, 3) or (T, H, W) images brought to a short side, by area when shrinking."""
    height, width = images.shape[1:3]
    size = resized_size(height, width, short_side)
    if size == (height, width):
        return images
    interpolation = cv2.INTER_AREA if size[0] < height else cv2.INTER_LINEAR
    out = np.empty((len(images), *size, *images.shape[3:]), np.uint8)
    with one_opencv_thread():
        for image, resized in zip(images, out, strict=True):
            cv2.resize(image, size[::-1], dst=resized, interpolation=interpolation)
    return out


def grey_images(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, H, W, 3) RGB -> (T, H, W) luma."""
    out = np.empty(images.shape[:3], np.uint8)
    with one_opencv_thread():
        for image, grey in zip(images, out, strict=True):
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY, dst=grey)
    return out


def grey_windows(
    images: Iterable[NDArray[np.uint8]], length: int, *, short_side: int | None
) -> Iterator[NDArray[np.uint8]]:
    """Runs of grey frames, each image converted while it is fresh in the processor's cache.

    Args:
        images: (H, W, 3) RGB, of one size.
        length: frames in a run, at least 2; the last one may be shorter.
        short_side: as `resize_short_side`.

    Yields:
        (T, H, W); a run begins with the frame that the one before ended with: of 5 frames and
        length 3 come (0, 1, 2) and (2, 3, 4), of 4 (0, 1, 2) and (2, 3), of 1 (0).
    """
    run: NDArray[np.uint8] | None = None
    count, is_first = 0, True
    for image in images:
        (resized,) = resize_short_side(image[None], short_side)
        if run is None:
            run = np.empty((length, *resized.shape[:2]), np.uint8)
        with one_opencv_thread():
            cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY, dst=run[count])
        count += 1
        if count == length:
            yield run
            last, run = run[-1], np.empty_like(run)
            run[0] = last
            count, is_first = 1, False
    if run is not None and (count > 1 or is_first):
        yield run[:count]
