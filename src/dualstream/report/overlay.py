"""Frames of a video with what was recognised in them: segment, bars of classes, inset of flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import check_least, check_shape
from dualstream.report.lettering import Lettering
from dualstream.scores.timeline import Segment
from dualstream.types import Prediction, top_classes

LONGEST_SIDE_PX = 1920
"""Larger pictures are made smaller, so that every player keeps up."""

ENLARGED_SIDE_PX = 320
"""Pictures whose longest side is shorter are enlarged, by a whole number."""

LEAST_WIDTH_PX = 480
"""Width of the page at least, for the letters."""

INSET_SHARE = 0.35
"""Sides of the inset, as a share of those of the picture."""

FUSED = "fused"

BACK, PALE, TEXT = (24, 24, 27), (63, 63, 70), (244, 244, 245)
COLOURS = ((37, 99, 176), (176, 84, 28), (40, 124, 70), (126, 62, 156))
"""Of the bars: fused, then the streams in turn. White letters can be read on each."""


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels, all derived from that of the video."""

    picture: tuple[int, int]
    """(H, W)."""
    width: int
    letters: int
    """Height of a line of small letters."""
    columns_a_row: int

    @property
    def row(self) -> int:
        """Height of a line."""
        return round(1.35 * self.letters)

    @property
    def gap(self) -> int:
        """Between columns, and at the edges."""
        return max(4, self.letters // 2)


def _layout(height: int, width: int) -> _Layout:
    longest = max(height, width)
    scale = max(1, -(-ENLARGED_SIDE_PX // longest)) if longest < ENLARGED_SIDE_PX else 1.0
    scale = min(scale, LONGEST_SIDE_PX / longest)
    picture = max(1, round(scale * height)), max(1, round(scale * width))
    page = _even(max(picture[1], LEAST_WIDTH_PX))
    letters = min(30, max(13, page // 48))
    return _Layout(picture, page, letters, columns_a_row=max(1, page // (11 * letters)))


def _even(number: int) -> int:
    """The same or one more: H.264 of odd size is not played everywhere."""
    return number + number % 2


class OverlayPage:
    """Draws the frames of one video with its prediction, one after the other.

    The picture stands above; below it are the class and confidence of the present segment, the
    time, and a column of bars for the fused probabilities and for each stream: the best classes of
    the present window. Nothing of the picture is hidden, but for the inset at its upper right.

    Args:
        prediction: of the video. Without `window_streams`, or with those of one stream, there is
            one column.
        segments: of the video.
        size: (H, W) of its frames.
        top: bars a column.

    Raises:
        InputError: `top` below 1.
        MissingDependencyError: see `Lettering`.
    """

    def __init__(
        self,
        prediction: Prediction,
        segments: Sequence[Segment],
        *,
        size: tuple[int, int],
        top: int = 3,
    ) -> None:
        check_least(1, top=top)
        self._layout = layout = _layout(*size)
        self._prediction, self._segments, self._top = prediction, segments, top
        self._given_size = size
        streams = prediction.window_streams
        several = {FUSED: prediction.window_probabilities, **streams}
        only = next(iter(streams), FUSED)
        self._columns: Mapping[str, NDArray[np.float32]] = (
            several if len(streams) > 1 else {only: prediction.window_probabilities}
        )
        self._small, self._large = (
            Lettering(size_px) for size_px in (layout.letters, round(1.4 * layout.letters))
        )
        rows_of_columns = -(-len(self._columns) // layout.columns_a_row)
        self._head = 2 * layout.row
        self._column_height = (1 + min(top, len(prediction.classes))) * layout.row + layout.gap
        self._foot = self._head + rows_of_columns * self._column_height + layout.gap
        self.size = _even(layout.picture[0] + self._foot), layout.width
        """(H, W) of the drawn frames, both even."""
        height, width = (max(1, round(INSET_SHARE * side)) for side in layout.picture)
        self.inset_size = height, width
        """(H, W) of the inset."""
        self._drawn: tuple[int | None, Segment | None] | None = None
        self._panel: NDArray[np.uint8] | None = None

    def draw(
        self, image: NDArray[np.uint8], seconds: float, *, inset: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Draw a frame.

        Args:
            image: (H, W, 3) RGB of the size that was given.
            seconds: its time in the clock of the prediction.
            inset: (h, w, 3) RGB, brought to `inset_size`.

        Returns:
            RGB of the page's `size`.

        Raises:
            ShapeError: an image of another size or type.
        """
        check_shape("image", image, (*self._given_size, 3), "uint8")
        (height, width), page = self._layout.picture, np.empty((*self.size, 3), np.uint8)
        page[:] = BACK
        left = (self._layout.width - width) // 2
        page[:height, left : left + width] = _resized(image, (height, width))
        if inset is not None:
            rows, columns = self.inset_size
            right, edge = left + width, max(1, self._layout.letters // 8)
            page[: rows + edge, max(0, right - columns - edge) : right] = TEXT
            page[:rows, right - columns : right] = _resized(inset, (rows, columns))
        page[self.size[0] - self._foot :] = self._panel_at(seconds)
        self._write_time(page, seconds)
        return page

    def _panel_at(self, seconds: float) -> NDArray[np.uint8]:
        """(foot, width, 3), drawn anew where window or segment change."""
        window = window_at(self._prediction.window_seconds, seconds)
        segment = next(
            (s for s in self._segments if s.start_seconds <= seconds < s.end_seconds), None
        )
        if self._panel is None or self._drawn != (window, segment):
            self._panel = self._draw_panel(window, segment)
            self._drawn = window, segment
        return self._panel

    def _draw_panel(self, window: int | None, segment: Segment | None) -> NDArray[np.uint8]:
        layout = self._layout
        panel = np.full((self._foot, layout.width, 3), BACK, np.uint8)
        if segment is not None:
            confidence = f"  {100 * segment.confidence:.0f}%"
            taken = self._large.width(f"{confidence}  00:00:00.0") + 2 * layout.gap
            label = self._large.shortened(segment.label, layout.width - taken)
            self._large.write(panel, (layout.gap, layout.gap // 2), label + confidence, TEXT)
        if window is not None:
            for number, (name, table) in enumerate(self._columns.items()):
                self._draw_column(panel, number, name, table[window])
        return panel

    def _draw_column(
        self,
        panel: NDArray[np.uint8],
        number: int,
        name: str,
        probabilities: NDArray[np.float32],
    ) -> None:
        layout, colour = self._layout, COLOURS[number % len(COLOURS)]
        a_row = min(layout.columns_a_row, len(self._columns))
        width = (layout.width - layout.gap) // a_row - layout.gap
        left = layout.gap + number % a_row * (width + layout.gap)
        y = self._head + number // a_row * self._column_height
        inner = width - layout.gap
        self._small.write(panel, (left, y), self._small.shortened(name, inner), TEXT)
        for label, probability in top_classes(probabilities, self._prediction.classes, self._top):
            y += layout.row
            bar = panel[y : y + layout.row - 2, left : left + width]
            bar[:] = PALE
            bar[:, : round(width * min(1.0, max(0.0, probability)))] = colour
            share = f"{100 * probability:.0f}"
            right = self._small.width(share)
            text = self._small.shortened(label, inner - layout.gap - right)
            self._small.write(panel, (left + layout.gap // 2, y), text, TEXT)
            self._small.write(panel, (left + width - layout.gap // 2 - right, y), share, TEXT)

    def _write_time(self, page: NDArray[np.uint8], seconds: float) -> None:
        text = clock(seconds)
        left = self._layout.width - self._layout.gap - self._small.width(text)
        top = self.size[0] - self._foot + self._layout.gap // 2
        self._small.write(page, (left, top), text, TEXT)


def window_at(window_seconds: NDArray[np.float64], seconds: float) -> int | None:
    """Return the window that a time lies in; of several that overlap the one with the nearest
    middle, and None in a gap.

    Args:
        window_seconds: (M, 2) start and end of each.
        seconds: the time.

    Example:
        Windows 0..4 and 2..6: 2.9 s is of the first, 3.1 s of the second.
    """
    starts, ends = window_seconds.T
    inside = np.flatnonzero((starts <= seconds) & (seconds < ends))
    if not len(inside):
        return None
    middles = (starts[inside] + ends[inside]) / 2
    return int(inside[np.abs(middles - seconds).argmin()])


def clock(seconds: float) -> str:
    """Return a time with tenths: 75.25 is 1:15.2, 3661 is 1:01:01.0."""
    tenths = int(10 * seconds + 1e-6)
    hours, minutes = divmod(tenths // 600, 60)
    rest = f"{tenths // 10 % 60:02}.{tenths % 10}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"


def _resized(image: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0] or width < image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
