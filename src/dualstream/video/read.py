"""Frames of a file, or facts about it, in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dualstream.errors import InputError
from dualstream.types import Frames
from dualstream.video.info import VideoInfo
from dualstream.video.reader import VideoReader

VARIABLE_RATE_SECONDS = 2.5e-3
"""Frame intervals that differ by more are a variable rate; Matroska's rounding gives 1 ms."""


def read_video(
    path: str | os.PathLike[str],
    *,
    indices: Sequence[int] | None = None,
    seconds: Sequence[float] | None = None,
    fps: float | None = None,
    count: int | None = None,
    num_threads: int = 1,
) -> Frames:
    """Frames of a video file: all of them, or those that one of the options picks.

    Args:
        path: file name or URL.
        indices: frames by number.
        seconds: frames on display at these times.
        fps: frames on display every 1 / fps seconds from the first one, stamped with those times.
        count: that many frames, evenly spaced.
        num_threads: threads that decode.

    Raises:
        InputError: more than one of the options, or one out of its range.
        VideoError: see `VideoReader`.
    """
    options = {"indices": indices, "seconds": seconds, "fps": fps, "count": count}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"Pass at most one of indices, seconds, fps and count; got {given}.")
    with VideoReader(path, num_threads=num_threads) as reader:
        if indices is not None:
            return reader.read(indices)
        if seconds is not None:
            return reader.read_at(seconds)
        if count is not None:
            return reader.read_evenly(count)
        if fps is not None:
            return reader.read_at_rate(fps)
        return reader.read_all()


def probe(path: str | os.PathLike[str], *, decode: bool = False) -> VideoInfo:
    """Facts about a video file.

    Args:
        path: file name or URL.
        decode: decode the whole file to count and time its frames.

    Raises:
        CorruptVideoError: no frame can be decoded; and the errors of `VideoReader`.
    """
    with VideoReader(path) as reader:
        info = reader.info
        if not decode:
            return info
        pts = reader.pts_seconds
        steps = np.diff(pts)
        last = float(steps.mean()) if len(steps) else 1 / info.fps
        return replace(
            info,
            num_frames_decoded=len(pts),
            num_frames_missing=reader.num_missing,
            duration_seconds_decoded=float(pts[-1] - pts[0]) + last,
            is_variable_frame_rate=bool(len(steps) and np.ptp(steps) > VARIABLE_RATE_SECONDS),
        )
