"""Presentation times: a clock mended, samples at a rate, streams of frames cut into windows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import CorruptVideoError, InputError
from dualstream.types import Frames

DEFAULT_FPS = 25.0
"""Rate assumed where neither header nor decoding tells one (a single picture)."""

CLOCK_ROUNDING_SECONDS = 1e-3
"""Matroska rounds times to milliseconds: a frame that starts this much late is still on time."""

RESTART_STEPS = 32
"""A clock that falls back by more frames (and by 1 s) was started anew; by less, its times only
came in the order of decoding (AVI)."""

MOST_DAYS = 31
"""Longest video that is read."""

TimedImage = tuple[NDArray[np.uint8], float]
"""(H, W, 3) RGB bytes and the time in seconds from which they are shown."""


def in_seconds(ticks: NDArray[np.int64 | np.float64], time_base: Fraction) -> NDArray[np.float64]:
    """Times in ticks of a clock as seconds."""
    return ticks.astype(np.float64) * time_base.numerator / time_base.denominator


def mended_seconds(seconds: NDArray[np.float64], *, step: float) -> NDArray[np.float64]:
    """The same times made strictly increasing, changing no more than must be.

    Where the clock starts anew (`RESTART_STEPS`), it is taken to go on. Times that came in another
    order are sorted. Those that are missing or equal are spread evenly between their neighbours;
    at the end they follow at the median distance. 0, 2, 2, 4 -> 0, 2, 3, 4; 0, .3, .1, .2 ->
    0, .1, .2, .3; 0, 1, NaN, NaN -> 0, 1, 2, 3.

    Args:
        seconds: (F,) times of frames in the order in which they are shown; NaN where there is none.
        step: likely seconds from frame to frame.
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


def frames_between(
    pts_seconds: NDArray[np.float64], start_seconds: float, end_seconds: float, *, least: int = 1
) -> range:
    """Frames that start from one time up to another, both in seconds from the first frame.

    A frame that starts within `CLOCK_ROUNDING_SECONDS` before a time counts as starting at it. The
    frame on display at the start serves where none starts inside. Fewer than `least` frames are
    filled up with the next ones, at the end of the video with those before: 25 frames a second, 1
    to 2 s -> 25..49; 1 to 1.01 s, least 2 -> 25, 26.

    Args:
        pts_seconds: (F,) rising times of the frames.
        start_seconds, end_seconds: the end after the start.
        least: frames at least, where the video has as many.

    Raises:
        InputError: there is no frame at the start.
    """
    from_start = pts_seconds - pts_seconds[0]
    step = float(from_start[-1]) / max(1, len(from_start) - 1)
    if len(from_start) > 1 and start_seconds >= from_start[-1] + step:
        raise InputError(
            f"{start_seconds:g} to {end_seconds:g} s lie outside the video, which is "
            f"{from_start[-1] + step:.2f} s long."
        )
    edges = np.array([start_seconds, end_seconds]) - CLOCK_ROUNDING_SECONDS
    first, last = (int(place) for place in np.searchsorted(from_start, edges, side="left"))
    if first == last:
        first = max(0, first - 1)
    last = min(max(last, first + least), len(from_start))
    return range(max(0, min(first, last - least)), last)


def check_clock(pts_seconds: NDArray[np.float64], source: str) -> None:
    """Raise CorruptVideoError where the last frame comes more than `MOST_DAYS` after the first.

    A damaged clock tells of millions of years. Windows and samples at a rate are made over all of
    a video's time, so that eight frames would fill any memory.
    """
    days = float(pts_seconds[-1] - pts_seconds[0]) / 86_400
    if not days <= MOST_DAYS:
        raise CorruptVideoError(
            f"{source!r} has its last frame {days:.3g} days after its first one; videos of up to "
            f"{MOST_DAYS} days are read. Its clock is damaged: copy or download it again, or cut "
            "it into pieces."
        )


def num_samples(span_seconds: float, num_frames: int, fps: float) -> int:
    """Samples at a rate that fit a video, whose last frame lasts as long as the mean of the others.

    `span_seconds` leads from the start of the first frame to the start of the last one. At least
    1: 10 frames over 0.9 s last 1 s, which is 25 samples at 25 fps.
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
        fps: samples a second.

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


def resample(frames: Iterable[TimedImage], fps: float) -> Iterator[TimedImage]:
    """The same choice as `frame_indices_at_rate`, made while frames pass by in rising order."""
    sample = count = 0
    start = last = 0.0
    held: NDArray[np.uint8] | None = None
    for image, seconds in frames:
        if held is None:
            start = seconds
        else:
            while sample / fps + CLOCK_ROUNDING_SECONDS < seconds - start:
                yield held, start + sample / fps
                sample += 1
        held, last, count = image, seconds, count + 1
    if held is not None:
        for number in range(sample, num_samples(last - start, count, fps)):
            yield held, start + number / fps


def cut_windows(
    frames: Iterable[TimedImage], *, length: int, step: int, source: str
) -> Iterator[Frames]:
    """Gather runs of frames, holding no more than one run at a time; see `VideoReader.windows`.

    5 frames, length 3, step 2 -> (0, 1, 2), (2, 3, 4); 6 frames -> also (4, 5).
    """
    held: deque[TimedImage] = deque()
    skip = fresh = 0
    for frame in frames:
        if skip:
            skip -= 1
            continue
        held.append(frame)
        fresh += 1
        if len(held) == length:
            yield _join(held, source)
            fresh = 0
            skip = max(0, step - length)
            for _ in range(min(step, length)):
                held.popleft()
    if fresh:
        yield _join(held, source)


def _join(frames: Iterable[TimedImage], source: str) -> Frames:
    images, seconds = zip(*frames, strict=True)
    return Frames(np.stack(images), np.asarray(seconds, np.float64), source)


def collect(frames: Iterable[TimedImage], *, expected: int, source: str) -> Frames:
    """Gather all frames, at least one, into one array, without holding every image twice.

    `expected` is their likely number, 0 where unknown; it costs memory only where wrong.
    """
    images: NDArray[np.uint8] | None = None
    seconds: list[float] = []
    for image, time in frames:
        if images is None:
            # A header may claim anything, so what it expects is only believed in parts.
            images = np.empty((min(max(expected, 1), 1024), *image.shape), np.uint8)
        elif len(seconds) == len(images):
            images = np.concatenate([images, np.empty_like(images)])
        images[len(seconds)] = image
        seconds.append(time)
    assert images is not None  # `frames` raises where nothing decodes
    return Frames(images[: len(seconds)], np.asarray(seconds, np.float64), source)
