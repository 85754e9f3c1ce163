"""Optical flow of consecutive frames: one function for every method."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import ShapeError, check_choice
from dualstream.flow.images import resize_short_side
from dualstream.flow.methods.lookup import find_method
from dualstream.flow.methods.params import DEFAULT_METHOD, Direction, FlowParams
from dualstream.flow.methods.record import FlowTask, Method
from dualstream.flow.methods.warped import warped_method
from dualstream.types import Flow, Frames


class FlowOptions(TypedDict, total=False):
    """Options that `optical_flow` shares with the functions beside it."""

    method: str
    params: FlowParams | None
    device: str
    short_side: int | None


def optical_flow(
    frames: Frames | NDArray[np.uint8],
    *,
    method: str = DEFAULT_METHOD,
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
    direction: Direction = "forward",
) -> Flow:
    """Displacement of every pixel between neighbouring frames.

    Args:
        frames: T >= 2 frames of (H, W): `Frames`, or a uint8 array (T, H, W, 3) of RGB or
            (T, H, W) of grey images. Methods that see colour (`raft`, plugins, `warped-...`) get
            grey images as three equal channels.
        method: `tvl1-fast`, `tvl1` (what the two-stream papers used; the same energy, several
            times slower), `dis` (less exact), `farneback`, `raft` (a network; needs its
            weights), the name of a plugin, or `warped-` and one of these (see `warped_flow`).
        params: settings of that method; None takes its defaults.
        device: torch device of `tvl1`, `tvl1-fast` and `raft`; the others run on the CPU only.
        short_side: resize the frames first so that their short side is this many pixels;
            the flow is then in pixels of that smaller (or larger) grid. None keeps the size.
        direction: `forward` gives the way from frame t to t + 1. `backward` gives the way from
            frame t + 1 to t, in place t of the result.

    Returns:
        Flow with (T-1, 2, H, W) float32, x right and y down.

    Raises:
        ShapeError: an array of another shape or type.
        FlowError: fewer than two frames; a plugin that fails.
        UnknownNameError: an unknown method or direction.
        InputError: frames too small for the method, settings of another method, a device
            that the method or this machine does not have, or motion vectors, which are in files.
        WeightsError: RAFT's weights are not there and cannot be fetched.
    """
    check_choice("direction", direction, Direction)
    (flow,) = _compute(
        frames,
        directions=(direction,),
        method=method,
        params=params,
        device=device,
        short_side=short_side,
    )
    return flow


def flow_both_ways(
    frames: Frames | NDArray[np.uint8], **options: Unpack[FlowOptions]
) -> tuple[Flow, Flow]:
    """Forward and backward flow in one pass; arguments and errors of `optical_flow`."""
    there, back = _compute(frames, directions=("forward", "backward"), **options)
    return there, back


def warped_flow(
    frames: Frames | NDArray[np.uint8],
    *,
    mask: NDArray[np.bool_] | None = None,
    **options: Unpack[FlowOptions],
) -> Flow:
    """Flow with the camera's motion removed: zero on the background, its own motion elsewhere.

    The second frame of each pair is warped onto the first by the homography of the background,
    and the flow to it is computed. Where it shows nothing (it has left the picture) the first
    frame's own pixels stand, so that there is no motion. The homography comes from features and
    from DIS flow, whatever the method.

    Subtracting the homography's displacement from flow that is computed once, instead, would leave
    more on the background: .02 to .08 px against .02 to .03 px at pans of 4 to 15 px, and 4 px
    against .03 at pans of 45 px, which the flow itself cannot follow.

    Args:
        frames: T >= 2 frames; below 16 px the camera is taken to stand still.
        mask: (T, H, W) on the grid of the flow, see `estimate_camera_motion`.
        options: as `optical_flow`, whose errors are raised too.

    Returns:
        Flow of method "warped-<method>", (T-1, 2, H, W): displacement from frame t to where it
        would be in frame t + 1 had the camera stood still.

    Source:
        Wang & Schmid 2013, section 2 (they too warp the second frame and compute flow again);
        Wang et al. 2016 (TSN), section 3.2, for warped flow as an input.
    """
    change = functools.partial(warped_method, mask=mask)
    (flow,) = _compute(frames, directions=("forward",), change=change, **options)
    return flow


def _compute(
    frames: Frames | NDArray[np.uint8],
    *,
    directions: tuple[Direction, ...],
    change: Callable[[Method[Any]], Method[Any]] | None = None,
    method: str = DEFAULT_METHOD,
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
) -> list[Flow]:
    """Flow in each of the directions; `change` makes the record of another method."""
    record = find_method(method) if change is None else change(find_method(method))
    for direction in directions:
        record.check_direction(direction)
    settings = record.resolve(params)
    record.check_device(device)
    if isinstance(frames, Frames):
        images, pts_seconds, source = frames.data, frames.pts_seconds, frames.source
    else:
        images, pts_seconds, source = _checked(frames), None, ""
    task = FlowTask(
        images=resize_short_side(images, short_side),
        params=settings,
        device=device,
        forward="forward" in directions,
        backward="backward" in directions,
        pts_seconds=pts_seconds,
        source=source,
    )
    found = record.compute(task)
    return [Flow(fields, record.name, source) for fields in found if fields is not None]


def _checked(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`images` if it is an array of frames, else ShapeError."""
    found = type(images).__name__
    if isinstance(images, np.ndarray):
        is_frames = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
        if is_frames and images.dtype == np.uint8 and images.size:
            return images
        found = f"{images.shape} {images.dtype}"
    raise ShapeError(
        f"Frames must be Frames, or an array (T, H, W, 3) or (T, H, W) of uint8, got {found}."
    )
