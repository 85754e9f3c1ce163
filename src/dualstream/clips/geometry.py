"""Which part of a picture a network sees: integer boxes, and their place in another resolution.

Boxes are chosen on the *reference grid*: the displayed video scaled so that its short side has
`ClipSpec.short_side` pixels. The same box and flip serve all streams of a sample, each read
at its own resolution (`source_box`). In the functions that choose boxes, `height` and `width` are
of that grid, `size` is the side that the network sees; a square that does not fit is an InputError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dualstream.errors import InputError, check_least


@dataclass(frozen=True)
class View:
    """A box in pixels of the reference grid, and whether it is mirrored left to right."""

    x: int
    y: int
    width: int
    height: int
    flip: bool = False

    def __post_init__(self) -> None:
        if self.x < 0 or self.y < 0 or self.width < 1 or self.height < 1:
            raise InputError(f"A view needs x, y >= 0 and width, height >= 1, got {self}.")

    def mirrored(self, flip: bool = True) -> View:
        """Return the same box, flipped if `flip`."""
        return replace(self, flip=self.flip != flip)


def reference_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """Return (H, W) of a picture whose short side is scaled to `short_side`, the long one rounded.

    240 x 320 with short side 256 gives (256, 341).

    Raises:
        InputError: a size is below 1.
    """
    check_least(1, height=height, width=width, short_side=short_side)
    short = min(height, width)
    return (
        (2 * height * short_side + short) // (2 * short),
        (2 * width * short_side + short) // (2 * short),
    )


def source_box(
    view: View, *, reference: tuple[int, int], source: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the view's box in a picture of another resolution, rounded to whole pixels.

    Edges are scaled by source / reference and rounded half up, so that neighbouring boxes stay
    neighbours; the box is off by at most half a source pixel. On a 256 x 341 reference, the box
    x 58, y 16, 224 x 224 is columns 54..264 and rows 15..225 of a 240 x 320 video.

    Args:
        view: box on the reference grid.
        reference, source: (H, W) of that grid and of the picture to cut from.

    Returns:
        (left, top, right, bottom), right and bottom excluded, at least one pixel each way.

    Raises:
        InputError: the view leaves the reference grid.
    """
    height, width = reference
    if view.x + view.width > width or view.y + view.height > height:
        raise InputError(f"{view} leaves the {height} x {width} reference grid.")
    left, right = _scaled_edges(view.x, view.width, reference=width, source=source[1])
    top, bottom = _scaled_edges(view.y, view.height, reference=height, source=source[0])
    return left, top, right, bottom


