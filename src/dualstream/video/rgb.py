"""Decoded pictures as RGB bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dualstream.video.container import video_error
from dualstream.video.info import Layout


class RgbConverter:
    """Pictures of one video as RGB bytes, turned as they are displayed.

    Args:
        name: file or URL, for messages.
        num_threads: threads that convert.
    """

    def __init__(self, name: str, *, num_threads: int) -> None:
        self._name = name
        self._num_threads = num_threads
        self._reformatter = VideoReformatter()

    def convert(self, picture: Any, layout: Layout) -> NDArray[np.uint8]:
        """Return (H, W, 3) bytes: a view of FFmpeg's memory.

        Args:
            picture: a decoded `av.VideoFrame`.
            layout: what its size is brought to, and how it is turned.

        Raises:
            VideoError: FFmpeg cannot convert it.
        """
        orientation, width, height = layout
        try:
            rgb = self._reformatter.reformat(
                picture, width=width, height=height, format="rgb24", threads=self._num_threads
            )
        except Exception as error:
            raise video_error(self._name, error, doing="convert") from error
        plane = rgb.planes[0]
        image: NDArray[np.uint8] = np.ndarray(
            (height, width, 3), np.uint8, buffer=memoryview(plane), strides=(plane.line_size, 3, 1)
        )
        return orientation.apply(image)
