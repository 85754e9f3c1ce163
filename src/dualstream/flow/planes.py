"""Single planes of stored flow: their names, their JPEG bytes, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowStoreError, InputError, ShapeError
from dualstream.flow.meta import FlowMeta

PLANES = ("x", "y")
"""Names of channels 0 and 1."""

META_NAME = "meta.json"


def plane_name(plane: str, number: int) -> str:
    """File or member name of a plane: x, 7 -> flow_x_00007.jpg."""
    return f"flow_{plane}_{number:05d}.jpg"


def encode_plane(plane: NDArray[np.uint8], *, quality: int) -> bytes:
    """(H, W) bytes -> grey JPEG of `quality` 1..100."""
    data: NDArray[np.uint8]
    _, data = cv2.imencode(".jpg", plane, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return data.tobytes()


def decode_plane(
    data: bytes, *, size: tuple[int, int] | None, path: Path, name: str
) -> NDArray[np.uint8]:
    """Image file -> (H, W) bytes.

    Args:
        data: the file's content.
        size: (H, W) that it must have; None takes any.
        path: flow file or folder, for the error.
        name: the plane in it, for the error.

    Raises:
        FlowStoreError: no image, or one of another size.
    """
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if decoded is None:
        raise broken(path, f"{name} is not an image")
    image: NDArray[np.uint8] = decoded.astype(np.uint8, copy=False)
    if size is not None and image.shape != size:
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise broken(path, f"{name} is {found} px, not {size[1]}x{size[0]}")
    return image


def read_fields(
    read_plane: Callable[[str, int], NDArray[np.uint8]], indices: Sequence[int], meta: FlowMeta
) -> NDArray[np.uint8]:
    """Gather fields, each plane read once however often its index is repeated.

    Args:
        read_plane: (plane x or y, index) -> (H, W) bytes.
        indices: n fields in any order.
        meta: gives H and W.

    Returns:
        (n, 2, H, W).
    """
    out = np.empty((len(indices), 2, meta.height, meta.width), np.uint8)
    first_place: dict[int, int] = {}
    for place, index in enumerate(indices):
        if index in first_place:
            out[place] = out[first_place[index]]
            continue
        first_place[index] = place
        for channel, plane in enumerate(PLANES):
            out[place, channel] = read_plane(plane, index)
    return out


def check_indices(path: Path, indices: Sequence[int], num_fields: int) -> None:
    """Raise InputError at the first index outside 0..num_fields - 1."""
    for index in indices:
        if not 0 <= index < num_fields:
            raise InputError(f"{path} has {num_fields} flow fields, there is no field {index}.")


def check_chunk(fields: NDArray[np.generic], size: tuple[int, int] | None) -> tuple[int, int]:
    """(H, W) of a chunk (n, 2, H, W); ShapeError if it has another shape, or not `size`."""
    if fields.ndim != 4 or fields.shape[1] != 2 or size not in (None, fields.shape[2:]):
        expected = "(n, 2, H, W)" if size is None else f"(n, 2, {size[0]}, {size[1]})"
        raise ShapeError(f"Flow fields to store must be {expected}, got {fields.shape}.")
    return int(fields.shape[2]), int(fields.shape[3])


def check_source(path: Path, meta: FlowMeta, source_sha256: str | None) -> None:
    """Raise FlowStoreError if the flow is known to come from another video."""
    if source_sha256 is None or meta.source_sha256 is None:
        return
    if meta.source_sha256 != source_sha256:
        raise FlowStoreError(
            f"{path} holds the flow of another video (SHA-256 {meta.source_sha256[:12]}..., "
            f"expected {source_sha256[:12]}...). Run `dualstream flow` again to replace it."
        )


def broken(path: Path, reason: str) -> FlowStoreError:
    """The error for a flow file or folder that cannot be used as it is."""
    return FlowStoreError(
        f"{path} is broken or no flow file: {reason}. Remove it and run `dualstream flow` again."
    )
