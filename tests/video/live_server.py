"""A stream over a local TCP socket, sent at its own pace or faster, for tests of live sources."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def transport_stream(path: Path) -> bytes:
    """The H.264 packets of a file as an MPEG transport stream, which can be sent as it is."""
    target = io.BytesIO()
    with av.open(str(path)) as source, av.open(target, "w", format="mpegts") as out:
        video = source.streams.video[0]
        copy = out.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    return target.getvalue()


def encoded(parts: Sequence[NDArray[np.uint8]], *, fps: int = 25) -> bytes:
    """Pictures (T, H, W, 3) of one size each, one after the other, as a transport stream."""
    target = io.BytesIO()
    with av.open(target, "w", format="mpegts") as out:
        number = 0
        stream = out.add_stream("mpeg2video", rate=fps)
        stream.height, stream.width = parts[0].shape[1:3]
        stream.pix_fmt, stream.gop_size = "yuv420p", 5
        for part in parts:
            # A coder for each size; the stream goes on.
            coder = av.CodecContext.create("mpeg2video", "w")
            coder.height, coder.width = part.shape[1:3]
            coder.pix_fmt, coder.framerate, coder.gop_size = "yuv420p", Fraction(fps), 5
            coder.time_base, coder.max_b_frames = Fraction(1, fps), 0
            start = number
            for image in part:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number - start, Fraction(1, fps)
                number += 1
                for packet in coder.encode(frame):
                    packet.pts = packet.dts = packet.pts + start
                    packet.stream = stream
                    out.mux(packet)
            for packet in coder.encode(None):
                packet.pts = packet.dts = packet.pts + start
                packet.stream = stream
                out.mux(packet)
    return target.getvalue()


@contextmanager
def served(
    connections: Sequence[Sequence[bytes]], *, seconds_between: float = 0.0
) -> Iterator[str]:
    """Send to one caller after the other and hang up.

    Args:
        connections: what each caller gets, in pieces.
        seconds_between: pause after each piece.

    Yields:
        The address to call.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            for pieces in connections:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                with caller:
                    for piece in pieces:
                        try:
                            caller.sendall(piece)
                        except OSError:
                            break
                        if stop.wait(seconds_between):
                            return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            server.close()
            thread.join(timeout=5)
