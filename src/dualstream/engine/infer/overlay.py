"""A video with what was recognised in it, written as another video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualstream.engine.infer.recognizer import Recognizes
from dualstream.errors import FlowError
from dualstream.flow import flow_to_rgb, optical_flow
from dualstream.flow.coded import CodedFields
from dualstream.flow.methods.lookup import find_method
from dualstream.report.overlay import OverlayPage
from dualstream.scores.timeline import Segment
from dualstream.types import Prediction
from dualstream.video import VideoReader, write_timed_video
from dualstream.video.times import TimedImage
from dualstream.video.write import TICKS_A_SECOND

TICK_SECONDS = 1 / TICKS_A_SECOND

LEAST_MOTION_PX = 0.5
"""Motion that is drawn in full colour at least; what trembles less stays pale."""

COLOUR_DECAY = 0.97
"""Share of the full colour's motion that holds for the next frame, unless that moves more."""


def write_overlay(
    path: str | os.PathLike[str],
    prediction: Prediction,
    recognizers: Sequence[Recognizes] = (),
    *,
    segments: Sequence[Segment] = (),
    top: int = 3,
    num_threads: int = 1,
    listener: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the video of a prediction with the present segment, bars of classes and its flow.

    See `OverlayPage` for what is drawn. Each frame is shown at the time at which players show it
    in the source, whatever the rate varies by. Sound is left out. Frames are decoded, drawn and
    written one by one, so that memory does not grow with the length of the video. The file is
    there when it is complete.

    Args:
        path: .mp4, .mov or .mkv file.
        prediction: by `Predictor.predict` of a file.
        recognizers: of the predictor. The motion since the frame before, by the flow method of
            the first stream that reads flow, becomes the inset; without such a stream there is
            none.
        segments: found in the prediction (`find_segments`).
        top: classes a column.
        num_threads: decoding threads.
        listener: called with the frames that are done, and how many there are.

    Raises:
        InputError: another suffix, or `top` below 1.
        VideoError: the video cannot be read, or not be written.
        FlowError: its flow cannot be computed.
        DiskError: the overlay cannot be written.
    """
    with VideoReader(prediction.source, num_threads=num_threads) as video:
        page = OverlayPage(prediction, segments, size=video.size, top=top)
        inset = _FlowInset.of(recognizers, video, page.inset_size)
        zero, first = video.info.start_seconds_from_header, float(video.pts_seconds[0])

        def drawn() -> Iterator[TimedImage]:
            shown = -TICK_SECONDS
            for number, (image, seconds) in enumerate(video.images(), start=1):
                motion = inset.next(image) if inset is not None else None
                shown = max(seconds - zero, shown + TICK_SECONDS)
                yield page.draw(image, seconds - first, inset=motion), shown
                if listener is not None:
                    listener(number, video.num_frames)

        # The encoder's idea of the rate; a time-lapse may have far less than one frame a second.
        write_timed_video(path, drawn(), fps=min(max(video.fps, 1.0), 240.0), crf=20)
    return Path(path)


class _FlowInset:
    """Flow from each frame of a video to the next, drawn in colours on a small grid."""

    def __init__(
        self, recognizer: Recognizes, stream: str, video: VideoReader, size: tuple[int, int]
    ) -> None:
        spec = recognizer.spec.flow_streams[stream]
        self._method = find_method(spec.flow_method)
        self._params = recognizer.flow_params.get(stream)
        sides = (min(size), spec.flow_short_side or min(video.size), min(video.size))
        self._short_side = max(min(sides), self._method.smallest_side_px)
        self._coded = (
            CodedFields(video.name, self._method, self._params)
            if self._method.read_file is not None
            else None
        )
        self._number = -1
        self._before: NDArray[np.uint8] | None = None
        self._full_px = 0.0

    @classmethod
    def of(
        cls, recognizers: Sequence[Recognizes], video: VideoReader, size: tuple[int, int]
    ) -> _FlowInset | None:
        """Inset of the first stream that reads flow; None without one."""
        streams = ((r, name) for r in recognizers for name in r.spec.flow_streams)
        first = next(streams, None)
        return None if first is None else cls(*first, video, size)

    def next(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) RGB of the motion from the last frame to this one; white of the first one."""
        self._number += 1
        field = self._field(image)
        self._before = image
        longest = float(np.quantile(np.hypot(*field), 0.99))
        self._full_px = max(LEAST_MOTION_PX, COLOUR_DECAY * self._full_px, longest)
        return flow_to_rgb(field, max_px=self._full_px)

    def _field(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(2, h, w)."""
        if self._before is None:
            return np.zeros((2, *image.shape[:2]), np.float32)
        if self._coded is not None:
            try:
                coded: NDArray[np.float32] = self._coded.read([self._number - 1])[0]
            except FlowError:  # pictures of a damaged end, which have no vectors
                coded = np.zeros((2, *image.shape[:2]), np.float32)
            return coded
        pair = np.stack((self._before, image))
        flow = optical_flow(
            pair, method=self._method.name, params=self._params, short_side=self._short_side
        )
        field: NDArray[np.float32] = flow.data[0].astype(np.float32, copy=False)
        return field
