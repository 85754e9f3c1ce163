"""Pictures of where a network looked: maps over what a stream saw, in rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ReportError, check_shape
from dualstream.files import replacing

GAP_PX = 6
CAPTION_PX = 16
"""Height of the line above a picture."""

LEAST_SIDE_PX = 160
"""Pictures are enlarged to this, for their captions."""


@dataclass(frozen=True, eq=False)
class Look:
    """One picture of a row."""

    caption: str
    image: NDArray[np.uint8]
    """(H, W, 3) RGB, what the stream saw."""
    map: NDArray[np.float32] | None = None
    """(H, W) in 0..1, laid over it; None shows the image alone."""

    def picture(self) -> NDArray[np.uint8]:
        """(H, W, 3): the image, with the map over it."""
        return self.image if self.map is None else overlay(self.image, self.map)


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay a map over an image: half of both, the map from blue (0) over green to red (1).

    Args:
        image: (H, W, 3) RGB.
        heat: (H, W) in 0..1.

    Raises:
        ShapeError: the map is of another size.

    Source:
        The colours of Grad-CAM's figures, and of Park 2019, figures 1.1 and 4.2.
    """
    height, width = image.shape[:2]
    check_shape("image", image, ("H", "W", 3), "uint8")
    check_shape(f"map of an image of {height} x {width}", heat, (height, width))
    levels = (255 * np.clip(heat, 0, 1)).round().astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    return np.asarray((image.astype(np.uint16) + colours + 1) // 2, np.uint8)


def attention_strip(rows: Sequence[Sequence[Look]]) -> NDArray[np.uint8]:
    """Draw rows of pictures with their captions above.

    Args:
        rows: of any lengths; at least one picture.

    Returns:
        (H, W, 3) RGB on white.

    Raises:
        InputError: there is no picture.
    """
    from PIL import Image, ImageDraw

    if not any(rows):
        raise InputError("There is no picture to draw: give at least one row of looks.")
    sides = [max(*look.image.shape[:2], LEAST_SIDE_PX) for row in rows for look in row]
    side = max(sides)
    step = side + GAP_PX
    width, height = max(len(row) for row in rows) * step, len(rows) * (step + CAPTION_PX)
    canvas = Image.new("RGB", (width + GAP_PX, height + GAP_PX), "white")
    draw = ImageDraw.Draw(canvas)
    for i, row in enumerate(rows):
        for j, look in enumerate(row):
            x, y = GAP_PX + j * step, i * (step + CAPTION_PX)
            scale = side / max(look.image.shape[:2])
            size = (round(look.image.shape[1] * scale), round(look.image.shape[0] * scale))
            picture = Image.fromarray(look.picture()).resize(size, Image.Resampling.BILINEAR)
            most = side // 6  # letters of the small font
            draw.text((x, y + 2), look.caption[:most], fill="black")
            canvas.paste(picture, (x, y + CAPTION_PX))
    return np.asarray(canvas)


def write_attention_strip(path: str | os.PathLike[str], rows: Sequence[Sequence[Look]]) -> Path:
    """Write `attention_strip` as a .png or .jpg file; missing folders are made.

    Raises:
        InputError: another suffix, or no picture.
        ReportError: the file cannot be written.
    """
    from PIL import Image

    target = Path(path)
    if target.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{target}: the picture is a .png or a .jpg file; give such a name.")
    picture = Image.fromarray(attention_strip(rows))
    try:
        with replacing(target, keep_suffix=True) as temporary:
            picture.save(temporary)
    except OSError as error:
        raise ReportError(f"{target}: cannot be written ({error.strerror}).") from error
    return target
