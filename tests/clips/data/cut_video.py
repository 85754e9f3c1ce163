"""A video of which a third cannot be decoded."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def cut_video(path: Path) -> Path:
    """H.264 in Matroska, 17 pictures of a group whose first one is cut off, then 30 others."""
    frames = np.random.default_rng(0).integers(0, 255, (50, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w", format="matroska") as container:
        options = {"g": "20", "keyint_min": "20", "bf": "0", "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = [
            packet
            for frame in [*map(av.VideoFrame.from_ndarray, frames), None]
            for packet in stream.encode(frame)
        ]
        for packet in packets[3:]:
            container.mux(packet)
    return path
