"""Optical flow of consecutive frames: one function for every method."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowError, InputError, UnknownNameError
from dualstream.flow.opencv import dis_flow, farneback_flow, one_opencv_thread
from dualstream.flow.params import (
    SMALLEST_SIDE_PX,
    Direction,
    DISParams,
    FarnebackParams,
    FlowMethod,
    FlowParams,
    RAFTParams,
    TVL1Params,
    resolve_params,
)
from dualstream.types import Flow, Frames


def optical_flow(
    frames: Frames,
    *,
    method: FlowMethod = "dis",
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
    direction: Direction = "forward",
) -> Flow:
    """Displacement of every pixel between neighbouring frames.

    Args:
        frames: T >= 2 frames of (H, W).
        method: `dis` (fast, good), `farneback`, `tvl1` (what the two-stream papers used) or
            `raft` (a network; needs its weights).
        params: settings of that method; None takes its defaults.
        device: torch device of `tvl1` and `raft`; the others run on the CPU only.
        short_side: resize the frames first so that their short side is this many pixels;
            the flow is then in pixels of that smaller (or larger) grid. None keeps the size.
        direction: `forward` gives the way from frame t to t + 1. `backward` gives the way from
            frame t + 1 to t, in place t of the result.

    Returns:
        Flow with (T-1, 2, H, W) float32, x right and y down.

    Raises:
        FlowError: fewer than two frames.
        UnknownNameError: an unknown method or direction.
        InputError: frames too small for the method, settings of another method, or a device
            that the method or this machine does not have.
        WeightsError: RAFT's weights are not there and cannot be fetched.
    """
    settings = resolve_params(method, params)
    if direction not in get_args(Direction):
        raise UnknownNameError("direction", direction, get_args(Direction))
    check_device(method, device)
    if len(frames) < 2:
        raise FlowError(
            f"Optical flow needs at least 2 frames; {frames.source or 'the input'} has "
            f"{len(frames)}."
        )
    images = resize_short_side(frames.data, short_side)
    smallest, size = SMALLEST_SIDE_PX[method], images.shape[1:3]
    if min(size) < smallest:
        raise InputError(
            f"Flow method {method!r} needs frames of at least {smallest}x{smallest} px, got "
            f"{size[1]}x{size[0]} from {frames.source or 'memory'}; pass a larger short_side."
        )
    if isinstance(settings, RAFTParams):
        from dualstream.flow.raft import raft_flow

        first, second = _pairs(images, direction)
        data = raft_flow(first, second, params=settings, device=device)
    else:
        first, second = _pairs(_grey(images), direction)
        data = _grey_flow(first, second, settings, device)
    return Flow(data, method=method, source=frames.source)


def check_device(method: str, device: str) -> None:
    """Raise InputError if `method` cannot run on `device` here.

    `cpu` suits every method; others need torch and a method that runs on it.
    """
    if device == "cpu":
        return
    if method not in ("tvl1", "raft"):
        raise InputError(f"Flow method {method!r} runs on the CPU only, got device {device!r}.")
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"Device {device!r} cannot be used here: {reason}") from error


def resized_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(H, W) after the short side becomes `short_side`; the long side is rounded half up.

    240x320 at 256 gives 256x341 (341.33); None keeps the size.
    """
    if short_side is None:
        return height, width
    if short_side < 1:
        raise InputError(f"short_side must be at least 1, got {short_side}.")
    short, long = min(height, width), max(height, width)
    resized = (2 * long * short_side + short) // (2 * short)
    return (short_side, resized) if height <= width else (resized, short_side)


def resize_short_side(images: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    """(T, H, W, 3) images with their short side at `short_side`, by area when shrinking."""
    height, width = images.shape[1:3]
    size = resized_size(height, width, short_side)
    if size == (height, width):
        return images
    interpolation = cv2.INTER_AREA if size[0] < height else cv2.INTER_LINEAR
    out = np.empty((len(images), *size, 3), np.uint8)
    with one_opencv_thread():
        for image, resized in zip(images, out, strict=True):
            cv2.resize(image, size[::-1], dst=resized, interpolation=interpolation)
    return out


def _grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, H, W, 3) RGB -> (T, H, W) luma."""
    out = np.empty(images.shape[:3], np.uint8)
    with one_opencv_thread():
        for image, grey in zip(images, out, strict=True):
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY, dst=grey)
    return out


def _pairs(
    images: NDArray[np.uint8], direction: Direction
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(T, ...) images -> where flow starts and where it leads, (T-1, ...) each."""
    first, second = images[:-1], images[1:]
    return (first, second) if direction == "forward" else (second, first)


def _grey_flow(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    params: DISParams | FarnebackParams | TVL1Params,
    device: str,
) -> NDArray[np.float32]:
    """(N, H, W) grey pairs -> (N, 2, H, W) pixels."""
    if isinstance(params, DISParams):
        return dis_flow(first, second, params=params)
    if isinstance(params, FarnebackParams):
        return farneback_flow(first, second, params=params)
    from dualstream.flow.tvl1 import tvl1_flow

    return tvl1_flow(first, second, params=params, device=device)
