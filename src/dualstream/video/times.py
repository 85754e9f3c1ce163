"""Arithmetic of presentation times: mending a clock, frames on display, samples at a rate."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError

DEFAULT_FPS = 25.0
"""Rate assumed where neither header nor decoding tells one (a single picture)."""

CLOCK_ROUNDING_SECONDS = 1e-3
"""Matroska rounds times to milliseconds: a frame that starts this much late is still on time."""

RESTART_STEPS = 32
"""A clock that falls back by more frames (and by 1 s) was started anew; by less, its times only
came in the order of decoding (AVI)."""


def in_seconds(ticks: NDArray[np.int64 | np.float64], time_base: Fraction) -> NDArray[np.float64]:
    """Times in ticks of a clock as seconds."""
    return ticks.astype(np.float64) * time_base.numerator / time_base.denominator


def mended_seconds(seconds: NDArray[np.float64], *, step: float) -> NDArray[np.float64]:
    """The same times made strictly increasing, changing no more than must be.

    Where the clock starts anew (`RESTART_STEPS`), it is taken to go on. Times that came in another
    order are sorted. Those that are missing or equal are spread evenly between their neighbours;
    at the end they follow at the median distance.

    Args:
        seconds: (F,) times of frames in the order in which they are shown; NaN where there is none.
        step: likely seconds from frame to frame.

    Example:
        0, 2, 2, 4 -> 0, 2, 3, 4; 0, .3, .1, .2 -> 0, .1, .2, .3; 0, 1, NaN, NaN -> 0, 1, 2, 3.
    """
    frames = np.arange(len(seconds), dtype=np.float64)
    known = np.flatnonzero(~np.isnan(seconds))
    if not len(known):
        return frames * step
    times = seconds[known]
    back = np.diff(times) < -max(1.0, RESTART_STEPS * step)
    times[1:] -= np.cumsum(np.where(back, np.diff(times) - step, 0))
    times.sort()
    is_good = np.diff(times, prepend=-np.inf) > 0
    good, times = known[is_good], times[is_good]
    if len(good) > 1:
        step = float(np.median(np.diff(times) / np.diff(good)))
    mended = np.interp(frames, good, times)
    early, late = frames < good[0], frames > good[-1]
    mended[early] -= (good[0] - frames[early]) * step
    mended[late] += (frames[late] - good[-1]) * step
    return mended


def evenly_spaced(num_frames: int, count: int) -> list[int]:
    """Middle frames of `count` equal parts: int((i + 0.5) * F / count); (10, 4) -> 1, 3, 6, 8."""
    return [(2 * i + 1) * num_frames // (2 * count) for i in range(count)]


def frames_shown_at(
    pts_seconds: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Frame on display at each time: the last one that has started, or the first of all.

    A frame that starts within `CLOCK_ROUNDING_SECONDS` after the time counts as started.
    """
    late = seconds + CLOCK_ROUNDING_SECONDS
    return np.maximum(np.searchsorted(pts_seconds, late, side="right") - 1, 0).astype(np.int64)


def num_samples(span_seconds: float, num_frames: int, fps: float) -> int:
    """Samples at a rate that fit a video, whose last frame lasts as long as the mean of the others.

    Args:
        span_seconds: time from the start of the first frame to the start of the last.
        num_frames: F, at least 1.
        fps: samples a second.

    Returns:
        At least 1: 10 frames over 0.9 s last 1 s, which is 25 samples at 25 fps.
    """
    if num_frames < 2:
        return 1
    seconds = span_seconds * num_frames / (num_frames - 1)
    return max(1, math.ceil((seconds - CLOCK_ROUNDING_SECONDS) * fps))


def frame_indices_at_rate(pts_seconds: NDArray[np.float64], fps: float) -> NDArray[np.int64]:
    """Which frame is shown at 0, 1/fps, 2/fps, ... seconds after the first one.

    The last frame is taken to last as long as the mean of the others. Times of a clock that is
    rounded to milliseconds (Matroska) are allowed for, so that a video at its own rate gives
    every frame once.

    Args:
        pts_seconds: (F,) rising times of the frames, F at least 1.
        fps: samples a second, above 0.

    Returns:
        (M,) frame indices, never falling: 10 fps to 25 -> 0 0 0 1 1 2 2 2 3 3 ...

    Raises:
        InputError: the rate is not above 0, or there is no frame.
    """
    check_rate(fps)
    if not len(pts_seconds):
        raise InputError("pts_seconds is empty; a rate needs at least one frame.")
    from_start = pts_seconds - pts_seconds[0]
    samples = num_samples(float(from_start[-1]), len(from_start), fps)
    return frames_shown_at(from_start, np.arange(samples) / fps)


def check_rate(fps: float) -> None:
    """Raise InputError unless `fps` is a finite number above 0."""
    if not (np.isfinite(fps) and fps > 0):
        raise InputError(f"fps must be a number above 0, got {fps}.")
