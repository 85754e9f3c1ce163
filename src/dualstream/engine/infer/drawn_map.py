"""A map of an explanation laid over the frames of its video: strips, videos, single moments."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.engine.infer.explain import ExplainedStream, ExplainedWindow, pictures
from dualstream.engine.infer.placing import map_at
from dualstream.errors import check_least
from dualstream.report.explanation import (
    Moment,
    TimeBar,
    explanation_strip,
    overlay_in_box,
    with_bar,
)
from dualstream.video.source import FrameSource
from dualstream.video.times import evenly_spaced

MOMENTS = 6
"""Columns of a strip."""
FRAMES_AT_ONCE = 32
"""Frames of an overlay video that are held; bounds memory, changes no result."""


class DrawnMap:
    """One map of a stream, laid over the frames of its video."""

    def __init__(
        self,
        window: ExplainedWindow,
        name: str,
        stream: ExplainedStream,
        layer: str,
        frames: FrameSource,
    ) -> None:
        self.window, self.name, self.stream, self.layer = window, name, stream, layer
        self.source = frames
        self.numbers, self.maps = stream.over_frames(layer)
        self.seconds = np.array([stream.seconds[number] for number in self.numbers.tolist()])
        self.bar = TimeBar(
            window.start_seconds,
            window.end_seconds,
            self.seconds,
            stream.sensitivity.seconds,
            stream.sensitivity.falls,
        )
        self.box = stream.places.box(frames.size)

    def moments(self, count: int = MOMENTS) -> list[Moment]:
        """Return so many moments at equal distance among the frames that were seen, or all.

        Each is the frame, for flow its drawing, and the map over the last of these.

        Raises:
            InputError: the number is below 1.
        """
        check_least(1, moments=count)
        shown = evenly_spaced(len(self.numbers), min(count, len(self.numbers)))
        images = self.source.read(self.numbers[shown].tolist()).data
        drawings = self._flow_at(self.numbers[shown]) if self.stream.spec.is_flow else None
        moments = []
        for column, place in enumerate(shown):
            rows = [images[column]]
            if drawings is not None:
                rows.append(self._in_box(images[column], drawings[column]))
            rows.append(overlay_in_box(rows[-1], self.maps[place], self.box))
            moments.append(Moment(float(self.seconds[place]), rows))
        return moments

    def strip(self, count: int = MOMENTS) -> NDArray[np.uint8]:
        """So many moments side by side (`moments`), and the bars below."""
        title = (
            f"{self.name}, {self.layer}: {self.window.label} {self.stream.probability:.3f}"
            f" (all together {self.window.probability:.3f})"
        )
        return explanation_strip(self.moments(count), self.bar, title=title)

    def _flow_at(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Flow that was seen at frames (M,), drawn on one scale: (M, h, w, 3)."""
        flat = self.stream.places.frames
        steps = []
        for number in numbers:
            snippet, step = np.argwhere(flat == number)[0]
            steps.append(self.stream.data[snippet, :, step])  # (C, h, w)
        drawn: NDArray[np.uint8] = pictures(np.stack(steps, axis=1)[None], self.stream.spec)[0]
        return drawn

    def _in_box(self, image: NDArray[np.uint8], drawing: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The drawing of what was seen, in its place over a pale frame."""
        left, top, right, bottom = self.box
        placed: NDArray[np.uint8] = (255 - (255 - image) // 3).astype(np.uint8)
        placed[top:bottom, left:right] = cv2.resize(drawing, (right - left, bottom - top))
        return placed

    def video(self) -> Iterator[NDArray[np.uint8]]:
        """Frames of the window with the map over them and the bars below."""
        available = self.source.available
        seconds = self.source.seconds_of(available)
        inside = np.flatnonzero(
            (seconds >= self.window.start_seconds) & (seconds < self.window.end_seconds)
        )
        numbers = available.start + inside
        for first in range(0, len(numbers), FRAMES_AT_ONCE):
            chosen = numbers[first : first + FRAMES_AT_ONCE].tolist()
            read = self.source.read(chosen)
            for number, image, at in zip(chosen, read.data, read.pts_seconds, strict=True):
                heat = map_at(number, self.numbers, self.maps)
                laid = overlay_in_box(image, heat, self.box)
                yield with_bar(laid, self.bar, at_seconds=float(at))
