"""Snippets of windows that overlap, laid where the windows can share them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.plan import evenly_spaced_starts
from dualstream.types import ClipSpec
from dualstream.video.times import CLOCK_ROUNDING_SECONDS, frames_shown_at


def shared_starts(
    pts_seconds: NDArray[np.float64],
    spec: ClipSpec,
    *,
    start_seconds: float,
    step_seconds: float,
    count: int,
) -> NDArray[np.int64] | None:
    """Return the frames at which `count` snippets of a window start, on a grid that windows share.

    The grid begins with the window and divides the step, so that it is that of the next window
    too; it is as coarse as it can be with enough places. From those where a snippet ends within the
    window as many are taken as evenly as can be, with the first and the last; one snippet is put in
    the middle. Places that fall on the same frame (of a slow video) are one, and some then serve
    twice.

    A window of 10 s, a step of 1 s and 8 snippets of one frame: 0, 1, 2, 3, 5, 6, 7, 9 s. Each
    second of the video then is seen once, whichever windows hold it.

    Args:
        pts_seconds: (F,) times of the frames of the window.
        spec: input of the network.
        start_seconds: start of the window.
        step_seconds: from its start to that of the next window.
        count: of snippets.

    Returns:
        (count,) places among the F frames, not falling. None where not even one snippet fits.
    """
    positions = num_positions(spec)
    if spec.fps is None:
        latest = len(pts_seconds) - positions
    else:
        end = pts_seconds[-1] - (positions - 1) / spec.fps + CLOCK_ROUNDING_SECONDS
        latest = int(np.searchsorted(pts_seconds, end, side="right")) - 1
    if latest < 0:
        return None
    room = max(0.0, float(pts_seconds[latest]) - start_seconds) + CLOCK_ROUNDING_SECONDS
    pace = step_seconds / max(1, math.ceil((count - 1) * step_seconds / room))
    times = start_seconds + pace * np.arange(int(room / pace) + 1)
    places = np.unique(np.searchsorted(pts_seconds, times - CLOCK_ROUNDING_SECONDS))
    places = places[places <= latest]
    if not len(places):
        return None
    return np.asarray(places[evenly_spaced_starts(len(places), count=count, length=1)], np.int64)


def timelines(
    pts_seconds: NDArray[np.float64], spec: ClipSpec, starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the frames that are shown at each position, and at which each snippet starts.

    At a rate of the network's own every snippet has positions of its own, counted from its first
    frame, so that it is the same in all windows.

    Args:
        pts_seconds: (F,) times of the frames of the window.
        spec: input of the network.
        starts: (S,) as of `shared_starts`.

    Returns:
        (P,) places among the F frames, and (S,) places among those.
    """
    if spec.fps is None:
        return np.arange(len(pts_seconds)), starts
    positions = num_positions(spec)
    ticks = np.arange(positions) / spec.fps
    shown = [frames_shown_at(pts_seconds, pts_seconds[start] + ticks) for start in starts.tolist()]
    return np.concatenate(shown), np.arange(len(starts)) * positions


def num_positions(spec: ClipSpec) -> int:
    """Positions that a snippet needs: those it covers, and for flow the one that it leads to."""
    return spec.span + bool(spec.flow_streams)
