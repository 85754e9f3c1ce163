"""Opening files and URLs with FFmpeg, and saying clearly why one cannot be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from dualstream.errors import CorruptVideoError, NoVideoStreamError, VideoError, VideoNotFoundError

VIDEO_SIGNATURES = (b"ftyp", b"moov", b"mdat", b"RIFF", b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba")
"""Beginnings of MP4 (three), AVI, Matroska and MPEG program files, within their first 16 bytes."""

LOCAL_FORMATS = (
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "mpegvideo", "m4v"),
    *("flv", "asf", "ogg", "rm", "mxf", "gxf", "nut", "nsv", "dv", "wtv", "swf", "ivf", "obu"),
    *("av1", "dhav", "cine"),
    *("h261", "h263", "h264", "hevc", "vvc", "vc1", "cavsvideo", "dirac", "yuv4mpegpipe"),
    *("gif", "apng", "webp_pipe", "jpeg_pipe", "png_pipe", "bmp_pipe", "mjpeg", "mpjpeg"),
    *("wav", "mp3", "aac", "flac", "aiff", "ac3", "caf"),
)
"""FFmpeg's names of the containers that a local file may be: those that hold what they show.

Playlists, scripts and patterns of names (hls, dash, concat, sdp, image2, ...) are not among them,
so that a file in a data set cannot have another file or an address read. Audio is here to be
told apart from what is no media file.
"""

UNINITIALISED_CODECS = frozenset({"mjpeg"})
"""Codecs of which FFmpeg leaves parts of damaged pictures as memory happened to be; such pictures
are refused."""

UNSAFE_CODECS = frozenset({"flashsv"})
"""Codecs of which FFmpeg shows such parts without any sign of damage, another picture each time;
they are not read at all. (Screen recordings in Flash; its second version is sound.)"""

SILENT_CODECS = frozenset({"hevc"})
"""Codecs of which FFmpeg patches damaged pictures up without marking them as corrupt."""


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether FFmpeg opens it by protocol ("rtsp://...") rather than as a local file."""
    scheme, separator, _ = os.fspath(path).partition("://")
    return bool(separator) and scheme.replace("+", "").isalnum()


def camera_format(name: str) -> tuple[str, str] | None:
    """Name and FFmpeg format of a camera of this machine: "0" or "/dev/video0"; None for others."""
    number = name.removeprefix("/dev/video")
    if not (number.isascii() and number.isdigit()):
        return None
    if sys.platform == "darwin":
        return number, "avfoundation"
    if sys.platform == "win32":
        return f"video={number}", "dshow"
    return f"/dev/video{number}", "video4linux2"


def open_video(
    path: str | os.PathLike[str],
    *,
    num_threads: int,
    tells_damage: bool = False,
    timeout_seconds: float | None = None,
) -> tuple[Any, Any]:
    """Open a file, URL or camera.

    Args:
        path: name of a local file, whatever letters it has, a URL, which goes to FFmpeg as it
            is and may be a playlist, or a camera (see `camera_format`).
        num_threads: threads that decode.
        tells_damage: have every damaged picture refused, or marked as corrupt.
        timeout_seconds: how long a source may send nothing; None waits for ever.

    Returns:
        The `av` container, and its first video stream that is not a cover picture.

    Raises:
        VideoNotFoundError: no such file.
        NoVideoStreamError: a folder, audio only, a playlist or script, or no media file.
        CorruptVideoError: an empty file, or one whose structure is broken.
        VideoError: a codec that FFmpeg does not know, or one of `UNSAFE_CODECS`, or another
            failure of opening.
    """
    name = os.fspath(path)
    camera = None if Path(name).is_file() else camera_format(name)
    if camera is not None or is_url(name):
        target, options = camera[0] if camera else name, {}
    else:
        _check_file(Path(name))
        # Without "file:" FFmpeg takes what stands before a colon for a protocol.
        target = f"file:{name}"
        options = {"format_whitelist": ",".join(LOCAL_FORMATS), "protocol_whitelist": "file"}
    try:
        # Some HMDB-51 files carry tags that are not UTF-8; they say nothing about the frames.
        container = av.open(
            target,
            format=camera[1] if camera else None,
            metadata_errors="ignore",
            container_options=options,
            timeout=timeout_seconds,
        )
    except av.FileNotFoundError as error:
        raise VideoNotFoundError(f"No camera or stream at {name!r}. Check its name.") from error
    except (av.InvalidDataError, av.EOFError, av.ArgumentError) as error:
        raise _unreadable(name) from error
    except Exception as error:
        raise video_error(name, error, doing="open") from error
    cover = av.stream.Disposition.attached_pic
    pictures = [stream for stream in container.streams.video if not stream.disposition & cover]
    known = [stream for stream in pictures if stream.codec_context is not None]
    if not known:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        container.close()
        if pictures:
            raise VideoError(
                f"{name!r} is coded in a way that FFmpeg does not know. Convert it to H.264."
            )
        raise NoVideoStreamError(
            f"{name!r} has no video stream (found: {kinds}). Pass a file with moving pictures."
        )
    stream = known[0]
    if (codec := stream.codec_context.codec.canonical_name) in UNSAFE_CODECS:
        container.close()
        raise VideoError(
            f"{name!r} is coded as {codec}, of which FFmpeg shows bits of memory where a picture "
            "is damaged. Convert it to H.264."
        )
    stream.codec_context.thread_count = num_threads
    if num_threads > 1:
        stream.thread_type = "AUTO"
    refusing = UNINITIALISED_CODECS | SILENT_CODECS if tells_damage else UNINITIALISED_CODECS
    if stream.codec_context.name in refusing:
        stream.codec_context.options = {"err_detect": "explode"}
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
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
        raise video_error(str(path), error, doing="open") from error
    # Devices and pipes have no size.
    if path.is_file() and not size:
        raise CorruptVideoError(f"{str(path)!r} is empty (0 bytes). Copy or download it again.")


