"""Flow fields as JPEG images: x over y in one image, or one image each."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

QUALITY = 95
"""JPEG quality, 1..100, where none is given."""

_BLOCK = 8
"""Side in pixels of what JPEG codes by itself."""


def encode_image(image: Bytes, *, quality: int) -> bytes:
    """(H, W) bytes -> grey JPEG of `quality` 1..100."""
    data: Bytes
    _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return data.tobytes()


def decode_image(data: bytes) -> Bytes | None:
    """Image file -> (H, W) bytes; None if it is none."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    return None if decoded is None else decoded.astype(np.uint8, copy=False)


def stacked_size(height: int, width: int) -> tuple[int, int]:
    """(H, W) of the image of a field: y begins at a whole block. 240x320 -> (480, 320);
    100x130 -> (204, 130)."""
    return -(-height // _BLOCK) * _BLOCK + height, width


def stacked(field: Bytes) -> Bytes:
    """(2, H, W) field -> one image, which JPEG turns into the same bytes as x and y alone.

    Rows between x and y repeat the last one of x, as the JPEG encoder does below an image.
    """
    height, width = field.shape[1:]
    rows, _ = stacked_size(height, width)
    start = rows - height
    if start == height:
        return np.ascontiguousarray(field).reshape(rows, width)
    image = np.empty((rows, width), np.uint8)
    image[:height], image[height:start], image[start:] = field[0], field[0, -1], field[1]
    return image


def unstack(image: Bytes, out: Bytes) -> None:
    """Image of `stacked` -> (2, H, W) `out`."""
    height = out.shape[1]
    out[0], out[1] = image[:height], image[-height:]


def through_jpeg(fields: Bytes, *, quality: int = QUALITY) -> Bytes:
    """Bytes (n, 2, H, W) as they are read back from a store that they were written to."""
    out = np.empty_like(fields)
    for field, stored in zip(fields, out, strict=True):
        image = decode_image(encode_image(stacked(field), quality=quality))
        assert image is not None
        unstack(image, stored)
    return out
