"""Middlebury `.flo` files: the exchange format of flow with known truth."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowError, ShapeError
from dualstream.files import replacing

_MAGIC = b"PIEH"
_LARGEST_SIDE = 100_000


def read_flo(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read one flow field.

    Returns:
        (2, H, W) pixels, x before y. Values of 1e9 and more mean that the flow is unknown.

    Raises:
        FlowError: the file is missing, truncated, or of another kind.

    Source:
        Baker et al. 2007 (vision.middlebury.edu/flow): tag 202021.25 as float32, width and
        height as int32, then H x W pairs of float32, all little endian.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FlowError(f"{path} cannot be read: {error.strerror}.") from error
    if data[:4] != _MAGIC or len(data) < 12:
        raise FlowError(f"{path} is not a .flo file: it does not start with 'PIEH' and a size.")
    width, height = (int(n) for n in np.frombuffer(data, "<i4", 2, offset=4))
    if not (0 < width < _LARGEST_SIDE and 0 < height < _LARGEST_SIDE):
        raise FlowError(f"{path} tells of an impossible size, {width}x{height}.")
    expected = 12 + 8 * width * height
    if len(data) != expected:
        raise FlowError(
            f"{path} has {len(data)} bytes; {width}x{height} flow takes {expected}. Copy it again."
        )
    flow = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)
    return np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)  # (H, W, 2) -> (2, H, W)


def write_flo(path: str | os.PathLike[str], flow: NDArray[np.float32]) -> None:
    """Write one flow field (2, H, W) in pixels; see `read_flo` for the format.

    Raises:
        ShapeError: `flow` has another shape or is not float32.
        FlowError: the file cannot be written.
    """
    if flow.ndim != 3 or flow.shape[0] != 2 or flow.dtype != np.float32:
        raise ShapeError(f"A .flo file holds (2, H, W) float32, got {flow.shape} {flow.dtype}.")
    height, width = flow.shape[1:]
    pairs = np.ascontiguousarray(flow.transpose(1, 2, 0), "<f4")  # (2, H, W) -> (H, W, 2)
    try:
        with replacing(path) as temporary:
            header = _MAGIC + np.array([width, height], "<i4").tobytes()
            temporary.write_bytes(header + pairs.tobytes())
    except OSError as error:
        raise FlowError(f"{path} cannot be written: {error.strerror or error}.") from error
