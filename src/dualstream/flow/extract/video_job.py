"""The flow of one video, from its file to the store: read, compute and write, in three threads."""

from __future__ import annotations

import errno
import itertools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import DualstreamError, FlowError, VideoNotFoundError
from dualstream.files import file_sha256
from dualstream.flow.extract.job import FlowJob, FlowOutcome, FlowSettings, Status
from dualstream.flow.images import grey_windows, one_opencv_thread, resize_short_side
from dualstream.flow.methods.params import Direction
from dualstream.flow.methods.record import FieldPair, FlowTask, Method
from dualstream.flow.quantize import encoded, pixels
from dualstream.flow.store.fields import FlowWriter
from dualstream.flow.store.file import FlowFile, writing_file
from dualstream.flow.store.folders import FlowFolder, writing_folder
from dualstream.flow.store.meta import FlowMeta
from dualstream.flow.store.store import FlowStore
from dualstream.types import Flow, Frames
from dualstream.video import VideoInfo, VideoReader, probe

Source = TypeVar("Source")
Item = TypeVar("Item")
Result = TypeVar("Result")

# A window shares a frame with the next, so short ones cost; a GPU works on one as a whole.
_WINDOW = 33
_WINDOW_BYTES = 64 * 2**20

Window = NDArray[np.uint8] | Frames | Flow
"""Grey frames (T, H, W), colour frames, or flow that is there already."""

