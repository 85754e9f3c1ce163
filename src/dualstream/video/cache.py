"""Frames that several readers share: decoded once, held while they are needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dualstream.types import Frames
from dualstream.video.source import FrameSource, taken


class FrameCache:
    """A `FrameSource` over another one that holds the frames of the last `prefetch`.

    A network that sees RGB and flow, and several networks side by side, read the same frames: they
    are fetched once, in one go, and read from memory. Frames that are not held are read from the
    source.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._rows: dict[int, int] = {}
        self._held: Frames | None = None
        self.name = source.name
        self.size = source.size
        self.fps = source.fps

    @property
    def available(self) -> range:
        """Numbers of the frames that can be read now."""
        return self._source.available

    @property
    def frame_bytes(self) -> int:
        """Size of one frame in memory."""
        return self.size[0] * self.size[1] * 3

    def seconds_of(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """(n,) presentation times of frames by number."""
        return self._source.seconds_of(indices)

    def prefetch(self, numbers: NDArray[np.int64]) -> None:
        """Hold these frames from now on, and no others.

        Args:
            numbers: of frames, rising. Those that are held already are not read again.

        Raises:
            InputError: a number that is not `available`.
            VideoError: the source cannot be read.
        """
        kept = [number for number in numbers.tolist() if number in self._rows]
        missing = [number for number in numbers.tolist() if number not in self._rows]
        held = self._source.read(missing) if missing else None
        if kept:
            assert self._held is not None
            rows = [self._rows[number] for number in kept]
            data, seconds = self._held.data[rows], self._held.pts_seconds[rows]
            if held is not None:
                data = np.concatenate((data, held.data))
                seconds = np.concatenate((seconds, held.pts_seconds))
            held = Frames(data, seconds, self.name)
        self._held = held
        self._rows = {number: row for row, number in enumerate((*kept, *missing))}

    def read(self, indices: Sequence[int], *, out: NDArray[np.uint8] | None = None) -> Frames:
        """Frames by number, in the order asked for; see `FrameSource.read`."""
        if (
            self._held is None
            or not len(indices)
            or not all(index in self._rows for index in indices)
        ):
            return self._source.read(indices, out=out)
        return taken(self._held, np.array([self._rows[index] for index in indices]), out)
