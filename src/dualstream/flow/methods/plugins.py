"""Flow methods of other packages, found by their entry points.

A package offers one with a function `flow(frames: Frames) -> Flow` and, in its pyproject.toml:

    [project.entry-points."dualstream.flow"]
    mymethod = "mypackage.module:flow"
"""

from __future__ import annotations

from importlib import metadata
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import DualstreamError, FlowError, ShapeError
from dualstream.flow.methods.params import FlowMethod
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
    names -= {*get_args(FlowMethod), MOTION_VECTORS}
    return tuple(sorted(name for name in names if not name.startswith(WARPED_PREFIX)))


def plugin_flow(name: str, frames: Frames) -> NDArray[np.float32]:
    """Flow of consecutive frames by the plugin `name`.

    Args:
        name: one of `plugin_names()`.
        frames: T >= 2 frames of (H, W), passed on as they are.

    Returns:
        (T-1, 2, H, W) pixels, checked.

    Raises:
        FlowError: the name is offered by two packages; the plugin cannot be imported, is not
            callable, fails, or returns something other than a finite Flow. Names the entry point
            and its distribution.
        ShapeError: its flow is not (T-1, 2, H, W).
    """
    entry, *others = sorted(metadata.entry_points(group=GROUP, name=name), key=_label)
    for other in others:  # one distribution can be found twice on sys.path
        if other.value != entry.value:
            raise FlowError(
                f"{_label(entry)} and {_label(other)} have one name. Uninstall one of them."
            )
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
    return data


def _label(entry: metadata.EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
    return f"Flow plugin {entry.name!r} ({entry.value} of {package})"


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
