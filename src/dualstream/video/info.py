"""Facts about a video file: those that it claims and those that decoding finds, kept apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from dualstream.video.orientation import layout_of
from dualstream.video.times import DEFAULT_FPS

VARIABLE_RATE_SECONDS = 2.5e-3
"""Frame intervals that differ by more are a variable rate; Matroska's rounding gives 1 ms."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video stream: `_from_header` is claimed by the file, `_decoded` was counted."""

    path: str
    codec: str
    pixel_format: str
    width: int
    """Pixels as displayed, after rotation."""
    height: int
    rotation_degrees: int
    """0, 90, 180 or 270: clockwise turn that display needs; reading applies it."""
    fps_from_header: float | None
    num_frames_from_header: int | None
    duration_seconds_from_header: float | None
    has_audio: bool
    num_frames_decoded: int | None = None
    """Frames that are read; None, as the next three, unless asked for by `probe(decode=True)`."""
    num_frames_missing: int | None = None
    """Pictures that the file holds or promises and that do not decode."""
    duration_seconds_decoded: float | None = None
    """Time from the start of the first frame to the end of the last."""
    is_variable_frame_rate: bool | None = None

    @property
    def fps(self) -> float:
        """Mean rate of the decoded frames, else the header's rate, else 25."""
        if self.num_frames_decoded and self.duration_seconds_decoded:
            return self.num_frames_decoded / self.duration_seconds_decoded
        return self.fps_from_header or DEFAULT_FPS

    @property
    def missing_share(self) -> float:
        """Share (0..1) of the pictures that do not decode; 0 where nothing was decoded to tell."""
        missing = self.num_frames_missing or 0
        return missing / max(1, missing + (self.num_frames_decoded or 0))


def header_info(container: Any, stream: Any, path: str, first: Any) -> VideoInfo:
    """Facts of an open stream; its first decoded frame carries rotation and pixel format."""
    layout = layout_of(first)
    height, width = layout.shown_size
    seconds = None
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / av.time_base
    return VideoInfo(
        path=path,
        codec=stream.codec_context.codec.canonical_name,
        pixel_format=first.format.name,
        width=width,
        height=height,
        rotation_degrees=layout.orientation.rotation_degrees,
        fps_from_header=float(stream.average_rate) if stream.average_rate else None,
        num_frames_from_header=stream.frames or None,
        duration_seconds_from_header=seconds,
        has_audio=bool(container.streams.audio),
    )


def with_decoded(
    info: VideoInfo, pts_seconds: NDArray[np.float64], *, num_missing: int
) -> VideoInfo:
    """The same facts with those that the (F,) times of all decoded frames tell, F at least 1."""
    steps = np.diff(pts_seconds)
    last = float(steps.mean()) if len(steps) else 1 / info.fps
    return replace(
        info,
        num_frames_decoded=len(pts_seconds),
        num_frames_missing=num_missing,
        duration_seconds_decoded=float(pts_seconds[-1] - pts_seconds[0]) + last,
        is_variable_frame_rate=bool(len(steps) and np.ptp(steps) > VARIABLE_RATE_SECONDS),
    )
