"""Flow computed when it is read, in the place of a stored file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowError, InputError
from dualstream.flow.images import resize_short_side, resized_size
from dualstream.flow.methods.lookup import find_method
from dualstream.flow.methods.params import DEFAULT_METHOD, Direction, FlowParams
from dualstream.flow.store.jpeg import QUALITY, through_jpeg
from dualstream.types import Flow, Frames

RUN_LENGTH = 32
"""Neighbouring fields computed at once; bounds memory, changes no result."""


class FrameReader(Protocol):
    """What frames are read from."""

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames at `indices`."""
        ...


class ComputedFlow:
    """A `FlowSource` over frames: exactly the bytes that a store of that flow would give.

    Stored flow has been through JPEG, so computed flow goes through it too. The fields of the last
    read are kept: neighbouring snippets share some, and backward flow is asked for after forward.

    Args:
        frames: what frames are read from.
        shown: numbers of F frames in order; field i goes from shown[i] to shown[i + 1].
        method: a name as `optical_flow` takes.
        params: settings of the method; None takes its defaults.
        short_side: size that frames are brought to first; None keeps their own.
        bound_px: bound of the bytes (see `quantize`).
        quality: JPEG quality of the store that the flow is to equal.
        device: torch device of methods that use one.
        both_ways: compute forward and backward flow in one pass, as both will be read.

    Raises:
        FlowError: fewer than two frames.
        UnknownNameError, InputError: as `optical_flow`.
    """

    def __init__(
        self,
        frames: FrameReader,
        shown: Sequence[int] | NDArray[np.int64],
        *,
        method: str = DEFAULT_METHOD,
        params: FlowParams | None = None,
        short_side: int | None = None,
        bound_px: float = 20.0,
        quality: int = QUALITY,
        device: str = "cpu",
        both_ways: bool = False,
    ) -> None:
        self.num_fields = len(shown) - 1
        self._frames = frames
        self._shown = [int(number) for number in shown]
        self._method = find_method(method)
        self._params = self._method.resolve(params)
        self._method.check_device(device)
        self._short_side, self._device = short_side, device
        self._bound_px, self._quality = bound_px, quality
        self._directions: tuple[Direction, ...] = ("forward", "backward") if both_ways else ()
        for direction in self._directions:
            self._method.check_direction(direction)
        self._size: tuple[int, int] | None = None
        self._source = ""
        self._kept: dict[tuple[Direction, int], NDArray[np.uint8]] = {}
        if self.num_fields < 1:
            raise FlowError(
                "Optical flow needs at least 2 frames, there is 1. Use an RGB stream alone."
            )

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels of the grid that the flow is on; reads the first frame once."""
        if self._size is None:
            first = self._frames.read(self._shown[:1])
            self._size = resized_size(*first.size, self._short_side)
        return self._size

    def read(self, indices: Sequence[int], *, direction: Direction = "forward") -> Flow:
        """Fields `indices` as bytes, in any order and with repeats; see `FlowSource.read`.

        Raises:
            InputError: an index outside 0..num_fields - 1, or a direction that the method lacks.
            FlowError, VideoError: the flow cannot be computed, a frame cannot be read.
        """
        self._method.check_direction(direction)
        for index in indices:
            if not 0 <= index < self.num_fields:
                raise InputError(
                    f"There are {self.num_fields} flow fields, there is no field {index}."
                )
        directions = self._directions or (direction,)
        keys = [(direction, int(index)) for index in indices]
        fresh: dict[tuple[Direction, int], NDArray[np.uint8]] = {
            key: self._kept[key]
            for key in ((d, index) for d in directions for _, index in keys)
            if key in self._kept
        }
        missing = sorted({index for key in keys if key not in fresh for index in key[1:]})
        for first, last in runs(missing):
            self._compute(first, last, directions, fresh)
        self._kept = fresh
        fields = [fresh[key] for key in keys]
        data = np.stack(fields) if fields else np.empty((0, 2, *self.size), np.uint8)
        return Flow(data, self._method.name, self._source, self._bound_px)

    def _compute(
        self,
        first: int,
        last: int,
        directions: tuple[Direction, ...],
        out: dict[tuple[Direction, int], NDArray[np.uint8]],
    ) -> None:
        """Put fields first .. last into `out`, as a store gives them."""
        frames = self._frames.read(self._shown[first : last + 2])
        self._source = frames.source
        pair = self._method.compute(
            resize_short_side(frames.data, self._short_side),
            params=self._params,
            device=self._device,
            forward="forward" in directions,
            backward="backward" in directions,
            bound_px=self._bound_px,
            pts_seconds=frames.pts_seconds,
            source=frames.source,
        )
        for direction, fields in zip(get_args(Direction), pair, strict=True):
            if fields is not None:
                stored = through_jpeg(fields.astype(np.uint8, copy=False), quality=self._quality)
                out.update({(direction, first + n): field for n, field in enumerate(stored)})


def runs(indices: Sequence[int], *, longest: int = RUN_LENGTH) -> Iterator[tuple[int, int]]:
    """Rising indices as (first, last) of unbroken runs of at most `longest`.

    Example:
        3, 4, 5, 9 -> (3, 5), (9, 9).
    """
    first = previous = None
    for index in indices:
        if first is None or previous is None:
            first = index
        elif index != previous + 1 or index - first >= longest:
            yield first, previous
            first = index
        previous = index
    if first is not None and previous is not None:
        yield first, previous
