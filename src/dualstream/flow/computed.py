"""Flow computed when it is read, in the place of a stored file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowError
from dualstream.flow.images import one_opencv_thread, resize_short_side, resized_size
from dualstream.flow.methods.lookup import find_method
from dualstream.flow.methods.params import DEFAULT_METHOD, Direction, FlowParams
from dualstream.flow.methods.record import FlowTask
from dualstream.flow.store.fields import check_indices
from dualstream.flow.store.jpeg import QUALITY, through_jpeg
from dualstream.types import Flow
from dualstream.video.source import FrameSource

RUN_LENGTH = 32
"""Neighbouring fields computed at once; bounds memory, changes no result."""


class ComputedFlow:
    """A `FlowSource` over frames: exactly the bytes that a store of that flow would give.

    Stored flow has been through JPEG, so computed flow goes through it too. The fields of the last
    read of each direction are kept, as snippets share some with the next.

    Args:
        frames: where frames are read from.
        shown: numbers of F frames in order; field i goes from shown[i] to shown[i + 1].
        method: a name as `optical_flow` takes.
        params: settings of the method; None takes its defaults.
        short_side: size that frames are brought to first; None keeps their own.
        bound_px: bound of the bytes (see `quantize`).
        quality: JPEG quality of the store that the flow is to equal.
        device: torch device of methods that use one.
        num_threads: runs of fields that are computed side by side, by the methods of this package
            that run on the CPU.

    Raises:
        FlowError: fewer than two frames.
        UnknownNameError, InputError: as `optical_flow`.
    """

    def __init__(
        self,
        frames: FrameSource,
        shown: Sequence[int] | NDArray[np.int64],
        *,
        method: str = DEFAULT_METHOD,
        params: FlowParams | None = None,
        short_side: int | None = None,
        bound_px: float = 20.0,
        quality: int = QUALITY,
        device: str = "cpu",
        num_threads: int = 1,
    ) -> None:
        self._frames = frames
        self._shown = [int(number) for number in shown]
        self._method = find_method(method)
        self._params = self._method.resolve(params)
        self._method.check_device(device)
        self._short_side, self._device = short_side, device
        self._bound_px, self._quality = bound_px, quality
        self._num_threads = num_threads if self._method.sees == "grey" and device == "cpu" else 1
        self._kept: dict[Direction, dict[int, NDArray[np.uint8]]] = {}
        self.num_fields = len(self._shown) - 1
        self.size = resized_size(*frames.size, short_side)
        if self.num_fields < 1:
            raise FlowError(
                f"Optical flow needs at least 2 frames; {frames.name or 'the input'} has "
                f"{len(self._shown)}. Use an RGB stream alone."
            )

    def read(self, indices: Sequence[int], *, direction: Direction = "forward") -> Flow:
        """Fields `indices` as bytes, in any order and with repeats; see `FlowSource.read`.

        Raises:
            InputError: an index outside 0..num_fields - 1, or a direction that the method lacks.
            FlowError, VideoError: the flow cannot be computed, a frame cannot be read.
        """
        self._method.check_direction(direction)
        check_indices(indices, self.num_fields, self._frames.name or "The input")
        kept = self._kept.get(direction, {})
        fields = {int(index): kept[index] for index in indices if index in kept}
        missing = list(runs(sorted({int(index) for index in indices} - fields.keys())))
        for (first, _), computed in zip(missing, self._computed(missing, direction), strict=True):
            fields.update(enumerate(computed, start=first))
        self._kept[direction] = fields
        data = np.empty((len(indices), 2, *self.size), np.uint8)
        for place, index in enumerate(indices):
            data[place] = fields[int(index)]
        return Flow(data, self._method.name, self._frames.name, self._bound_px)

    def _computed(
        self, missing: Sequence[tuple[int, int]], direction: Direction
    ) -> Iterator[NDArray[np.uint8]]:
        """Fields of each run (first, last); frames of `num_threads` runs are held at a time."""
        with one_opencv_thread(), ThreadPoolExecutor(self._num_threads) as threads:
            for start in range(0, len(missing), self._num_threads):
                part = missing[start : start + self._num_threads]
                tasks = [self._task(first, last, direction) for first, last in part]
                yield from threads.map(self._run, tasks)

    def _task(self, first: int, last: int, direction: Direction) -> FlowTask[Any]:
        frames = self._frames.read(self._shown[first : last + 2])
        return FlowTask(
            images=resize_short_side(frames.data, self._short_side),
            params=self._params,
            device=self._device,
            forward=direction == "forward",
            backward=direction == "backward",
            bound_px=self._bound_px,
            pts_seconds=frames.pts_seconds,
            source=frames.source,
        )

    def _run(self, task: FlowTask[Any]) -> NDArray[np.uint8]:
        """Fields of a task as a store gives them."""
        there, back = self._method.compute(task)
        fields = there if task.forward else back
        assert fields is not None
        return through_jpeg(fields.astype(np.uint8, copy=False), quality=self._quality)


def runs(indices: Sequence[int], *, longest: int = RUN_LENGTH) -> Iterator[tuple[int, int]]:
    """Rising indices as (first, last) of unbroken runs of at most `longest`.

    Example:
        3, 4, 5, 9 -> (3, 5), (9, 9).
    """
    run: list[int] = []
    for index in indices:
        if run and (index != run[-1] + 1 or len(run) >= longest):
            yield run[0], run[-1]
            run = []
        run.append(index)
    if run:
        yield run[0], run[-1]