def center_crop(height: int, width: int, *, size: int) -> View:
    """Return the square of `size` in the middle; an odd margin leaves its spare pixel at the end.

    Raises:
        InputError: the square does not fit.
    """
    _check_fits(height, width, size)
    return View((width - size) // 2, (height - size) // 2, size, size)


def ten_crops(height: int, width: int, *, size: int) -> tuple[View, ...]:
    """Return four corners (the upper ones first) and the centre, then the same five mirrored.

    Source:
        Simonyan & Zisserman 2014, section 5, Testing.
    """
    middle = center_crop(height, width, size=size)
    corners = [replace(middle, x=x, y=y) for y in (0, height - size) for x in (0, width - size)]
    five = (*corners, middle)
    return five + tuple(view.mirrored() for view in five)


def three_crops(height: int, width: int, *, size: int) -> tuple[View, View, View]:
    """Return squares of `size` at the start, middle and end of the long side, centred across it.

    With `size` equal to the short side they cover the whole picture up to a ratio of 3.

    Source:
        Feichtenhofer et al. 2019 (SlowFast), section 4: three crops of 256 x 256.
    """
    middle = center_crop(height, width, size=size)
    if width >= height:
        return replace(middle, x=0), middle, replace(middle, x=width - size)
    return replace(middle, y=0), middle, replace(middle, y=height - size)


def random_crop(
    height: int,
    width: int,
    *,
    size: int,
    rng: np.random.Generator,
    zoom: tuple[float, float] = (1.0, 1.0),
) -> View:
    """Draw a square at any pixel, all equally likely; smaller where the picture is enlarged before.

    With `zoom` (1, 1.25) and size 224 the square's side is 224 / f for a factor f drawn evenly
    from 1 to 1.25, so 224 down to 179; the network sees it at 224. On a grid with a short side of
    256 that is a crop of 224 out of a picture with a short side of 256 to 320.

    Raises:
        InputError: the square does not fit, or `zoom` does not rise from at least 1.

    Source:
        Random short sides as in Simonyan & Zisserman 2015 and SlowFast (256 to 320).
    """
    _check_fits(height, width, size)
    if not 1 <= zoom[0] <= zoom[1]:
        raise InputError(f"zoom must rise from at least 1, got {tuple(zoom)}.")
    if zoom != (1, 1):
        size = max(1, round(size / rng.uniform(*zoom)))
    x = int(rng.integers(width - size + 1))
    y = int(rng.integers(height - size + 1))
    return View(x, y, size, size)


def multi_scale_sizes(
    short_side: int, *, size: int, scales: Sequence[float]
) -> tuple[tuple[int, int], ...]:
    """Return the (width, height) pairs that a multi-scale crop draws from.

    Sides are int(short_side * scale), one within 2 pixels of `size` becomes `size`; width and
    height are equal or neighbours in the list. 256 with (1, .875, .75, .66) and size 224 has the
    sides 256, 224, 192, 168 and ten pairs.

    Raises:
        InputError: no scale, or a scale outside (0, 1].
    """
    if not scales or any(not 0 < scale <= 1 for scale in scales):
        raise InputError(f"scales must lie above 0 and up to 1, got {tuple(scales)}.")
    sides = [max(int(short_side * scale), 1) for scale in scales]
    sides = [size if abs(side - size) < 3 and size <= short_side else side for side in sides]
    return tuple(
        (width, height)
        for i, height in enumerate(sides)
        for j, width in enumerate(sides)
        if abs(i - j) <= 1
    )


def corner_offsets(
    height: int, width: int, *, crop: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
    """Return the (x, y) of a crop of (width, height) `crop` in the four corners and the centre.

    The margins are cut into four steps, (width - crop width) // 4 and so on; the far corners lie
    at four steps, up to 3 pixels before the edge.

    Source:
        Wang et al. 2016, section 4.1 (corner cropping); the steps follow TSN's published code.
    """
    step_x, step_y = (width - crop[0]) // 4, (height - crop[1]) // 4
    return tuple((i * step_x, j * step_y) for i, j in ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)))


def multi_scale_crop(
    height: int,
    width: int,
    *,
    size: int,
    rng: np.random.Generator,
    scales: Sequence[float] = (1, 0.875, 0.75, 0.66),
) -> View:
    """Draw a box of random size, aspect and place, later resized to `size` (TSN, training).

    Raises:
        InputError: a scale cannot be used.

    Source:
        Wang et al. 2016, section 4.1 (scale jittering with corner cropping).
    """
    pairs = multi_scale_sizes(min(height, width), size=size, scales=scales)
    crop = pairs[int(rng.integers(len(pairs)))]
    offsets = corner_offsets(height, width, crop=crop)
    x, y = offsets[int(rng.integers(len(offsets)))]
    return View(x, y, *crop)


def _scaled_edges(start: int, length: int, *, reference: int, source: int) -> tuple[int, int]:
    first = (2 * start * source + reference) // (2 * reference)
    last = (2 * (start + length) * source + reference) // (2 * reference)
    first = min(first, source - 1)
    return first, max(last, first + 1)


def _check_fits(height: int, width: int, size: int) -> None:
    if size > min(height, width):
        raise InputError(f"A crop of {size} does not fit into {height} x {width}.")
