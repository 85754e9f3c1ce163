"""Display matrices: how a decoded picture is turned for display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """A picture is transposed first (if at all), then mirrored."""

    transpose: bool = False
    mirror_x: bool = False
    """Left and right change places."""
    mirror_y: bool = False
    """Top and bottom change places."""

    @property
    def rotation_degrees(self) -> int:
        """Clockwise turn: 0, 90, 180 or 270. Of a mirrored picture, the turn besides the mirror."""
        if self.transpose:
            return 90 if self.mirror_x else 270
        return 180 if self.mirror_y else 0

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn (H, W, 3) to the displayed (H', W', 3), as a view."""
        if self.transpose:
            image = image.transpose(1, 0, 2)  # (H, W, 3) -> (W, H, 3)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def orientation_of_matrix(matrix: Sequence[int]) -> Orientation:
    """Nearest multiple of a quarter turn, with mirror, of a display matrix.

    Args:
        matrix: 9 numbers (a b u c d v x y w): the pixel (x, y) is shown at
            (a x + c y, b x + d y), y down. A quarter turn clockwise is a = d = 0, b = 1, c = -1.

    Source:
        ISO/IEC 14496-12, section 8.3.2 (track header box); FFmpeg, libavutil/display.h.
    """
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(transpose=False, mirror_x=a < 0, mirror_y=d < 0)
    return Orientation(transpose=True, mirror_x=c < 0, mirror_y=b < 0)


def orientation_of_frame(frame: Any) -> Orientation:
    """Orientation that the display matrix of a decoded `av.VideoFrame` asks for, if it has one."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    return orientation_of_matrix(np.frombuffer(bytes(matrix), np.int32).tolist())


class Layout(NamedTuple):
    """Size and orientation of a picture; those of a file's first picture hold for all."""

    orientation: Orientation
    width: int
    """Pixels as coded, before it is turned."""
    height: int

    @property
    def shown_size(self) -> tuple[int, int]:
        """(H, W) as displayed."""
        if self.orientation.transpose:
            return self.width, self.height
        return self.height, self.width


def layout_of(frame: Any) -> Layout:
    """Layout of a decoded `av.VideoFrame`."""
    return Layout(orientation_of_frame(frame), frame.width, frame.height)
