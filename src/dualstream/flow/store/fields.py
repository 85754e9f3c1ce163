"""Reading, writing and checks that flow files and folders share; their fields as JPEG images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowStoreError, InputError, ShapeError, VideoError
from dualstream.flow.store.meta import QUALITY, FlowMeta

META_NAME = "meta.json"

Bytes = NDArray[np.uint8]

_BLOCK = 8
"""Side in pixels of what JPEG codes by itself."""


class StoredFields:
    """The stored flow of one video in the file or folder `path`, a context manager."""

    def __init__(self, path: Path, meta: FlowMeta) -> None:
        self.path, self.meta = path, meta
        self.num_fields = meta.num_fields
        """Number of flow fields: frames of the video minus one."""

    def read(self, indices: Sequence[int]) -> Bytes:
        """Fields `indices`, in any order and with repeats, as bytes.

        Returns:
            (n, 2, H, W) uint8, x before y, in the mapping of `quantize` with `meta.bound_px`.

        Raises:
            InputError: an index outside 0..num_fields - 1.
            FlowStoreError: an image is missing, broken, or of another size.
        """
        check_indices(indices, self.num_fields, str(self.path))
        out = np.empty((len(indices), 2, self.meta.height, self.meta.width), np.uint8)
        first_place: dict[int, int] = {}
        for place, index in enumerate(indices):
            first = first_place.setdefault(index, place)
            if first == place:
                self._read_field(index, out[place])
            else:
                out[place] = out[first]
        return out

    def _read_field(self, index: int, out: Bytes) -> None:
        """Fill `out`, (2, H, W)."""
        raise NotImplementedError

    def verify(self) -> None:
        """Check all that is stored; FlowStoreError names the first broken part."""
        for index in range(self.num_fields):
            self.read([index])

    def close(self) -> None:
        """Close the file, if one is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, num_fields={self.num_fields})"


class FlowWriter:
    """Checks and counts the fields of one video on their way into a file or folder.

    Args:
        path: what is written, for errors.
        meta: everything but height, width and num_fields, which are counted here.
        put: (number, (2, H, W) field) -> None, stores one.
    """

    def __init__(
        self, path: Path, meta: FlowMeta, put: Callable[[int, NDArray[np.generic]], None]
    ) -> None:
        self.meta = meta
        self._path, self._put = path, put
        self._size: tuple[int, int] | None = None
        self._count = 0

    def add(self, fields: NDArray[np.generic]) -> None:
        """Store a chunk (n, 2, H, W); ShapeError if it has another size than the first."""
        size = self._size
        if fields.ndim != 4 or fields.shape[1] != 2 or size not in (None, fields.shape[2:]):
            expected = "(n, 2, {}, {})".format(*size or "HW")
            raise ShapeError(f"Flow fields to store must be {expected}, got {fields.shape}.")
        self._size = int(fields.shape[2]), int(fields.shape[3])
        for field in fields:
            self._put(self._count, field)
            self._count += 1

    def finish(self) -> FlowMeta:
        """The complete `meta`; FlowStoreError if no field came."""
        if self._size is None or not self._count:
            raise FlowStoreError(f"{self._path}: there is no flow field to write.")
        height, width = self._size
        self.meta = replace(self.meta, height=height, width=width, num_fields=self._count)
        return self.meta


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into the FlowStoreError of `path`."""
    try:
        yield
    except VideoError:  # a missing video is an OSError too; it is read at the same time
        raise
    except OSError as error:
        raise FlowStoreError(
            f"{path} cannot be written: {error.strerror or error}. Nothing was left there."
        ) from error


def checked_image(data: bytes, *, size: tuple[int, int] | None, path: Path, name: str) -> Bytes:
    """Image file -> (H, W) bytes; FlowStoreError if it is none or not of `size`, None for any."""
    image = decode_image(data)
    if image is None:
        raise broken(path, f"{name} is not an image")
    if size is not None and image.shape != size:
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise broken(path, f"{name} is {found} px, not {size[1]}x{size[0]}")
    return image


def check_source(path: Path, meta: FlowMeta, source_sha256: str | None) -> None:
    """Raise FlowStoreError if the flow is known to come from another video."""
    if source_sha256 and meta.source_sha256 and meta.source_sha256 != source_sha256:
        raise FlowStoreError(
            f"{path} holds the flow of another video (SHA-256 {meta.source_sha256[:12]}..., "
            f"expected {source_sha256[:12]}...). Run `dualstream flow` again to replace it."
        )


def check_indices(indices: Sequence[int], num_fields: int, name: str) -> None:
    """Raise InputError for the first index outside 0..num_fields - 1."""
    for index in indices:
        if not 0 <= index < num_fields:
            raise InputError(f"{name} has {num_fields} flow fields, there is no field {index}.")


def broken(path: Path, reason: str) -> FlowStoreError:
    """The error for a flow file or folder that cannot be used as it is."""
    return FlowStoreError(
        f"{path} is broken or no flow file: {reason}. Remove it and run `dualstream flow` again."
    )


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


def through_jpeg(fields: Bytes, *, quality: int = QUALITY) -> Bytes:
    """Bytes (n, 2, H, W) as they are read back from a store that they were written to."""
    out, height = np.empty_like(fields), fields.shape[2]
    for field, stored in zip(fields, out, strict=True):
        image = decode_image(encode_image(stacked(field), quality=quality))
        assert image is not None
        stored[0], stored[1] = image[:height], image[-height:]
    return out