# Errors of a store that no other video could be written to either.
_STORE_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def extract_video(job: FlowJob, settings: FlowSettings, *, alone: bool = False) -> FlowOutcome:
    """Compute and store the flow of one video; what the video can do wrong becomes an outcome.

    `alone` is for a process that has one core, so that stages in threads would only cost.
    """
    if alone:
        cv2.setNumThreads(1)
        os.environ["OMP_NUM_THREADS"] = "1"  # for torch, if the method imports it now
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
    start = time.perf_counter()
    status: Status = "failed"
    count, error, is_store_full = 0, None, False
    try:
        with one_opencv_thread():
            status, count = _extract(job, settings, one_core=alone or _num_cores() == 1)
    # RuntimeError is what torch raises when a GPU's memory is full.
    except (DualstreamError, OSError, MemoryError, RuntimeError) as failure:
        error = str(failure) or type(failure).__name__
        cause = failure if isinstance(failure, OSError) else failure.__cause__
        is_store_full = isinstance(cause, OSError) and cause.errno in _STORE_FULL
    seconds = time.perf_counter() - start
    return FlowOutcome(job.name, status, count, seconds, error, is_store_full)


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def window_length(height: int, width: int) -> int:
    """Frames decoded at once: 33, fewer where their RGB bytes would exceed 64 MiB, 2 at least.

    240x320 -> 33; 1080x1920 -> 10; 2160x3840 -> 2.
    """
    return max(2, min(_WINDOW, _WINDOW_BYTES // (height * width * 3)))


def _extract(job: FlowJob, settings: FlowSettings, *, one_core: bool) -> tuple[Status, int]:
    if not os.path.isfile(job.path):
        raise VideoNotFoundError(f"{job.path} does not exist.")
    sha256 = job.sha256 or file_sha256(job.path)
    due: dict[Direction, FlowMeta] = {}
    count = 0
    for direction in settings.roots:
        meta = replace(
            settings.template, direction=direction, source=job.name, source_sha256=sha256
        )
        found = None if settings.overwrite else _complete(job.name, meta, settings)
        if found is None:
            due[direction] = meta
        else:
            count = found
    if not due:
        return "kept", count
    if job.sha256 is not None and job.sha256 != file_sha256(job.path):
        raise FlowError(f"{job.path} is not the file that `dualstream prepare` saw; run it again.")
    method = settings.method
    with ExitStack() as stack:
        info, windows = _open_windows(job, method, settings, stack)
        compute = partial(_fields, method=method, settings=settings, source=job.path, due=due)
        write = partial(_write, name=job.name, due=due, settings=settings, fps=info.fps)
        if one_core and settings.device == "cpu":
            return "done", write(map(compute, windows))
        return "done", run_pipeline(windows, compute, write, size_of=_num_bytes)


def _complete(name: str, meta: FlowMeta, settings: FlowSettings) -> int | None:
    """Number of fields if the store has this flow, whole and made in this way, else None."""
    path = settings.target(name, meta.direction)
    if settings.layout == "store":
        if not FlowStore(settings.roots[meta.direction]).is_complete(name, meta):
            return None
        with FlowFile.open(path) as file:
            return file.num_fields
    try:
        folder = FlowFolder.open(path, source_sha256=meta.source_sha256)
    except FlowError:
        return None
    return folder.num_fields if folder.meta.same_settings(meta) else None


def _open_windows(
    job: FlowJob, method: Method[Any], settings: FlowSettings, stack: ExitStack
) -> tuple[VideoInfo, Iterator[Window]]:
    """The video's facts and its windows in order: frames that share one with the next window,
    grey where the method sees no more, or flow that the file holds. `stack` closes what is
    opened."""
    windows: Iterator[Window]
    if method.read_file is not None:
        info = probe(job.path)
        length = window_length(info.height, info.width)
        windows = method.read_file(job.path, length, settings.params)
    else:
        reader = stack.enter_context(VideoReader(job.path))
        info = reader.info
        length = window_length(info.height, info.width)
        if method.sees == "grey":
            images = (image for image, _ in reader.images())
            windows = grey_windows(images, length, short_side=settings.template.short_side)
        else:
            windows = reader.windows(length, step=length - 1)
    if settings.max_fields is not None:
        windows = itertools.islice(windows, max(1, settings.max_fields // (length - 1)))
    return info, windows


def _fields(
    window: Window,
    *,
    method: Method[Any],
    settings: FlowSettings,
    source: str,
    due: Collection[Direction],
) -> FieldPair:
    """Fields of a window: bytes in the store's mapping, for folders float32 pixels."""
    bound_px = settings.template.bound_px if settings.layout == "store" else None
    if isinstance(window, Flow):
        return pixels(window) if bound_px is None else encoded(window, bound_px=bound_px), None
    pts_seconds: NDArray[np.float64] | None = None
    if isinstance(window, Frames):
        pts_seconds = window.pts_seconds
        window = resize_short_side(window.data, settings.template.short_side)
    task = FlowTask(
        images=window,
        params=settings.params,
        device=settings.device,
        directions=tuple(due),
        bound_px=bound_px,
        pts_seconds=pts_seconds,
        source=source,
    )
    return method.compute(task)


def _write(
    pairs: Iterator[FieldPair],
    *,
    name: str,
    due: Mapping[Direction, FlowMeta],
    settings: FlowSettings,
    fps: float,
) -> int:
    """Write the directions that are due side by side; returns the number of fields."""
    with ExitStack() as files:
        writers: dict[Direction, FlowWriter] = {}
        for direction, meta in due.items():
            path = settings.target(name, direction)
            writing = writing_file if settings.layout == "store" else writing_folder
            writers[direction] = files.enter_context(writing(path, replace(meta, fps=fps)))
        for pair in pairs:
            for direction, fields in zip(get_args(Direction), pair, strict=True):
                if fields is not None:
                    writers[direction].add(fields)
    return next(iter(writers.values())).meta.num_fields


def _num_bytes(item: Window | FieldPair) -> int:
    """Bytes of the arrays of what waits in the pipeline."""
    if isinstance(item, tuple):
        return sum(fields.nbytes for fields in item if fields is not None)
    return item.nbytes if isinstance(item, np.ndarray) else item.data.nbytes


def run_pipeline(
    sources: Iterable[Source],
    compute: Callable[[Source], Item],
    write: Callable[[Iterator[Item]], Result],
    *,
    size_of: Callable[[Any], int],
    limit_bytes: int = 16 * 2**20,
) -> Result:
    """`write(compute(source) for source in sources)`, each part in a thread of its own.

    `sources` are read ahead in one thread, `compute` runs in the calling one, `write` in a third.
    An error in any of them, or Ctrl-C, ends all three: the reader stops after the source that it
    is at, and the iterator of `write` raises, so that what is half written can be removed. No
    thread outlives the call. The error raised is that of the first stage in line that failed.

    `size_of` gives the bytes of a source or an item. At most `limit_bytes` wait in each of the two
    queues, or one source or item however large it is; three more of each are in the hands of the
    stages.
    """
    read: _Channel[Source] = _Channel(limit_bytes, size_of)
    computed: _Channel[Item] = _Channel(limit_bytes, size_of)
    with ThreadPoolExecutor(2, thread_name_prefix="dualstream-flow") as threads:
        reading = threads.submit(_feed, sources, read)
        writing = threads.submit(_drain, write, computed)
        try:
            _feed(map(compute, read), computed)
        except _EndedError:  # another stage failed; its error is raised below
            pass
        finally:
            read.end(drop=True)
        for future in (reading, writing):
            error = future.exception()
            if error is not None and not isinstance(error, _EndedError):
                raise error
        return writing.result()


class _EndedError(Exception):
    """The other side of a channel gave up."""


class _Channel(Generic[Item]):
    """A queue of limited bytes between two threads, which either of them can end."""

    def __init__(self, limit_bytes: int, size_of: Callable[[Any], int]) -> None:
        self._limit_bytes, self._size_of = limit_bytes, size_of
        self._bytes = 0
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_finished = self._is_dropped = False

    def put(self, item: Item) -> None:
        """Append an item once there is room; _EndedError if nobody will take it."""
        size = self._size_of(item)
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._is_dropped or not self._items or self._bytes + size <= self._limit_bytes
                )
            )
            if self._is_dropped:
                raise _EndedError
            self._items.append(item)
            self._bytes += size
            self._changed.notify_all()

    def end(self, *, drop: bool = False) -> None:
        """Say that no item follows. With `drop` those that wait are dropped, and both sides
        raise _EndedError from now on."""
        with self._changed:
            self._is_finished = True
            if drop:
                self._is_dropped = True
                self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_finished or bool(self._items))
                if self._is_dropped:
                    raise _EndedError
                if not self._items:
                    return
                item = self._items.popleft()
                self._bytes -= self._size_of(item)
                self._changed.notify_all()
            yield item
            del item  # what was taken is not held while waiting for the next


def _feed(items: Iterable[Item], channel: _Channel[Item]) -> None:
    try:
        for item in items:
            channel.put(item)
            del item  # the queue alone holds what waits
    except BaseException:
        channel.end(drop=True)
        raise
    channel.end()


def _drain(write: Callable[[Iterator[Item]], Result], channel: _Channel[Item]) -> Result:
    try:
        return write(iter(channel))
    finally:
        channel.end(drop=True)
