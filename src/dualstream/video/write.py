"""Frames to a video file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from dualstream.errors import (
    DualstreamError,
    InputError,
    ShapeError,
    VideoError,
    check_choice,
    check_least,
)
from dualstream.files import replacing
from dualstream.video.times import TimedImage, check_rate

TICKS_A_SECOND = 90_000
"""Clock of `write_timed_video`: what MPEG's systems layer counts in (ISO/IEC 13818-1)."""

WriteCodec = Literal["libx264", "mpeg4", "ffv1"]
"""Encoders of `write_video`: H.264, MPEG-4 part 2, and lossless FFV1 (RGB, for .mkv and .avi)."""

TIMED_SUFFIXES = (".mp4", ".mov", ".mkv")
"""Of containers that hold a time for each frame."""

_TickedImage = tuple[NDArray[np.uint8], int]
"""(H, W, 3) RGB bytes and their time in units of the time base."""


def write_video(
    path: str | os.PathLike[str],
    frames: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    *,
    fps: float,
    crf: int = 18,
    codec: WriteCodec = "libx264",
    preset: str = "veryfast",
    key_frame_interval: int | None = None,
) -> None:
    """Write frames as a video file; the suffix of `path` chooses the container.

    The file appears under its name only when it is complete. Frames of even size are stored
    as yuv420p, of odd size as yuv444p (libx264), so that every size is read back unchanged.

    Args:
        path: file to write; its folder is made.
        frames: (T, H, W, 3) RGB bytes, or any iterable of (H, W, 3) RGB bytes.
        fps: frames a second, above 0.
        crf: quality of libx264, 0 (lossless but for the colour conversion) to 51; the
            quantiser 2 is used for mpeg4; ffv1 is lossless.
        codec: encoder.
        preset: speed preset of libx264.
        key_frame_interval: largest distance of two key frames; None is the encoder's default.

    Raises:
        ShapeError: a frame is not (H, W, 3) uint8, or differs in size from the first.
        InputError: no frames, a number out of its range, or a suffix of no container.
        UnknownNameError: another codec.
        DiskError: the disk is full, or refuses the file.
        VideoError: the encoder or the container refuses.
    """
    if key_frame_interval is not None:
        check_least(1, key_frame_interval=key_frame_interval)
    _write(
        Path(path),
        ((frame, number) for number, frame in enumerate(frames)),
        fps=fps,
        crf=crf,
        codec=codec,
        preset=preset,
        key_frames=key_frame_interval,
    )


def write_timed_video(
    path: str | os.PathLike[str],
    frames: Iterable[TimedImage],
    *,
    fps: float,
    crf: int = 18,
    preset: str = "veryfast",
) -> None:
    """Write frames that have their own times as an H.264 file; else as `write_video`.

    Whatever the rate varies by, each frame is shown from its time on, to 1/90000 s (in .mkv to a
    millisecond). One frame is held at a time.

    Args:
        path: .mp4, .mov or .mkv file to write.
        frames: (H, W, 3) RGB bytes and their seconds from 0 on, rising; `VideoReader.images`
            gives such.
        fps: mean frames a second, above 0, which the encoder reckons with.
        crf: see `write_video`.
        preset: see `write_video`.

    Raises:
        InputError: a suffix of a container without times, times that do not rise, or below 0; and
            the errors of `write_video`.
    """
    if Path(path).suffix.lower() not in TIMED_SUFFIXES:
        raise InputError(
            f"{os.fspath(path)}: of frames with times of their own an .mp4, .mov or .mkv file is "
            "made; give such a name."
        )
    _write(Path(path), _with_ticks(frames), fps=fps, crf=crf, preset=preset, is_timed=True)


def _with_ticks(frames: Iterable[TimedImage]) -> Iterator[_TickedImage]:
    before = -1
    for number, (image, seconds) in enumerate(frames):
        ticks = round(seconds * TICKS_A_SECOND)
        if ticks <= before:
            raise InputError(
                f"Times of frames must rise from 0 on; frame {number} is at {seconds:g} s, the "
                f"one before at {before / TICKS_A_SECOND:g} s."
            )
        before = ticks
        yield image, ticks


