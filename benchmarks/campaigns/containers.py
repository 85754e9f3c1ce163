"""Short videos in every container and codec that PyAV's FFmpeg writes here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import VideoError
from dualstream.video import read_video
from dualstream.video.scheduling import kept_scheduling

from .children import Child

FORMATS = (
    *("mp4", "mov", "3gp", "3g2", "ismv", "f4v", "psp", "ipod", "matroska", "webm", "avi"),
    *("mpegts", "mpeg", "vob", "dvd", "svcd", "vcd", "mpeg1video", "mpeg2video", "m4v", "flv"),
    *("asf", "ogg", "ogv", "rm", "mxf", "mxf_d10", "mxf_opatom", "gxf", "nut", "dv", "wtv", "swf"),
    *("avm2", "ivf", "obu", "h261", "h263", "h264", "hevc", "vc1", "vvc", "cavsvideo", "dirac"),
    *("yuv4mpegpipe", "gif", "apng", "webp", "mjpeg", "mpjpeg", "smjpeg", "avif", "amv", "roq"),
    *("filmstrip", "film_cpk", "fits", "dnxhd", "image2pipe", "ico", "rawvideo", "nsv", "evc"),
)
"""FFmpeg's muxers of pictures; those that are not read here must be refused."""

HARDWARE = ("_amf", "_nvenc", "_qsv", "_v4l2m2m")

NUM_FRAMES, HEIGHT, WIDTH = 8, 48, 64

SIZES = {
    "h261": (144, 176),
    "h263": (144, 176),
    "dvvideo": (576, 720),
    "dnxhd": (720, 1280),
    "roqvideo": (64, 64),
}
"""Encoder -> (H, W), where it takes few sizes only."""

OPTIONS = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"},
    "libsvtav1": {"preset": "13"},
    "av1": {"cpu-used": "8"},
}


def encoders() -> list[str]:
    """Encoders of pictures that need no hardware."""
    found = []
    for name in sorted(av.codecs_available):
        try:
            codec = av.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:
            continue
        if codec.type == "video" and not name.endswith(HARDWARE) and name != "vnull":
            found.append(name)
    return found


def moving_square(num_frames: int, height: int, width: int) -> NDArray[np.uint8]:
    """(T, H, W, 3) of a textured square that moves right by 2 px a frame."""
    texture = np.random.default_rng(7).integers(40, 255, (20, 20, 3), dtype=np.uint8)
    frames = np.full((num_frames, height, width, 3), 30, np.uint8)
    for t in range(num_frames):
        left = (8 + 2 * t) % (width - 20)
        frames[t, 12:32, left : left + 20] = texture
    return frames


def encode(case: dict[str, str]) -> bool:
    """Write one short video, in a child; returns whether the package reads it.

    Args:
        case: `format`, `encoder` and the `path` to write.
    """
    encoder = case["encoder"]
    height, width = SIZES.get(encoder, (HEIGHT, WIDTH))
    options = {"fflags": "+bitexact"}
    with (
        kept_scheduling(),
        av.open(case["path"], "w", format=case["format"], container_options=options) as container,
    ):
        stream: Any = container.add_stream(encoder, rate=25)
        stream.width, stream.height = width, height
        known = [f.name for f in (av.Codec(encoder, "w").video_formats or [])]
        stream.pix_fmt = "yuv420p" if not known or "yuv420p" in known else known[0]
        if encoder == "dnxhd":
            stream.pix_fmt, stream.bit_rate = "yuv422p", 60_000_000
        stream.codec_context.thread_count = 1
        stream.options = {"flags": "+bitexact", **OPTIONS.get(encoder, {})}
        for number, image in enumerate(moving_square(NUM_FRAMES, height, width)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    try:
        return len(read_video(case["path"]).data) > 0
    except VideoError:
        return False


def write_sources(
    folder: Path,
    *,
    formats: Sequence[str] = FORMATS,
    only_encoders: Sequence[str] | None = None,
) -> dict[str, bool]:
    """Write a video for each container and encoder that go together.

    A second call finds them there.

    Returns:
        Name, which is `FORMAT.ENCODER`, -> whether the package reads it; sorted.
    """
    listing = folder / "sources.json"
    if listing.is_file():
        names: dict[str, bool] = json.loads(listing.read_text())
        return names
    folder.mkdir(parents=True, exist_ok=True)
    names = dict(sorted(_written(folder, formats, only_encoders or encoders())))
    listing.write_text(json.dumps(names, indent=0))
    return names


def _written(
    folder: Path, formats: Sequence[str], only_encoders: Sequence[str]
) -> Iterator[tuple[str, bool]]:
    writable = [name for name in formats if name in av.formats_available]
    with Child(f"{__name__}:encode", log=folder / "encode.log", cpu_seconds=30) as child:
        for encoder in only_encoders:
            for format_name in writable:
                path = folder / f"{format_name}.{encoder}"
                case = {"format": format_name, "encoder": encoder, "path": str(path)}
                answer = child.ask(case)
                if answer.verdict == "read" and path.stat().st_size:
                    yield path.name, answer.detail
                else:
                    path.unlink(missing_ok=True)


def digest(data: bytes) -> str:
    """First 16 digits of the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]
