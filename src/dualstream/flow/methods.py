"""Optical flow of consecutive frames: one function for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowError, InputError, UnknownNameError
from dualstream.flow import kernel
from dualstream.flow.grey import grey_images, resize_short_side
from dualstream.flow.opencv import dis_flow, farneback_flow
from dualstream.flow.params import (
    PARAMS,
    SMALLEST_SIDE_PX,
    Direction,
    DISParams,
    FarnebackParams,
    FlowParams,
    RAFTParams,
    TVL1FastParams,
    TVL1Params,
    resolve_params,
)
from dualstream.flow.plugins import plugin_flow, plugin_names
from dualstream.flow.quantize import pixels, quantize
from dualstream.types import Flow, Frames

DEVICE_METHODS = ("tvl1", "tvl1-fast", "raft")
"""Methods that torch computes on a device."""

_Both = tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]
"""Forward and backward flow (T-1, 2, H, W); what was not asked for is None."""


def optical_flow(
    frames: Frames,
    *,
    method: str = "dis",
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
    direction: Direction = "forward",
) -> Flow:
    """Displacement of every pixel between neighbouring frames.

    Args:
        frames: T >= 2 frames of (H, W).
        method: `dis` (fast, good), `farneback`, `tvl1` (what the two-stream papers used),
            `tvl1-fast` (the same energy from a better start: several times faster, as exact),
            `raft` (a network; needs its weights), or the name of a plugin.
        params: settings of that method; None takes its defaults.
        device: torch device of `tvl1`, `tvl1-fast` and `raft`; the others run on the CPU only.
        short_side: resize the frames first so that their short side is this many pixels;
            the flow is then in pixels of that smaller (or larger) grid. None keeps the size.
        direction: `forward` gives the way from frame t to t + 1. `backward` gives the way from
            frame t + 1 to t, in place t of the result.

    Returns:
        Flow with (T-1, 2, H, W) float32, x right and y down.

    Raises:
        FlowError: fewer than two frames; a plugin that fails.
        UnknownNameError: an unknown method or direction.
        InputError: frames too small for the method, settings of another method, or a device
            that the method or this machine does not have.
        WeightsError: RAFT's weights are not there and cannot be fetched.
    """
    if direction not in get_args(Direction):
        raise UnknownNameError("direction", direction, get_args(Direction))
    task = _Task.checked(frames, method, params, device, short_side)
    is_forward = direction == "forward"
    forward, backward = _compute(task, forward=is_forward, backward=not is_forward)
    data = forward if is_forward else backward
    assert data is not None
    return Flow(data, method=method, source=frames.source)


def flow_both_ways(
    frames: Frames,
    *,
    method: str = "dis",
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
) -> tuple[Flow, Flow]:
    """Forward and backward flow in one pass; arguments and errors of `optical_flow`."""
    task = _Task.checked(frames, method, params, device, short_side)
    forward, backward = _compute(task, forward=True, backward=True)
    assert forward is not None
    assert backward is not None
    source = frames.source
    return Flow(forward, method=method, source=source), Flow(backward, method=method, source=source)


def flow_bytes(
    frames: Frames,
    *,
    method: str = "dis",
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
    direction: Direction = "forward",
    bound_px: float = 20.0,
    subtract_mean: bool = False,
) -> NDArray[np.uint8]:
    """`quantize` of `optical_flow`: (T-1, 2, H, W) bytes; the same arguments and errors.

    The compiled kernel gives the bytes of a field as soon as it has the field.

    Args:
        subtract_mean: move the mean of each plane of each field to zero first (Simonyan &
            Zisserman 2014, section 3.1: removes a camera's steady motion).
    """
    if is_grey(method):
        return grey_flow_bytes(
            grey_images(resize_short_side(frames.data, short_side)),
            method=method,
            params=params,
            device=device,
            direction=direction,
            bound_px=bound_px,
            subtract_mean=subtract_mean,
            source=frames.source,
        )
    flow = optical_flow(
        frames,
        method=method,
        params=params,
        device=device,
        short_side=short_side,
        direction=direction,
    )
    return _bytes(pixels(flow), bound_px, subtract_mean)


def is_grey(method: str) -> bool:
    """Whether grey frames are all that `method` sees."""
    return method in PARAMS and method != "raft"


def grey_flow_bytes(
    grey: NDArray[np.uint8],
    *,
    method: str,
    params: FlowParams | None = None,
    device: str = "cpu",
    direction: Direction = "forward",
    bound_px: float = 20.0,
    subtract_mean: bool = False,
    source: str = "",
) -> NDArray[np.uint8]:
    """`flow_bytes` of frames that are grey already, (T, H, W), by a method that `is_grey`."""
    if direction not in get_args(Direction):
        raise UnknownNameError("direction", direction, get_args(Direction))
    settings = method_params(method, params)
    check_device(method, device)
    _check_frames(method, len(grey), grey.shape[1:], source)
    is_forward = direction == "forward"
    if isinstance(settings, _KERNEL_PARAMS):
        if device == "cpu" and kernel.is_available():
            result = kernel.kernel_flow(
                grey,
                params=settings,
                forward=False,
                forward_bytes=is_forward,
                backward_bytes=not is_forward,
                bound_px=bound_px,
                subtract_mean=subtract_mean,
            )
            data = result.forward_bytes if is_forward else result.backward_bytes
            assert data is not None
            return data
        both = _tvl1(grey, settings, device, is_forward, not is_forward)
        flow = both[0] if is_forward else both[1]
        assert flow is not None
    else:
        flow = _opencv(grey, settings) if is_forward else _opencv(grey[::-1], settings)[::-1]
    return _bytes(flow, bound_px, subtract_mean)


def _bytes(flow: NDArray[np.float32], bound_px: float, subtract_mean: bool) -> NDArray[np.uint8]:
    if subtract_mean:
        flow = flow - flow.mean(axis=(2, 3), keepdims=True)
    return quantize(flow, bound_px=bound_px)


def method_params(method: str, params: FlowParams | None) -> FlowParams | None:
    """Settings to run `method` with, checked; None for a plugin, which has none.

    Raises:
        UnknownNameError: there is no such method and no such plugin.
        InputError: `params` belongs to another method.
    """
    if method in PARAMS:
        return resolve_params(method, params)
    plugins = plugin_names()
    if method not in plugins:
        raise UnknownNameError("flow method", method, (*PARAMS, *plugins))
    if params is not None:
        raise InputError(f"Flow plugin {method!r} takes no params.")
    return None


def check_device(method: str, device: str) -> None:
    """Raise InputError if `method` cannot run on `device` here.

    `cpu` suits every method; others need torch and a method that runs on it.
    """
    if device == "cpu":
        return
    if method not in DEVICE_METHODS:
        raise InputError(f"Flow method {method!r} runs on the CPU only, got device {device!r}.")
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"Device {device!r} cannot be used here: {reason}") from error


_KERNEL_PARAMS = (TVL1Params, TVL1FastParams)


def _check_frames(method: str, count: int, size: tuple[int, ...], source: str) -> None:
    """Raise FlowError for fewer than two frames, InputError where they are too small."""
    if count < 2:
        raise FlowError(
            f"Optical flow needs at least 2 frames; {source or 'the input'} has {count}."
        )
    smallest = SMALLEST_SIDE_PX.get(method, 1)
    if min(size) < smallest:
        raise InputError(
            f"Flow method {method!r} needs frames of at least {smallest}x{smallest} px, got "
            f"{size[1]}x{size[0]} from {source or 'memory'}; pass a larger short_side."
        )


@dataclass(frozen=True, eq=False)
class _Task:
    """Checked arguments of `optical_flow`."""

    frames: Frames
    images: NDArray[np.uint8]
    """(T, H, W, 3) of the wanted size."""
    method: str
    params: FlowParams | None
    device: str

    @classmethod
    def checked(
        cls,
        frames: Frames,
        method: str,
        params: FlowParams | None,
        device: str,
        short_side: int | None,
    ) -> _Task:
        settings = method_params(method, params)
        check_device(method, device)
        images = resize_short_side(frames.data, short_side)
        _check_frames(method, len(images), images.shape[1:3], frames.source)
        return cls(frames, images, method, settings, device)


def _compute(task: _Task, *, forward: bool, backward: bool) -> _Both:
    images, params = task.images, task.params
    if isinstance(params, _KERNEL_PARAMS):
        return _tvl1(grey_images(images), params, task.device, forward, backward)
    # Backward flow is forward flow of the frames in reverse order.
    there = _forward(task, images) if forward else None
    back = _forward(task, images[::-1])[::-1] if backward else None
    return there, back


def _tvl1(
    grey: NDArray[np.uint8],
    params: TVL1Params | TVL1FastParams,
    device: str,
    forward: bool,
    backward: bool,
) -> _Both:
    """(T, H, W) -> flow by the kernel, or by torch where there is none and on a device."""
    if device == "cpu" and kernel.is_available():
        result = kernel.kernel_flow(grey, params=params, forward=forward, backward=backward)
        return result.forward, result.backward
    if isinstance(params, TVL1FastParams):
        from dualstream.flow.on_torch.tvl1_fast import tvl1_fast_flow

        return tvl1_fast_flow(
            grey, params=params, device=device, forward=forward, backward=backward
        )
    from dualstream.flow.on_torch.tvl1 import tvl1_flow

    return tvl1_flow(grey, params=params, device=device, forward=forward, backward=backward)


def _forward(task: _Task, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(T, H, W, 3) -> (T-1, 2, H, W) pixels, by a method that takes one pair at a time."""
    if isinstance(task.params, DISParams | FarnebackParams):
        return _opencv(grey_images(images), task.params)
    if isinstance(task.params, RAFTParams):
        from dualstream.flow.raft import raft_flow

        return raft_flow(images[:-1], images[1:], params=task.params, device=task.device)
    frames = Frames(images, task.frames.pts_seconds, task.frames.source)
    return pixels(plugin_flow(task.method, frames))


def _opencv(grey: NDArray[np.uint8], params: FlowParams | None) -> NDArray[np.float32]:
    if isinstance(params, FarnebackParams):
        return farneback_flow(grey[:-1], grey[1:], params=params)
    assert isinstance(params, DISParams)
    return dis_flow(grey[:-1], grey[1:], params=params)
