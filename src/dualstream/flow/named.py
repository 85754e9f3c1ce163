"""Flow by the name that meta.json, recipes and checkpoints know it by.

Besides the methods and plugins of `optical_flow` these are `warped-<method>`, from which the
camera's motion is removed, and `motion-vectors`, which a video's own codec found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualstream.errors import InputError, UnknownNameError
from dualstream.flow.camera import warped_flow
from dualstream.flow.methods import optical_flow
from dualstream.flow.params import PARAMS, Direction, FlowParams
from dualstream.flow.plugins import plugin_names
from dualstream.types import Flow, Frames

WARPED_PREFIX = "warped-"
MOTION_VECTORS = "motion-vectors"


def check_flow_name(name: str) -> str:
    """`name` if it is known; UnknownNameError lists what is."""
    methods = (*PARAMS, *plugin_names())
    if name != MOTION_VECTORS and name.removeprefix(WARPED_PREFIX) not in methods:
        warped = (f"{WARPED_PREFIX}{method}" for method in methods)
        raise UnknownNameError("flow method", name, (*methods, *warped, MOTION_VECTORS))
    return name


def named_params(name: str, values: Mapping[str, Any] | None) -> FlowParams | None:
    """Settings of `name` from those that meta.json tells; None for what has none."""
    method = name.removeprefix(WARPED_PREFIX)
    return PARAMS[method](**(values or {})) if method in PARAMS else None


def named_flow(
    frames: Frames,
    *,
    name: str,
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
    direction: Direction = "forward",
) -> Flow:
    """`optical_flow` or `warped_flow`, as `name` says; the same arguments and errors.

    Raises:
        InputError: motion vectors, which are in files and not in frames; warped flow backward.
    """
    if name == MOTION_VECTORS:
        raise InputError(
            "Motion vectors come with a video file, not with its frames: store them with "
            "`dualstream flow --method motion-vectors`, then `dualstream test` on the store."
        )
    if not name.startswith(WARPED_PREFIX):
        return optical_flow(
            frames,
            method=name,
            params=params,
            device=device,
            short_side=short_side,
            direction=direction,
        )
    if direction != "forward":
        raise InputError(f"Warped flow has the direction 'forward' only, got {direction!r}.")
    return warped_flow(
        frames,
        method=name.removeprefix(WARPED_PREFIX),
        params=params,
        device=device,
        short_side=short_side,
    )