def _write(
    target: Path,
    frames: Iterable[_TickedImage],
    *,
    fps: float,
    crf: int,
    preset: str,
    codec: WriteCodec = "libx264",
    key_frames: int | None = None,
    is_timed: bool = False,
) -> None:
    """Write frames. A tick is 1 / `TICKS_A_SECOND` s of timed ones, else 1 / fps."""
    check_choice("codec", codec, WriteCodec)
    check_rate(fps)
    if not 0 <= crf <= 51:
        raise InputError(f"crf must lie in 0..51, got {crf}.")
    checked = _checked_frames(frames)
    first = next(checked, None)
    if first is None:
        raise InputError(f"No frames to write to {str(target)!r}; pass at least one.")
    rate = Fraction(fps).limit_denominator(1001)
    time_base = Fraction(1, TICKS_A_SECOND) if is_timed else 1 / rate
    try:
        with (
            replacing(target, keep_suffix=True) as temporary,
            _open_container(temporary, target) as container,
        ):
            try:
                stream = container.add_stream(codec, rate=rate)
            except ValueError as error:
                raise _refused(target, codec, error) from error
            _set_up(stream, codec=codec, size=first[0].shape[:2], key_frames=key_frames)
            stream.codec_context.time_base = time_base
            if codec == "libx264":
                # With its look-ahead tree and several threads x264 gives other bytes each time.
                stream.options = {"crf": str(crf), "preset": preset, "x264-params": "mbtree=0"}
                stream.codec_context.thread_count = 1
            _encode(container, stream, chain([first], checked), time_base=time_base)
    except DualstreamError:
        raise
    except (av.FFmpegError, OSError) as error:
        raise _refused(target, codec, error) from error


def _refused(target: Path, codec: WriteCodec, error: Exception) -> VideoError:
    return VideoError(
        f"Cannot write {str(target)!r} with {codec}: {error}. Check that the container takes "
        f"this codec, the preset, and that the folder is writable with space left."
    )


def _open_container(temporary: Path, target: Path) -> Any:
    try:
        return av.open(str(temporary), "w")
    except ValueError as error:
        raise InputError(
            f"The suffix of {str(target)!r} names no container; use .mp4, .mkv or .avi."
        ) from error


def _checked_frames(frames: Iterable[_TickedImage]) -> Iterator[_TickedImage]:
    """Frames one by one, each (H, W, 3) uint8 of the first one's size."""
    size = None
    for number, (frame, ticks) in enumerate(frames):
        if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size or frame.dtype != np.uint8:
            raise ShapeError(
                f"Frame {number} must be (H, W, 3) uint8, got {frame.shape} {frame.dtype}."
            )
        size = size or frame.shape
        if frame.shape != size:
            raise ShapeError(f"Frame {number} is {frame.shape}, the first one was {size}.")
        yield frame, ticks


def _set_up(stream: Any, *, codec: str, size: tuple[int, ...], key_frames: int | None) -> None:
    height, width = size
    stream.width, stream.height = width, height
    if codec == "ffv1":
        stream.pix_fmt = "bgr0"
    else:
        odd = height % 2 or width % 2
        stream.pix_fmt = "yuv444p" if odd and codec == "libx264" else "yuv420p"
        # Readers guess the colour matrix of an untagged file by its size, so tag it.
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG
    if codec == "mpeg4":
        stream.codec_context.qmin = stream.codec_context.qmax = 2
    if key_frames is not None:
        stream.codec_context.gop_size = key_frames


def _encode(
    container: Any, stream: Any, frames: Iterable[_TickedImage], *, time_base: Fraction
) -> None:
    reformatter = VideoReformatter()
    for rgb, ticks in frames:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        if stream.pix_fmt != "bgr0":
            frame = reformatter.reformat(
                frame,
                format=stream.pix_fmt,
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
            )
        frame.pts = ticks
        frame.time_base = time_base
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
