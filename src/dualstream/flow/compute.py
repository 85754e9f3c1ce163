"""Optical flow of consecutive frames by any method, at once or when it is read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowError, ShapeError, check_choice
from dualstream.flow.images import one_opencv_thread, resize_short_side, resized_size
from dualstream.flow.methods.lookup import WARPED_PREFIX, find_method
from dualstream.flow.methods.params import DEFAULT_METHOD, Direction, FlowParams
from dualstream.flow.methods.record import FlowTask
from dualstream.flow.store.fields import check_indices, through_jpeg
from dualstream.flow.store.meta import QUALITY
from dualstream.types import Flow, Frames
from dualstream.video.source import FrameSource

RUN_LENGTH = 32
"""Neighbouring fields that `ComputedFlow` computes at once; bounds memory, changes no result."""

KEPT_BYTES = 256 * 2**20
"""Computed fields that are kept for the next read; bounds memory, changes no result."""


class FlowOptions(TypedDict, total=False):
    """Options that `optical_flow` shares with the functions beside it and `extract_flow`."""

    method: str
    params: FlowParams | None
    device: str
    short_side: int | None


def optical_flow(
    frames: Frames | NDArray[np.uint8],
    *,
    method: str = DEFAULT_METHOD,
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
    direction: Direction = "forward",
) -> Flow:
    """Displacement of every pixel between neighbouring frames.

    Args:
        frames: T >= 2 frames of (H, W): `Frames`, or a uint8 array (T, H, W, 3) of RGB or
            (T, H, W) of grey images. Methods that see colour (`raft`, plugins, `warped-...`) get
            grey images as three equal channels.
        method: `tvl1-fast`, `tvl1` (what the two-stream papers used; the same energy, several
            times slower), `dis` (less exact), `farneback`, `raft` (a network; needs its
            weights), the name of a plugin, or `warped-` and one of these (see `warped_flow`).
        params: settings of that method; None takes its defaults.
        device: torch device of `tvl1`, `tvl1-fast` and `raft`; the others run on the CPU only.
        short_side: resize the frames first so that their short side is this many pixels;
            the flow is then in pixels of that smaller (or larger) grid. None keeps the size.
        direction: `forward` gives the way from frame t to t + 1. `backward` gives the way from
            frame t + 1 to t, in place t of the result.

    Returns:
        Flow with (T-1, 2, H, W) float32, x right and y down.

    Raises:
        ShapeError: an array of another shape or type.
        FlowError: fewer than two frames; a plugin that fails.
        UnknownNameError: an unknown method or direction.
        InputError: frames too small for the method, settings of another method, a device
            that the method or this machine does not have, or motion vectors, which are in files.
        WeightsError: RAFT's weights are not there and cannot be fetched.
    """
    check_choice("direction", direction, Direction)
    (flow,) = _compute(
        frames, (direction,), method=method, params=params, device=device, short_side=short_side
    )
    return flow


def flow_both_ways(
    frames: Frames | NDArray[np.uint8], **options: Unpack[FlowOptions]
) -> tuple[Flow, Flow]:
    """Forward and backward flow in one pass; arguments and errors of `optical_flow`."""
    there, back = _compute(frames, ("forward", "backward"), **options)
    return there, back


def warped_flow(
    frames: Frames | NDArray[np.uint8],
    *,
    mask: NDArray[np.bool_] | None = None,
    **options: Unpack[FlowOptions],
) -> Flow:
    """Flow with the camera's motion removed: zero on the background, its own motion elsewhere.

    The second frame of each pair is warped onto the first by the homography of the background,
    and the flow to it is computed. Where it shows nothing (it has left the picture) the first
    frame's own pixels stand, so that there is no motion. The homography comes from features and
    from DIS flow, whatever the method.

    Subtracting the homography's displacement from flow that is computed once, instead, would leave
    more on the background: .02 to .08 px against .02 to .03 px at pans of 4 to 15 px, and 4 px
    against .03 at pans of 45 px, which the flow itself cannot follow.

    Args:
        frames: T >= 2 frames; below 16 px the camera is taken to stand still.
        mask: (T, H, W) on the grid of the flow, see `estimate_camera_motion`.
        options: as `optical_flow`, whose errors are raised too.

    Returns:
        Flow of method "warped-<method>", (T-1, 2, H, W): displacement from frame t to where it
        would be in frame t + 1 had the camera stood still.

    Source:
        Wang & Schmid 2013, section 2 (they too warp the second frame and compute flow again);
        Wang et al. 2016 (TSN), section 3.2, for warped flow as an input.
    """
    options["method"] = WARPED_PREFIX + find_method(options.get("method", DEFAULT_METHOD)).name
    (flow,) = _compute(frames, ("forward",), mask=mask, **options)
    return flow


def _compute(
    frames: Frames | NDArray[np.uint8],
    directions: tuple[Direction, ...],
    *,
    mask: NDArray[np.bool_] | None = None,
    method: str = DEFAULT_METHOD,
    params: FlowParams | None = None,
    device: str = "cpu",
    short_side: int | None = None,
) -> list[Flow]:
    """Flow in each of the directions."""
    record = find_method(method)
    for direction in directions:
        record.check_direction(direction)
    settings = record.resolve(params)
    record.check_device(device)
    if isinstance(frames, Frames):
        images, pts_seconds, source = frames.data, frames.pts_seconds, frames.source
    else:
        images, pts_seconds, source = _checked(frames), None, ""
    task = FlowTask(
        images=resize_short_side(images, short_side),
        params=settings,
        device=device,
        directions=directions,
        mask=mask,
        pts_seconds=pts_seconds,
        source=source,
    )
    found = record.compute(task)
    return [Flow(fields, record.name, source) for fields in found if fields is not None]


def _checked(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`images` if it is an array of frames, else ShapeError."""
    found = type(images).__name__
    if isinstance(images, np.ndarray):
        is_frames = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
        if is_frames and images.dtype == np.uint8 and images.size:
            return images
        found = f"{images.shape} {images.dtype}"
    raise ShapeError(
        f"Frames must be Frames, or an array (T, H, W, 3) or (T, H, W) of uint8, got {found}."
    )


