"""Flow that a video file holds itself, such as the motion vectors of its codec, when it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowError, InputError
from dualstream.flow.methods.params import Direction, FlowParams
from dualstream.flow.methods.record import Method
from dualstream.flow.quantize import quantize
from dualstream.flow.store.fields import check_indices, through_jpeg
from dualstream.types import Flow

WINDOW_LENGTH = 32
"""Fields that are held at a time."""


class CodedFields:
    """Flow that a video file holds itself, read from its start on; going back starts anew.

    Args:
        path: the video file.
        method: a method with `Method.read_file`, such as motion vectors.
        params: its settings; None takes the defaults.
    """

    def __init__(self, path: str, method: Method[Any], params: FlowParams | None) -> None:
        assert method.read_file is not None
        self.method = method
        self._open = partial(method.read_file, path, WINDOW_LENGTH, method.resolve(params))
        self._windows: Iterator[Flow] = iter(())
        self._first = self._end = 0  # fields of the window that came last
        self._window: Flow | None = None

    def read(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        """(n, 2, H, W) fields by number, pixels; rising, with repeats.

        Raises:
            FlowError: the file holds no flow of its last frames.
            VideoError: the file cannot be read.
        """
        if self._window is None or numbers[0] < self._first:
            self._windows, self._first, self._end = self._open(), 0, 0
        fields = []
        for number in numbers:
            while number >= self._end:
                self._window = next(self._windows, None)
                if self._window is None:
                    raise FlowError(f"The video ends before its field {number}.")
                self._first, self._end = self._end, self._end + len(self._window.data)
            assert self._window is not None
            fields.append(self._window.data[number - self._first])
        return np.stack(fields)


class CodedFlow:
    """A `FlowSource` over `CodedFields`: exactly the bytes that a store of them would give.

    Args:
        fields: of the video.
        shown: numbers of F frames in order, each the one after the one before.
        size: (H, W) of the video.
        short_side: grid that the pixels of motion are counted on; None is the video's own.
        bound_px: bound of the bytes (see `quantize`).

    Raises:
        InputError: frames are left out, as for another frame rate.
    """

    def __init__(
        self,
        fields: CodedFields,
        shown: NDArray[np.int64],
        *,
        size: tuple[int, int],
        short_side: int | None = None,
        bound_px: float = 20.0,
    ) -> None:
        if (np.diff(shown) != 1).any():
            raise InputError(
                "Flow that the video file holds leads from each frame to the next and cannot be "
                "resampled to another frame rate: set clip.fps to null, or compute flow."
            )
        self._fields, self._start, self._bound_px = fields, int(shown[0]), bound_px
        self._scale = 1.0 if short_side is None else short_side / min(size)
        self.num_fields = len(shown) - 1
        self.size = size

    def read(self, indices: Sequence[int], *, direction: Direction = "forward") -> Flow:
        """Fields `indices` as bytes, in any order and with repeats; see `FlowSource.read`."""
        self._fields.method.check_direction(direction)
        check_indices(indices, self.num_fields, "The video")
        wanted, places = np.unique(np.asarray(indices, np.int64), return_inverse=True)
        found = self._fields.read((wanted + self._start).tolist()) * np.float32(self._scale)
        coded = quantize(found, bound_px=self._bound_px)
        method = self._fields.method.name
        return Flow(through_jpeg(coded)[places], method, bound_px=self._bound_px)
