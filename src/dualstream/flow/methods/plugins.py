"""Flow methods of other packages, found by their entry points.

A package offers one with a function `flow(frames: Frames) -> Flow` and, in its pyproject.toml:

    [project.entry-points."dualstream.flow"]
    mymethod = "mypackage.module:flow"
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, get_args

import numpy as np

from dualstream.errors import DualstreamError, FlowError, ShapeError, UnknownNameError
from dualstream.flow.methods.params import FlowMethod
from dualstream.flow.methods.record import Fields, FlowTask, Method, of_forward
from dualstream.flow.quantize import pixels
from dualstream.types import Flow, Frames

GROUP = "dualstream.flow"
"""Entry-point group of flow methods."""

MOTION_VECTORS = "motion-vectors"
WARPED_PREFIX = "warped-"
"""Names that this package gives to flow besides the `FlowMethod`s."""


def plugin_names() -> tuple[str, ...]:
    """Names of the flow methods that installed packages offer, sorted.

    Reads package metadata only; no plugin is imported. Names that this package uses itself are
    left out: they keep their meaning here.
    """
    names = {entry.name for entry in metadata.entry_points(group=GROUP)}
    return tuple(sorted(name for name in names if not _is_built_in(name)))


def plugin_method(name: str) -> Method[Any]:
    """The record of the plugin `name`, which is not imported before it is run."""

    def solve(task: FlowTask[Any]) -> Fields:
        return pixels(plugin_flow(name, task.frames))

    return Method(name=name, function=of_forward(solve), params=None, sees="rgb")


def plugin_flow(name: str, frames: Frames) -> Flow:
    """Flow of consecutive frames by the plugin `name`.

    Args:
        name: one of `plugin_names()`.
        frames: T >= 2 frames of (H, W), passed on as they are.

    Returns:
        The plugin's flow, checked, under its entry point's name and the frames' source.

    Raises:
        UnknownNameError: no installed package offers that name.
        FlowError: the name is a built-in method's, or is offered by two packages; the plugin
            cannot be imported, is not callable, fails, or returns something other than a finite
            Flow. Names the entry point and its distribution.
        ShapeError: its flow is not (T-1, 2, H, W).
    """
    entry = _entry_point(name)
    plugin = _label(entry)
    try:
        compute = entry.load()
    except Exception as error:
        raise FlowError(f"{plugin} cannot be loaded: {_reason(error)}. Reinstall it.") from error
    if not callable(compute):
        raise FlowError(f"{plugin} is not a function but {type(compute).__name__}.")
    source = frames.source or "frames in memory"
    try:
        flow = compute(frames)
    except DualstreamError:
        raise
    except Exception as error:
        raise FlowError(f"{plugin} failed on {source}: {_reason(error)}.") from error
    if not isinstance(flow, Flow):
        raise FlowError(f"{plugin} must return a dualstream.types.Flow, got {type(flow).__name__}.")
    data = pixels(flow)
    expected = (len(frames) - 1, 2, *frames.size)
    if data.shape != expected:
        raise ShapeError(
            f"{plugin} must return flow of {expected} for {len(frames)} frames of "
            f"{frames.size[1]}x{frames.size[0]} px, got {data.shape}."
        )
    is_finite = np.isfinite(data).all(axis=(1, 2, 3))
    if not is_finite.all():
        raise FlowError(
            f"{plugin} returned a NaN or an infinity in field {int(np.argmin(is_finite))} of "
            f"{source}."
        )
    return Flow(data, method=name, source=frames.source)


def _entry_point(name: str) -> metadata.EntryPoint:
    """The one entry point of that name."""
    found = sorted(metadata.entry_points(group=GROUP, name=name), key=_label)
    if not found:
        raise UnknownNameError("flow plugin", name, plugin_names())
    if _is_built_in(name):
        raise FlowError(
            f"{_label(found[0])} takes the name of a method of dualstream itself. Its package has "
            f"to choose another name for the entry point."
        )
    for other in found:  # one distribution can be found twice on sys.path
        if other.value != found[0].value:
            raise FlowError(
                f"{_label(found[0])} and {_label(other)} have one name. Uninstall one of them."
            )
    return found[0]


def _is_built_in(name: str) -> bool:
    return name in (*get_args(FlowMethod), MOTION_VECTORS) or name.startswith(WARPED_PREFIX)


def _label(entry: metadata.EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
    return f"Flow plugin {entry.name!r} ({entry.value} of {package})"


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
