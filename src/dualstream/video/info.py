"""Facts about a video file, claimed and found by decoding, and how its pictures are turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from dualstream.video.times import DEFAULT_FPS


@dataclass(frozen=True)
class Orientation:
    """A picture is transposed first (if at all), then mirrored."""

    transpose: bool = False
    mirror_x: bool = False
    """Left and right change places."""
    mirror_y: bool = False
    """Top and bottom change places."""

    @property
    def rotation_degrees(self) -> int:
        """Clockwise turn: 0, 90, 180 or 270. Of a mirrored picture, the turn besides the mirror."""
        if self.transpose:
            return 90 if self.mirror_x else 270
        return 180 if self.mirror_y else 0

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """Turn (H, W, ...) to the displayed (H', W', ...), as a view."""
        if self.transpose:
            image = image.swapaxes(0, 1)  # (H, W, ...) -> (W, H, ...)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def orientation_of_matrix(matrix: Sequence[int]) -> Orientation:
    """Nearest multiple of a quarter turn, with mirror, of a display matrix.

    Args:
        matrix: 9 numbers (a b u c d v x y w): the pixel (x, y) is shown at
            (a x + c y, b x + d y), y down. A quarter turn clockwise is a = d = 0, b = 1, c = -1.

    Source:
        ISO/IEC 14496-12, section 8.3.2 (track header box); FFmpeg, libavutil/display.h.
    """
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(transpose=False, mirror_x=a < 0, mirror_y=d < 0)
    return Orientation(transpose=True, mirror_x=c < 0, mirror_y=b < 0)


class Layout(NamedTuple):
    """Size and orientation of a picture; those of a file's first picture hold for all."""

    orientation: Orientation
    width: int
    """Pixels as coded, before it is turned."""
    height: int

    @property
    def shown_size(self) -> tuple[int, int]:
        """(H, W) as displayed."""
        if self.orientation.transpose:
            return self.width, self.height
        return self.height, self.width


def layout_of(frame: Any) -> Layout:
    """Layout of a decoded `av.VideoFrame`; its display matrix, if it has one, turns it."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    orientation = Orientation()
    if matrix is not None:
        orientation = orientation_of_matrix(np.frombuffer(bytes(matrix), np.int32).tolist())
    return Layout(orientation, frame.width, frame.height)


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
    start_seconds_from_header: float = 0.0
    """Time of the file's clock at which its first stream starts; players show it as 0."""
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
        start_seconds_from_header=(container.start_time or 0) / av.time_base,
    )
