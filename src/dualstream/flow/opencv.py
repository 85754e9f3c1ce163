"""Flow methods that OpenCV computes, one CPU thread each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.flow.params import DISParams, FarnebackParams

# OpenCV takes None for "no flow to start from"; its type stubs do not say so.
_NO_START: Any = None

_DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to the calling thread inside the block: pairs run side by side, not split up."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def dis_flow(
    first: NDArray[np.uint8], second: NDArray[np.uint8], *, params: DISParams
) -> NDArray[np.float32]:
    """Flow from each image of `first` to its partner in `second` by dense inverse search.

    Args:
        first: (N, H, W) grey images; H and W at least 16.
        second: (N, H, W).
        params: the preset.

    Returns:
        (N, 2, H, W) pixels.

    Source:
        Kroeger, Timofte, Dai & Van Gool 2016, as `cv2.DISOpticalFlow`.
    """
    solver = cv2.DISOpticalFlow.create(_DIS_PRESETS[params.preset])
    out = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    with one_opencv_thread():
        for n, (a, b) in enumerate(zip(first, second, strict=True)):
            out[n] = solver.calc(a, b, _NO_START).transpose(2, 0, 1)  # (H, W, 2) -> (2, H, W)
    return out


def farneback_flow(
    first: NDArray[np.uint8], second: NDArray[np.uint8], *, params: FarnebackParams
) -> NDArray[np.float32]:
    """Flow from each image of `first` to its partner in `second` by polynomial expansion.

    Args:
        first: (N, H, W) grey images.
        second: (N, H, W).
        params: pyramid, window and polynomial.

    Returns:
        (N, 2, H, W) pixels.

    Source:
        Farneback 2003, as `cv2.calcOpticalFlowFarneback`.
    """
    out = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    with one_opencv_thread():
        for n, (a, b) in enumerate(zip(first, second, strict=True)):
            flow = cv2.calcOpticalFlowFarneback(
                a,
                b,
                _NO_START,
                params.pyramid_scale,
                params.levels,
                params.window,
                params.iterations,
                params.poly_n,
                params.poly_sigma,
                0,
            )
            out[n] = flow.transpose(2, 0, 1)  # (H, W, 2) -> (2, H, W)
    return out
