"""Text of any language on pictures, by OpenCV's own fonts.

Pillow's built-in font has ASCII only, and which fonts a system has differs. OpenCV 5 carries fonts
for Latin, Cyrillic, Greek, Hebrew, Arabic, Chinese, Japanese and Korean letters; one that they do
not have becomes a question mark.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import MissingDependencyError

WEIGHT = 500
"""Of the letters: 400 is regular, 700 bold."""


class Lettering:
    """Letters of one size.

    Args:
        size_px: distance of ascent; a line is about 1.3 times as high.

    Raises:
        MissingDependencyError: OpenCV is older than 5.
    """

    def __init__(self, size_px: int) -> None:
        if not hasattr(cv2, "FontFace"):
            raise MissingDependencyError(
                f"Letters of all languages need OpenCV 5, here is {cv2.__version__}. Run: "
                "pip install --upgrade 'opencv-python-headless>=5'"
            )
        self._size_px = size_px
        self._face: Any = cv2.FontFace("sans")

    def width(self, text: str) -> int:
        """Pixels that a line takes."""
        _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), self._face, self._size_px, WEIGHT)
        return int(width)

    def shortened(self, text: str, most_px: int) -> str:
        """Return the text, or as much of its beginning as fits with three dots after it."""
        if self.width(text) <= most_px:
            return text
        kept = len(text)
        while kept and self.width(f"{text[:kept].rstrip()}…") > most_px:
            kept -= 1
        return f"{text[:kept].rstrip()}…" if kept else ""

    def write(
        self,
        page: NDArray[np.uint8],
        place: tuple[int, int],
        text: str,
        colour: tuple[int, int, int],
    ) -> None:
        """Write a line into a picture.

        Args:
            page: (H, W, 3), written in place; what lies outside is cut off.
            place: (x, y) of the upper left corner of the line.
            text: one line.
            colour: in the order of the channels.
        """
        x, y = place
        baseline = x, y + self._size_px
        cv2.putText(page, text, baseline, colour, self._face, self._size_px, WEIGHT)
