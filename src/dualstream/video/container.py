"""Opening files and URLs with FFmpeg, and saying clearly why one cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from dualstream.errors import CorruptVideoError, NoVideoStreamError, VideoError, VideoNotFoundError

VIDEO_SIGNATURES = (b"ftyp", b"moov", b"mdat", b"RIFF", b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba")
"""Beginnings of MP4 (three), AVI, Matroska and MPEG program files, within their first 16 bytes."""


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether FFmpeg shall open it by protocol ("rtsp://...") rather than as a local file."""
    scheme, separator, _ = os.fspath(path).partition("://")
    return bool(separator) and scheme.replace("+", "").isalnum()


def open_video(path: str | os.PathLike[str], *, num_threads: int) -> tuple[Any, Any]:
    """Open a file or URL.

    Args:
        path: file name, or URL, which goes to FFmpeg as it is.
        num_threads: threads that decode.

    Returns:
        The `av` container, and its first video stream that is not a cover picture.

    Raises:
        VideoNotFoundError: no such file.
        NoVideoStreamError: a folder, a file that is no media file, or audio only.
        CorruptVideoError: an empty file, or one whose structure is broken.
        VideoError: another failure of opening (permission, network).
    """
    name = os.fspath(path)
    if not is_url(name):
        _check_file(Path(name))
    try:
        # Some HMDB-51 files carry tags that are not UTF-8; they say nothing about the frames.
        container = av.open(name, metadata_errors="ignore")
    except (av.InvalidDataError, av.EOFError) as error:
        raise _unreadable(name) from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"Cannot open video {name!r}: {error}. Check that it can be reached and read."
        ) from error
    cover = av.stream.Disposition.attached_pic
    pictures = [stream for stream in container.streams.video if not stream.disposition & cover]
    # FFmpeg plays text files as terminal pictures ("tty"); nobody means that here.
    is_text = container.format.name == "tty"
    if is_text or not pictures:
        kinds = "text" if is_text else ", ".join(sorted({s.type for s in container.streams}))
        container.close()
        raise NoVideoStreamError(
            f"{name!r} has no video stream (found: {kinds or 'nothing'}). Pass a file with moving "
            f"pictures."
        )
    stream = pictures[0]
    stream.codec_context.thread_count = num_threads
    if num_threads > 1:
        stream.thread_type = "AUTO"
    return container, stream


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise NoVideoStreamError(f"{str(path)!r} is a folder. Pass one of the video files in it.")
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoNotFoundError(
            f"No video file at {str(path)!r}. Check the path; relative ones start from "
            f"{os.getcwd()!r}."
        ) from error
    # Devices and pipes have no size.
    if path.is_file() and not size:
        raise CorruptVideoError(f"{str(path)!r} is empty (0 bytes). Copy or download it again.")


def _unreadable(name: str) -> VideoError:
    """The error of data that FFmpeg refuses: damaged if it begins like a video, else foreign."""
    head = b""
    if not is_url(name):
        with open(name, "rb") as file:
            head = file.read(16)
    if not head or any(signature in head for signature in VIDEO_SIGNATURES):
        return CorruptVideoError(
            f"{name!r} is cut off or damaged: FFmpeg finds no readable video in it. Copy or "
            f"download it again."
        )
    return NoVideoStreamError(
        f"{name!r} is not a media file that FFmpeg knows (it begins with {head[:8]!r}). Pass a "
        f"video file."
    )


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of a stream from the container's present position; the last one is empty (flush).

    A file that is cut off simply ends where it cannot be read on.
    """
    try:
        yield from container.demux(stream)
    except av.InvalidDataError:
        return
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"Reading {container.name!r} failed: {error}. Check the disk or the connection."
        ) from error


def decode_packet(stream: Any, packet: Any | None) -> list[Any]:
    """Frames that the decoder gives for one packet, or for the end (None); none if damaged."""
    try:
        frames: list[Any] = stream.codec_context.decode(packet)
    except av.InvalidDataError:
        return []
    return frames


def decode_stream(container: Any, stream: Any) -> Iterator[Any]:
    """Frames from the container's present position to the end, in the order of showing."""
    for packet in packets_of(container, stream):
        yield from decode_packet(stream, packet)


def no_frame_error(path: str) -> CorruptVideoError:
    """The error of a stream that opens but of which nothing decodes."""
    return CorruptVideoError(
        f"No frame of {path!r} can be decoded: it is cut off or damaged. Copy or download it again."
    )
