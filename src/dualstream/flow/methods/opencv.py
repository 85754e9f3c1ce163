"""Flow methods that OpenCV computes, one CPU thread each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.flow.images import one_opencv_thread
from dualstream.flow.methods.params import DISParams, FarnebackParams
from dualstream.flow.methods.record import FlowTask, Method, of_forward

# OpenCV takes None for "no flow to start from"; its type stubs do not say so.
_NO_START: Any = None


def dis_flow(images: NDArray[np.uint8], *, params: DISParams) -> NDArray[np.float32]:
    """Flow of (T, H, W) grey images, at least 16x16, by dense inverse search: (T-1, 2, H, W) px.

    Source:
        Kroeger, Timofte, Dai & Van Gool 2016, as `cv2.DISOpticalFlow`.
    """
    preset = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{params.preset.upper()}")
    solver = cv2.DISOpticalFlow.create(preset)
    return _of_pairs(images, lambda first, second: solver.calc(first, second, _NO_START))


def _farneback(task: FlowTask[FarnebackParams]) -> NDArray[np.float32]:
    params = task.params

    def solve(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Any:
        return cv2.calcOpticalFlowFarneback(
            first,
            second,
            _NO_START,
            params.pyramid_scale,
            params.levels,
            params.window,
            params.iterations,
            params.poly_n,
            params.poly_sigma,
            0,
        )

    return _of_pairs(task.images, solve)


def _of_pairs(
    images: NDArray[np.uint8], solve: Callable[[NDArray[np.uint8], NDArray[np.uint8]], Any]
) -> NDArray[np.float32]:
    """(T, H, W) -> (T-1, 2, H, W), with `solve` giving the (H, W, 2) of a pair."""
    out = np.empty((len(images) - 1, 2, *images.shape[1:]), np.float32)
    with one_opencv_thread():
        for field, first, second in zip(out, images[:-1], images[1:], strict=True):
            field[:] = solve(first, second).transpose(2, 0, 1)  # (H, W, 2) -> (2, H, W)
    return out


# OpenCV's DIS fails below 12 px.
DIS = Method(
    name="dis",
    function=of_forward(lambda task: dis_flow(task.images, params=task.params)),
    params=DISParams,
    smallest_side_px=16,
)
"""Dense inverse search (Kroeger et al. 2016): fast."""

FARNEBACK = Method(
    name="farneback", function=of_forward(_farneback), params=FarnebackParams, smallest_side_px=2
)
"""Polynomial expansion (Farneback 2003)."""
