"""Which frames a file holds and when they are shown, found without decoding where that is exact.

A demux pass reads the packets of the video stream. In MP4 and Matroska files every packet is one
frame and carries the time at which it is shown, so the sorted times are the frames. AVI stores no
such times: there the pictures in the packets of MPEG-4 part 2 (Xvid, DivX: UCF-101, HMDB-51) are
counted, and frames are known by their place from the start of the file. Every other mixture of
container and codec is indexed by decoding it once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import CorruptVideoError, InputError
from dualstream.video.container import packets_of
from dualstream.video.mpeg4 import PictureFinder, display_slots

PTS_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""FFmpeg's names of the containers that store when each frame is shown."""

ONE_FRAME_CODECS = frozenset(
    {"h264", "hevc", "av1", "vp9", "ffv1", "mjpeg", "prores", "dnxhd", "png", "rawvideo", "huffyuv"}
)
"""Codecs of which every packet in those containers shows exactly one frame."""

SEEK_COST_FRAMES = 4
"""A seek throws the decoder's state away; it must save this many frames to be worth it."""

CLOCK_ROUNDING_SECONDS = 1e-3
"""Matroska rounds times to milliseconds: a frame that starts this much late is still on time."""


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Frames of a stream in the order in which they are shown."""

    pts: NDArray[np.int64]
    """(F,) time of each frame in units of `time_base`, strictly increasing."""
    time_base: Fraction
    """Seconds of one unit."""
    keys: tuple[int, ...]
    """Positions (0 <= position < F) of the frames at which decoding can start; has 0."""
    by_count: bool
    """Frames are found by counting from the start, as their own times cannot be trusted."""

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """(F,) time of each frame in seconds of the stream's clock."""
        return self.pts * self.time_base.numerator / self.time_base.denominator


def index_packets(container: Any, stream: Any) -> FrameIndex | None:
    """Index the frames by a demux pass, from the container's present position to its end.

    Returns:
        The index, or None where only decoding can tell the frames.
    """
    codec = stream.codec_context.codec.canonical_name
    stores_pts = container.format.name in PTS_FORMATS
    is_mpeg4 = codec == "mpeg4" and (stores_pts or container.format.name == "avi")
    if not is_mpeg4 and not (stores_pts and codec in ONE_FRAME_CODECS):
        return None
    finder = PictureFinder(stream.codec_context.extradata or b"") if is_mpeg4 else None
    pts: list[int] = []
    dts: list[int] = []
    keys: list[int] = []
    pictures: list[str] = []
    for packet in packets_of(container, stream):
        if not packet.size or packet.is_discard:
            continue
        if packet.is_corrupt or packet.pts is None:
            return None
        if packet.is_keyframe:
            keys.append(len(pts))
        pts.append(packet.pts)
        dts.append(packet.pts if packet.dts is None else packet.dts)
        if finder is not None:
            pictures.append(finder.find(bytes(packet)))
    if not pts:
        return None
    plain = all(len(found) == 1 for found in pictures)
    if plain and (stores_pts or pts == dts):
        return timed_index(pts, keys, time_base=stream.time_base)
    slots = display_slots(pictures)
    if stores_pts or not slots:
        return None
    return counted_index([dts[slot] for slot in slots], stream.time_base)


def timed_index(
    pts: Sequence[int], keys: Sequence[int], *, time_base: Fraction
) -> FrameIndex | None:
    """Index of packets (in decoding order) that carry their times.

    Args:
        pts: time of each packet's frame.
        keys: packets at which decoding can start.
        time_base: seconds of one unit.

    Returns:
        The index, or None where two frames have the same time.
    """
    times = np.asarray(pts, np.int64)
    shown = np.sort(times)
    if (np.diff(shown) <= 0).any():
        return None
    positions = np.searchsorted(shown, times[list(keys)]).tolist()
    # What a stream shows before its first key frame is decoded from its first packet, if at all.
    return FrameIndex(
        pts=shown, time_base=time_base, keys=tuple(sorted({0, *positions})), by_count=False
    )


def counted_index(pts: Sequence[int], time_base: Fraction) -> FrameIndex:
    """Index of frames that are found by counting from the start of the file."""
    return FrameIndex(
        pts=strictly_increasing(np.asarray(pts, np.int64)),
        time_base=time_base,
        keys=(0,),
        by_count=True,
    )


def strictly_increasing(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same times with each one at least 1 above the one before: (0, 2, 2, 1) -> 0, 2, 3, 4."""
    steps = np.arange(len(pts), dtype=np.int64)
    return np.maximum.accumulate(pts - steps) + steps


def decode_runs(
    wanted: Sequence[int], keys: Sequence[int], *, seek_cost: int = SEEK_COST_FRAMES
) -> list[tuple[int, tuple[int, ...]]]:
    """Split wanted positions into runs, each decoded in one go from a key frame.

    Args:
        wanted: positions in rising order without repeats.
        keys: positions of key frames in rising order, the first is 0.
        seek_cost: frames that a seek must save.

    Returns:
        One (key frame, its wanted positions) for each run. A run ends where the next wanted
        position has a key frame before it by which at least `seek_cost` frames are saved:
        wanted (3, 5, 99), keys (0, 50), cost 4 -> (0, (3, 5)), (50, (99,)).
    """
    runs: list[tuple[int, list[int]]] = []
    key_array = np.asarray(keys)
    for position in wanted:
        key = int(key_array[np.searchsorted(key_array, position, side="right") - 1])
        if runs and key - (runs[-1][1][-1] + 1) < seek_cost:
            runs[-1][1].append(position)
        else:
            runs.append((key, [position]))
    return [(key, tuple(positions)) for key, positions in runs]


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


def check_positions(
    positions: Sequence[int], num_frames: int, *, promised: int, source: str
) -> None:
    """Raise unless every position is one of a file's frames.

    Args:
        positions: frames asked for.
        num_frames: frames that the file holds.
        promised: frames that its header tells of.
        source: the file, for the message.

    Raises:
        CorruptVideoError: the header promises a frame that is not there.
        InputError: a position below 0, or beyond what anyone promised.
    """
    bad = next((position for position in positions if not 0 <= position < num_frames), None)
    if bad is None:
        return
    if 0 <= bad < promised:
        raise CorruptVideoError(
            f"Frame {bad} of {source!r} is missing: its header tells of {promised} frames, "
            f"{num_frames} can be decoded. The file is cut off or damaged: copy or download it "
            f"again, or ask for frames below {num_frames}."
        )
    raise InputError(
        f"Frame {bad} of {source!r} does not exist: its frames are 0..{num_frames - 1}."
    )
