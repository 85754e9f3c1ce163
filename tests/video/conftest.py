"""Tiny real video files of every kind, written by the tests themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def drifting_texture(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(T, H, W, 3) smooth colours that move 3 px a frame: no two frames are alike."""
    rng = np.random.default_rng(5)
    coarse = rng.uniform(20, 235, (height // 8 + 2, width // 4 + 2, 3))
    smooth = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)
    for axis in (0, 1):
        smooth = sum(np.roll(smooth, shift, axis) for shift in range(-4, 5)) / 9
    texture = smooth[:height].astype(np.uint8)
    return np.stack([np.roll(texture, -3 * t, axis=1)[:, :width] for t in range(num_frames)])


@pytest.fixture(scope="session")
def texture() -> Callable[..., np.ndarray]:
    return drifting_texture


@pytest.fixture
def encode(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes frames with any FFmpeg encoder and returns the file's path."""

    def write(
        name: str,
        frames: np.ndarray,
        *,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        options: dict[str, str] | None = None,
        key_frame_interval: int | None = None,
        b_frames: int | None = None,
        pts: Sequence[int] | None = None,
        time_base: Fraction = Fraction(1, 25),
        container_options: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
        is_interlaced: bool = False,
        colorspace: int | None = None,
        color_range: int | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options=container_options or {}) as container:
            container.metadata.update(metadata or {})
            stream = container.add_stream(codec, rate=25, options=options or {})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = pixel_format
            context = stream.codec_context
            context.time_base = time_base
            if key_frame_interval is not None:
                context.gop_size = key_frame_interval
            if b_frames is not None:
                context.max_b_frames = b_frames
            if is_interlaced:
                context.flags |= av.codec.context.Flags.interlaced_dct
            if colorspace is not None:
                context.colorspace = colorspace
            if color_range is not None:
                context.color_range = color_range
            for number, rgb in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                if pixel_format != "rgb24":
                    frame = frame.reformat(
                        format=pixel_format, dst_colorspace=colorspace, dst_color_range=color_range
                    )
                frame.pts = number if pts is None else pts[number]
                frame.time_base = time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write
