"""Videos of unknown origin: looked at by their header before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import av
import numpy as np
from numpy.typing import NDArray

from dualstream.serve.refusal import RefusedError
from dualstream.serve.settings import Limits
from dualstream.types import Frames
from dualstream.video import VideoReader
from dualstream.video.container import open_video
from dualstream.video.source import FrameSource


def check_header(path: str, name: str, limits: Limits) -> float:
    """Check what a video's header claims, decode its first frame, and return its length.

    Returns:
        Seconds; 0 where the header does not tell.

    Raises:
        RefusedError: it is larger or longer than the limits.
        VideoError: it is no video.
    """
    container, stream = open_video(path, num_threads=1)
    with closing(container):
        coded = stream.codec_context
        _check_size(name, coded.width, coded.height, limits)
        seconds = 0.0
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration:
            seconds = container.duration / av.time_base
        _check_length(name, seconds, stream.frames, limits)
    with VideoReader(path) as video:
        _check_size(name, video.info.width, video.info.height, limits)
    return max(seconds, 0.0)


@contextmanager
def checked_video(path: str, name: str, limits: Limits) -> Iterator[VideoReader]:
    """Open a video that keeps the limits: those of its header, then of its list of frames.

    Raises:
        RefusedError, VideoError: as `check_header`.
    """
    check_header(path, name, limits)
    with VideoReader(path) as video:
        pts_seconds = video.pts_seconds
        _check_length(name, float(pts_seconds[-1] - pts_seconds[0]), len(pts_seconds), limits)
        yield video


def _check_size(name: str, width: int, height: int, limits: Limits) -> None:
    if max(width, height) > limits.side_px:
        raise RefusedError(
            "too-large",
            f"{name!r} has pictures of {width} x {height} pixels; the longer side may have "
            f"{limits.side_px} (--max-side). Send it smaller.",
        )


def _check_length(name: str, seconds: float, num_frames: int, limits: Limits) -> None:
    if seconds > limits.video_seconds:
        raise RefusedError(
            "too-large",
            f"{name!r} has {seconds:.0f} seconds; the limit of this service is "
            f"{limits.video_seconds:g} (--max-seconds). Send it in parts.",
        )
    if num_frames > limits.frames:
        raise RefusedError(
            "too-large",
            f"{name!r} claims {num_frames} frames; the limit of this service is {limits.frames}. "
            "Send it in parts.",
        )


class WatchedFrames:
    """Frames of a video that tell each time that they are read.

    Args:
        source: of the frames.
        on_read: called with the highest number that is read; what it raises ends the reading.
    """

    def __init__(self, source: FrameSource, on_read: Callable[[int], None]) -> None:
        self._source, self._on_read = source, on_read

    @property
    def name(self) -> str:
        """Of the file."""
        return self._source.name

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self._source.size

    @property
    def fps(self) -> float:
        """Mean frames a second."""
        return self._source.fps

    @property
    def available(self) -> range:
        """Numbers of the frames."""
        return self._source.available

    def seconds_of(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """(n,) presentation times of frames by number."""
        return self._source.seconds_of(indices)

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames by number, when that was told."""
        self._on_read(max(indices, default=0))
        return self._source.read(indices)
