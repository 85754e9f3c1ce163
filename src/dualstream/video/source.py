"""Random access to frames by number: of an array, of a camera's last seconds, of a cache."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError
from dualstream.types import Frames
from dualstream.video.times import DEFAULT_FPS, check_rate


@runtime_checkable
class FrameSource(Protocol):
    """Frames that can be read by number: `VideoReader`, `FrameArray` and `FrameBuffer`."""

    @property
    def name(self) -> str:
        """File or URL, for messages; empty for frames made in memory."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels as displayed, the same for all frames."""

    @property
    def fps(self) -> float:
        """Mean frames a second."""

    @property
    def available(self) -> range:
        """Numbers of the frames that can be read now; a live source's go on rising."""

    def seconds_of(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """(n,) presentation times of frames by number, in seconds of the source's clock.

        Raises:
            InputError: a number that is not `available`.
        """

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames by number, in the order asked for; repeats are allowed.

        Raises:
            InputError: a number that is not `available`, or no number.
            VideoError: the source cannot be read.
        """


def taken(frames: Frames, rows: NDArray[np.int64]) -> Frames:
    """Some of the frames, at least one; neighbours in rising order are a view."""
    is_run = bool((np.diff(rows) == 1).all())
    data = frames.data[rows[0] : rows[-1] + 1] if is_run else frames.data[rows]
    return Frames(data, frames.pts_seconds[rows], frames.source)


class FrameArray:
    """Frames in memory as a `FrameSource`.

    Args:
        frames: `Frames`, or (T, H, W, 3) RGB bytes; at least one frame.
        fps: frames a second. Must be given for a plain array, whose times are then t / fps; of
            `Frames` it counts where their times tell no mean rate (a single frame; else 25).

    Raises:
        ShapeError: an array that is not (T, H, W, 3) uint8.
        InputError: no frame, a rate that is not above 0, or a plain array without a rate.
    """

    def __init__(self, frames: Frames | NDArray[np.uint8], *, fps: float | None = None) -> None:
        if fps is not None:
            check_rate(fps)
        if not isinstance(frames, Frames):
            if fps is None:
                raise InputError("A plain array of frames has no times; pass its rate as fps=...")
            frames = Frames(frames, np.arange(len(frames)) / fps)
        if not len(frames):
            raise InputError("No frames were given; pass at least one.")
        self._frames = frames
        self.name = frames.source
        self.size = frames.size
        seconds = frames.pts_seconds
        span = float(seconds[-1] - seconds[0])
        self.fps = (len(frames) - 1) / span if span > 0 else fps or DEFAULT_FPS
        self.available = range(len(frames))

    def seconds_of(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """(n,) presentation times of frames by number."""
        return self._frames.pts_seconds[_checked(indices, self.available, self.name)]

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames by number; neighbours in rising order are a view."""
        return taken(self._frames, _checked(indices, self.available, self.name))


class FrameCache:
    """A `FrameSource` over another one that holds the frames of the last `prefetch`.

    Several streams and networks read the same frames: they are fetched once, in one go. Frames that
    are not held are read from the source.
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

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames by number, in the order asked for; see `FrameSource.read`."""
        rows = [self._rows[index] for index in indices if index in self._rows]
        if self._held is None or not rows or len(rows) < len(indices):
            return self._source.read(indices)
        return taken(self._held, np.array(rows))


class FromFirstFrame:
    """A `FrameSource` over another one, with times in seconds from its first frame.

    Clocks of files start anywhere (transport streams); players, and those who score videos in them,
    count from the beginning.

    Args:
        source: with its frames there, not live.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.name, self.size, self.fps = source.name, source.size, source.fps
        self._first_seconds = float(source.seconds_of(source.available[:1])[0])

    @property
    def available(self) -> range:
        """Numbers of the frames that can be read."""
        return self._source.available

    def seconds_of(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """(n,) seconds from the first frame to frames by number."""
        return self._source.seconds_of(indices) - self._first_seconds

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames by number, in the order asked for; see `FrameSource.read`."""
        found = self._source.read(indices)
        return Frames(found.data, found.pts_seconds - self._first_seconds, found.source)


class FrameBuffer:
    """The last frames of a live source, as a `FrameSource` with absolute frame numbers.

    One thread may append while others read.

    Args:
        capacity: frames kept; the oldest makes room for the newest.
        size: (H, W) of every frame.
        fps: frames a second that the source gives.
        name: camera or URL, for messages.

    Raises:
        InputError: a capacity or a size below 1, or a rate that is not above 0.
    """

    def __init__(self, capacity: int, *, size: tuple[int, int], fps: float, name: str = "") -> None:
        if capacity < 1 or min(size) < 1:
            raise InputError(f"capacity and size must be at least 1, got {capacity} and {size}.")
        check_rate(fps)
        self.name = name
        self.size = size
        self.fps = fps
        self._images = np.empty((capacity, *size, 3), np.uint8)
        self._seconds = np.empty(capacity, np.float64)
        self._num_appended = 0
        self._lock = threading.Lock()

    @property
    def capacity(self) -> int:
        """Frames that are kept."""
        return len(self._seconds)

    @property
    def available(self) -> range:
        """Numbers of the frames that are still held: 7 appended, capacity 5 -> 2..6."""
        return range(max(0, self._num_appended - len(self._seconds)), self._num_appended)

    def append(self, image: NDArray[np.uint8], seconds: float) -> None:
        """Keep the next frame.

        Args:
            image: (H, W, 3) RGB bytes; they are copied.
            seconds: its presentation time.

        Raises:
            ShapeError: an image of another shape or dtype.
            InputError: a time that does not lie after the one before.
        """
        if image.shape != (*self.size, 3) or image.dtype != np.uint8:
            raise ShapeError(
                f"Frame {self._num_appended} of {self.name!r} must be {(*self.size, 3)} uint8, "
                f"got {image.shape} {image.dtype}."
            )
        with self._lock:
            place = self._num_appended % len(self._seconds)
            if self._num_appended and not seconds > self._seconds[place - 1]:
                raise InputError(
                    f"Frame {self._num_appended} of {self.name!r} is stamped {seconds} s, which "
                    f"is not after the frame before ({self._seconds[place - 1]} s)."
                )
            self._images[place] = image
            self._seconds[place] = seconds
            self._num_appended += 1

    def seconds_of(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """(n,) presentation times of frames by number."""
        with self._lock:
            return self._seconds[self._places(indices)]

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames by number, copied.

        Raises:
            InputError: a frame that has passed or has not come yet, or no number.
        """
        with self._lock:
            places = self._places(indices)
            return Frames(self._images[places], self._seconds[places], self.name)

    def _places(self, indices: Sequence[int]) -> NDArray[np.int64]:
        return _checked(indices, self.available, self.name) % len(self._seconds)


def _checked(indices: Sequence[int], available: range, name: str) -> NDArray[np.int64]:
    """Frame numbers as an array, at least one and all available, else InputError."""
    numbers = np.asarray(indices, np.int64)
    if not numbers.size:
        raise InputError(f"No frame indices were given for {name!r}; pass at least one.")
    bad = numbers[(numbers < available.start) | (numbers >= available.stop)]
    if bad.size:
        held = f"{available.start}..{available.stop - 1}" if available else "none yet"
        why = "has passed" if 0 <= bad[0] < available.start else "does not exist"
        raise InputError(f"Frame {bad[0]} of {name!r} {why}; available: {held}.")
    return numbers
