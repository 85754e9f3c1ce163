"""Opening what is predicted: a file by its name, or frames that are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dualstream.video import VideoReader
from dualstream.video.source import FrameSource, FromFirstFrame


@contextmanager
def opened(
    source: str | os.PathLike[str] | FrameSource, *, num_threads: int = 1, path: str | None = None
) -> Iterator[tuple[FrameSource, str | None]]:
    """Give the frames of a source, and the file that they are of where that is known.

    Times of a file count from its first frame; other frames keep their clock.

    Args:
        source: a video file or URL, or frames.
        num_threads: decoding threads for a file.
        path: file that given frames are of.

    Raises:
        VideoError: the file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        with VideoReader(source, num_threads=num_threads) as video:
            yield FromFirstFrame(video), os.fspath(source)
    else:
        yield FromFirstFrame(source) if isinstance(source, VideoReader) else source, path
