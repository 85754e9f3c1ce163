"""Pictures of an explanation: maps over frames, sensitivity over time, strips and video frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, check_shape
from dualstream.report.attention import GAP_PX, overlay

PICTURE_WIDTH_PX = 180
"""Of each picture of a strip."""
LINE_PX = 16
"""Height of a line of text."""
BAR_PX = 56
"""Height of the bars under a strip."""
TICK_PX = 4
JPEG_QUALITY = 90
WHITE, GREY, BLACK = (255, 255, 255), (150, 150, 150), (0, 0, 0)
FALLS, RISES = (200, 60, 40), (70, 100, 200)
"""Colours of pieces whose loss costs probability, and of those whose loss adds some."""

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""


def overlay_in_box(
    image: Image, heat: NDArray[np.float32], box: tuple[int, int, int, int]
) -> Image:
    """Lay a map over the part of a picture that the network saw; a thin line goes around it.

    Args:
        image: (H, W, 3) RGB.
        heat: (H', W') in 0..1 over the same picture, of any size.
        box: left, top, right, bottom in pixels of the image, the last two excluded.

    Raises:
        InputError: the box leaves the image.
    """
    left, top, right, bottom = box
    height, width = image.shape[:2]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise InputError(f"The box {box} leaves the {height} x {width} picture.")
    if heat.shape != (height, width):
        heat = np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR))
    laid = image.copy()
    laid[top:bottom, left:right] = overlay(
        np.ascontiguousarray(image[top:bottom, left:right]), heat[top:bottom, left:right]
    )
    cv2.rectangle(laid, (left, top), (right - 1, bottom - 1), WHITE, 1)
    return laid


@dataclass(frozen=True, eq=False)
class TimeBar:
    """Sensitivity over the time of a window, as bars."""

    start_seconds: float
    end_seconds: float
    seen_seconds: NDArray[np.float64]
    """(F,) times of what the network saw, drawn as ticks."""
    piece_seconds: NDArray[np.float64]
    """(G, 2) start and end of each piece."""
    falls: NDArray[np.float32]
    """(G,) heights of the bars, up where above 0; the largest fills the height."""

    def draw(self, height: int, width: int, *, at_seconds: float | None = None) -> Image:
        """Draw the bars, red up and blue down, ticks below.

        Args:
            height, width: of the picture, pixels.
            at_seconds: draw a line at this time.

        Returns:
            (height, width, 3).
        """
        canvas = np.full((height, width, 3), 255, np.uint8)
        largest = max(float(self.falls.max(initial=0)), 0.0)
        lowest = max(float(-self.falls.min(initial=0)), 0.0)
        room = height - TICK_PX - 2
        span = largest + lowest or 1.0
        zero = round(room * largest / span) if largest + lowest > 0 else room
        for (start, end), fall in zip(self.piece_seconds, self.falls, strict=True):
            x0, x1 = self._column(float(start), width), self._column(float(end), width)
            y = zero - round(room * float(fall) / span)
            colour = FALLS if fall > 0 else RISES
            canvas[min(y, zero) : max(y, zero), x0 : max(x1 - 1, x0 + 1)] = colour
        canvas[zero : zero + 1] = GREY
        for seconds in self.seen_seconds:
            canvas[height - TICK_PX :, self._column(float(seconds), width)] = GREY
        if at_seconds is not None:
            column = self._column(at_seconds, width)
            canvas[:, max(column - 1, 0) : column + 1] = BLACK
        return canvas

    def _column(self, seconds: float, width: int) -> int:
        share = (seconds - self.start_seconds) / max(self.end_seconds - self.start_seconds, 1e-9)
        return min(max(round(share * width), 0), width - 1)


@dataclass(frozen=True, eq=False)
class Moment:
    """One column of a strip."""

    seconds: float
    images: Sequence[Image]
    """From top to bottom, all of one size."""


def explanation_strip(moments: Sequence[Moment], bar: TimeBar, *, title: str) -> Image:
    """Draw moments side by side with their times, and the sensitivity over time below.

    Args:
        moments: at least one, of as many pictures each.
        bar: of the window.
        title: line above.

    Returns:
        (H, W, 3) RGB on white.

    Raises:
        InputError: there is no moment.
        ShapeError: a picture is not (H, W, 3) uint8.
    """
    from PIL import Image as Pictures
    from PIL import ImageDraw

    if not moments or not moments[0].images:
        raise InputError("There is no picture to draw: give at least one moment.")
    first = moments[0].images[0]
    check_shape("picture of a strip", first, ("H", "W", 3), "uint8")
    size = (PICTURE_WIDTH_PX, max(1, round(PICTURE_WIDTH_PX * first.shape[0] / first.shape[1])))
    rows = len(moments[0].images)
    width = len(moments) * (size[0] + GAP_PX) + GAP_PX
    below = LINE_PX + rows * (size[1] + GAP_PX)
    canvas = Pictures.new("RGB", (width, below + 2 * LINE_PX + BAR_PX + GAP_PX), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP_PX, 2), title, fill="black")
    for column, moment in enumerate(moments):
        x = GAP_PX + column * (size[0] + GAP_PX)
        for row, image in enumerate(moment.images):
            picture = Pictures.fromarray(image).resize(size, Pictures.Resampling.BILINEAR)
            canvas.paste(picture, (x, LINE_PX + row * (size[1] + GAP_PX)))
        draw.text((x, below), f"{moment.seconds:.2f} s", fill="black")
    bars = bar.draw(BAR_PX, width - 2 * GAP_PX)
    canvas.paste(Pictures.fromarray(bars), (GAP_PX, below + LINE_PX))
    draw.text((GAP_PX, below + LINE_PX + BAR_PX + 2), scale_of(bar), fill="black")
    return np.asarray(canvas)


def jpeg(picture: Image, *, quality: int = JPEG_QUALITY) -> bytes:
    """Return the file of a picture.

    Args:
        picture: (H, W, 3) RGB.
        quality: 1 to 100; the file is smaller the lower it is.

    Raises:
        InputError: another quality.
    """
    from PIL import Image as Pictures

    if not 1 <= quality <= 100:
        raise InputError(f"The quality of a JPEG must be 1 to 100, got {quality}.")
    content = io.BytesIO()
    Pictures.fromarray(picture).save(content, format="JPEG", quality=quality)
    return content.getvalue()


def scale_of(bar: TimeBar) -> str:
    """The line under the bars: what they are, and how high the highest is, or how deep the deepest
    where the probability rises whatever piece is taken away."""
    times = f"{bar.start_seconds:.1f} to {bar.end_seconds:.1f} s"
    if not len(bar.falls):
        return times
    only_rises = bool((bar.falls < 0).all())
    change, sizes = ("rise", -bar.falls) if only_rises else ("fall", bar.falls)
    piece = int(sizes.argmax())
    start, end = bar.piece_seconds[piece].tolist()
    return (
        f"{times}; bars: {change} of the probability without that piece, most "
        f"{sizes[piece]:+.3f} without {start:.2f} to {end:.2f} s"
    )


def with_bar(image: Image, bar: TimeBar, *, at_seconds: float) -> Image:
    """A frame of an overlay video: the picture, and below it the bars with a line at its time.

    The bars take a sixth of the height, so that the whole is even in height.
    """
    height, width = image.shape[:2]
    bar_px = max(24, height // 6)
    bar_px += (height + bar_px) % 2
    return np.concatenate((image, bar.draw(bar_px, width, at_seconds=at_seconds)))
