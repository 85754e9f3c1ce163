"""Windows in time: the pieces of a video that networks are shown one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import CorruptVideoError, InputError
from dualstream.video.times import CLOCK_ROUNDING_SECONDS


class Window(NamedTuple):
    """A stretch of time, and the frames that begin in it."""

    first: int
    """Number of the first frame."""
    last: int
    """One past the last frame."""
    start_seconds: float
    end_seconds: float


def find_windows(
    pts_seconds: NDArray[np.float64],
    *,
    window_seconds: float,
    step_seconds: float | None = None,
    cuts: Sequence[int] = (),
) -> list[Window]:
    """Return the windows of a video, in their order. None lies across a cut.

    Without a step, windows of about equal length hold every frame of a scene once; their number is
    the scene's duration over the aimed length, rounded, at least 1. With one, windows of exactly
    the length start every so many seconds; the last one ends with the scene. A scene that is
    shorter than the length is one window. Windows without a frame (a gap in the video) are left
    out.

    Args:
        pts_seconds: (F,) presentation times, rising.
        window_seconds: length, aimed at or exact.
        step_seconds: from the start of a window to the start of the next one.
        cuts: numbers of the frames that begin a new scene, rising, within 1..F - 1.

    Raises:
        CorruptVideoError: there is no frame.
        InputError: a length or step that is not above 0.

    Example:
        25 s at 1 frame a second and windows of 10 s: 0..13 and 13..25; at a step of 5 s: 0..10,
        5..15, 10..20, 15..25.
    """
    check_seconds(window_seconds=window_seconds, step_seconds=step_seconds)
    count = len(pts_seconds)
    if count == 0:
        raise CorruptVideoError("The video has no frame.")
    interval = (pts_seconds[-1] - pts_seconds[0]) / max(1, count - 1)
    ends = np.append(pts_seconds[1:], pts_seconds[-1] + interval)
    windows: list[Window] = []
    for first, last in pairwise((0, *cuts, count)):
        start, end = float(pts_seconds[first]), float(ends[last - 1])
        if step_seconds is None:
            number = max(1, round((end - start) / window_seconds))
            edges = np.linspace(start, end, number + 1)
            stretches = list(pairwise(edges.tolist()))
        else:
            stretches = sliding(start, end, window_seconds, step_seconds)
        for a, b in stretches:
            # The last window holds all that is left, also where the only frame takes no time.
            stop = b if (a, b) != stretches[-1] else math.inf
            if window := window_between(pts_seconds, a, stop, first=first, last=last):
                windows.append(window._replace(end_seconds=b))
    return windows


def window_between(
    pts_seconds: NDArray[np.float64], start: float, end: float, *, first: int = 0, last: int
) -> Window | None:
    """Return the window of a stretch of time, None where no frame begins in it.

    A frame that is stamped up to a millisecond too early (clocks that are rounded) belongs to the
    stretch that it is meant for.

    Args:
        pts_seconds: (F,) presentation times, rising.
        start, end: in seconds; the end is outside.
        first, last: only frames first .. last - 1 are looked at.
    """
    times = pts_seconds[first:last]
    inside = np.searchsorted(times, (start - CLOCK_ROUNDING_SECONDS, end - CLOCK_ROUNDING_SECONDS))
    a, b = (first + inside).tolist()
    return Window(a, b, start, end) if b > a else None


def sliding(start: float, end: float, length: float, step: float) -> list[tuple[float, float]]:
    """Return stretches of a scene, each of the length, or the whole of a scene that is shorter.

    They start every `step` seconds; where that leaves out the end, the last one ends with it.
    """
    room = end - start - length
    if room <= CLOCK_ROUNDING_SECONDS:
        return [(start, end)]
    starts = [
        start + place * step for place in range(int((room + CLOCK_ROUNDING_SECONDS) / step) + 1)
    ]
    if end - (starts[-1] + length) > CLOCK_ROUNDING_SECONDS:
        starts.append(end - length)
    return [(one, one + length) for one in starts]


def check_seconds(*, window_seconds: float, step_seconds: float | None) -> None:
    """Raise InputError unless a window's length, and the step where there is one, is above 0."""
    if not window_seconds > 0:
        raise InputError(f"window_seconds must be above 0, got {window_seconds:g}.")
    if step_seconds is not None and not step_seconds > 0:
        raise InputError(f"step_seconds must be above 0, got {step_seconds:g}.")