def _unreadable(name: str) -> VideoError:
    """The error of data that FFmpeg refuses: damaged if it begins like a video, else foreign."""
    head = b""
    if not is_url(name):
        try:
            with open(name, "rb") as file:
                head = file.read(16)
        except OSError as error:
            return video_error(name, error, doing="open")
    if not head or any(signature in head for signature in VIDEO_SIGNATURES):
        return CorruptVideoError(
            f"{name!r} is cut off or damaged: FFmpeg finds no readable video in it. Copy or "
            f"download it again."
        )
    return NoVideoStreamError(
        f"{name!r} is not a media file that is read from disk (it begins with {head[:8]!r}; "
        f"playlists are only followed from a URL). Pass a video file."
    )


def video_error(name: str, error: Exception, *, doing: str) -> VideoError:
    """The package's error for whatever PyAV raised on a file: the file and what FFmpeg said."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, av.ExitError):  # the callback that watches the clock stopped FFmpeg
        said = "it has sent nothing for too long"
    return VideoError(
        f"Cannot {doing} video {name!r}: {said}. Check the file, the disk and the connection; "
        f"copy or download it again."
    )


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of a stream from the container's present position; the last one is empty (flush).

    A file that is cut off simply ends where it cannot be read on.

    Raises:
        VideoError: reading fails in another way.
    """
    try:
        yield from container.demux(stream)
    except av.InvalidDataError:
        return
    except Exception as error:  # also PyAV's IndexError where streams appear in mid-file
        raise video_error(name_of(container), error, doing="read") from error


def decode_packet(stream: Any, packet: Any | None) -> list[Any]:
    """Frames that the decoder gives for one packet, or for the end (None).

    Raises:
        DamagedPacketError: the packet's data are damaged.
    """
    try:
        frames: list[Any] = stream.codec_context.decode(packet)
    except Exception as error:
        name = name_of(stream.container)
        # What decoders say of damaged data is anything from "invalid data" to "not implemented".
        # Raw pictures have nothing to damage: their size is not the one that the file tells.
        if isinstance(error, av.FFmpegError) and stream.codec_context.name != "rawvideo":
            raise DamagedPacketError(f"A picture of {name!r} is damaged ({error}).") from error
        raise video_error(name, error, doing="decode") from error
    return frames


class DamagedPacketError(CorruptVideoError):
    """A packet that the decoder refuses; those after it may be sound."""


def name_of(container: Any) -> str:
    """Name that the container was opened by."""
    name: str = container.name
    return name.removeprefix("file:") if not is_url(name) else name


def no_frame_error(path: str) -> CorruptVideoError:
    """The error of a stream that opens but of which nothing decodes."""
    return CorruptVideoError(
        f"No frame of {path!r} can be decoded: it is cut off or damaged. Copy or download it again."
    )