class FlowSource(Protocol):
    """Random access to the flow fields between the frames of one video."""

    @property
    def num_fields(self) -> int:
        """Number of fields: frames minus one."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels of the grid that the flow is on."""

    def read(self, indices: Sequence[int], *, direction: Direction = "forward") -> Flow:
        """Fields `indices`, in any order and with repeats.

        Args:
            indices: n fields; field i lies between frames i and i + 1.
            direction: `forward` leads from frame i to i + 1, `backward` from i + 1 to i.

        Returns:
            Flow of n fields; as bytes (`Flow.bound_px` is a number) where bytes are what is
            stored.

        Raises:
            InputError: an index outside 0..num_fields - 1, or a direction that is not there.
            FlowError: the flow cannot be read or computed.
        """


FieldKey = tuple[Hashable, int, int]
"""How a field is computed, and the numbers of the frames from which and to which it leads."""


class FieldCache:
    """Computed fields of one video, of which those go first that were not read for longest.

    Snippets, windows and streams share fields: each is computed once while it is kept.

    Args:
        most_bytes: what is kept at most.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._num_bytes = 0
        self._fields: OrderedDict[FieldKey, NDArray[np.uint8]] = OrderedDict()

    def get(self, key: FieldKey) -> NDArray[np.uint8] | None:
        """Return the field of a key, None where it is not kept."""
        if key in self._fields:
            self._fields.move_to_end(key)
        return self._fields.get(key)

    def put(self, key: FieldKey, field: NDArray[np.uint8]) -> None:
        """Keep a field under a key that has none."""
        self._fields[key] = field
        self._num_bytes += field.nbytes
        while self._num_bytes > self._most_bytes:
            self._num_bytes -= self._fields.popitem(last=False)[1].nbytes

    def forget(self, *, before: int) -> None:
        """Let go of the fields that lead from frames before this one."""
        for key in [key for key in self._fields if key[1] < before]:
            self._num_bytes -= self._fields.pop(key).nbytes


class ComputedFlow:
    """A `FlowSource` over frames: exactly the bytes that a store of that flow would give.

    Stored flow has been through JPEG, so computed flow goes through it too.

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
        cache: where fields are kept, shared with other flow of the same frames; None makes one.

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
        cache: FieldCache | None = None,
    ) -> None:
        self._frames = frames
        self._shown = [int(number) for number in shown]
        self._method = find_method(method)
        self._params = self._method.resolve(params)
        self._method.check_device(device)
        self._short_side, self._device = short_side, device
        self._bound_px, self._quality = bound_px, quality
        self._num_threads = num_threads if self._method.sees == "grey" and device == "cpu" else 1
        self._cache = FieldCache() if cache is None else cache
        self._alike = (self._method.name, self._params, short_side, bound_px, quality, device)
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
        wanted = {int(index): self._key(int(index), direction) for index in indices}
        kept = {index: self._cache.get(key) for index, key in wanted.items()}
        fields = {index: field for index, field in kept.items() if field is not None}
        unknown = sorted(wanted.keys() - fields.keys())
        share = -(-len(unknown) // self._num_threads)  # so that there is a run for each thread
        missing = list(runs(unknown, longest=max(1, min(RUN_LENGTH, share))))
        for (first, _), computed in zip(missing, self._computed(missing, direction), strict=True):
            for index, field in enumerate(computed, start=first):
                fields[index] = field
                self._cache.put(wanted[index], field)
        data = np.empty((len(indices), 2, *self.size), np.uint8)
        for place, index in enumerate(indices):
            data[place] = fields[int(index)]
        return Flow(data, self._method.name, self._frames.name, self._bound_px)

    def _key(self, index: int, direction: Direction) -> FieldKey:
        return (*self._alike, direction), self._shown[index], self._shown[index + 1]

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
            directions=(direction,),
            bound_px=self._bound_px,
            pts_seconds=frames.pts_seconds,
            source=frames.source,
        )

    def _run(self, task: FlowTask[Any]) -> NDArray[np.uint8]:
        """Fields of a task as a store gives them."""
        there, back = self._method.compute(task)
        fields = back if there is None else there
        assert fields is not None
        return through_jpeg(fields.astype(np.uint8, copy=False), quality=self._quality)


def runs(indices: Sequence[int], *, longest: int = RUN_LENGTH) -> Iterator[tuple[int, int]]:
    """Rising indices as (first, last) of unbroken runs: 3, 4, 5, 9 -> (3, 5), (9, 9)."""
    run: list[int] = []
    for index in indices:
        if run and (index != run[-1] + 1 or len(run) >= longest):
            yield run[0], run[-1]
            run = []
        run.append(index)
    if run:
        yield run[0], run[-1]
