"""The flow of one video, from its file to the store."""

from __future__ import annotations

import errno
import itertools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import DualstreamError, FlowError, VideoNotFoundError
from dualstream.files import file_sha256
from dualstream.flow.folders import FlowFolder, write_folder
from dualstream.flow.grey import grey_windows
from dualstream.flow.jobs import FlowJob, FlowOutcome, FlowSettings, Layout, Status
from dualstream.flow.meta import FlowMeta
from dualstream.flow.methods import grey_flow_bytes, is_grey
from dualstream.flow.named import MOTION_VECTORS, named_flow
from dualstream.flow.opencv import one_opencv_thread
from dualstream.flow.pipeline import run_pipeline
from dualstream.flow.quantize import encoded, pixels
from dualstream.flow.store import FlowFile, FlowStore
from dualstream.types import Flow, Frames
from dualstream.video import VideoInfo, VideoReader, probe

INTRA: Literal["repeat"] = "repeat"
"""What stands in its fields where a picture has no vectors (see `read_motion_vectors`)."""

# A window shares a frame with the next, so short ones cost; a GPU works on one as a whole.
_WINDOW = 33
_WINDOW_BYTES = 64 * 2**20

Window = NDArray[np.uint8] | Frames | Flow
"""Grey frames (T, H, W), colour frames, or flow that is there already."""

# What an OSError says of a store that no other video could be written to either.
_STORE_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def extract_video_alone(job: FlowJob, settings: FlowSettings) -> FlowOutcome:
    """`extract_video` in a process that has one core, so that stages in threads would only cost."""
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for torch, if the method imports it now
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return _outcome(job, settings, one_core=settings.device == "cpu")


def extract_video(job: FlowJob, settings: FlowSettings) -> FlowOutcome:
    """Compute and store the flow of one video; what the video can do wrong becomes an outcome."""
    return _outcome(job, settings, one_core=settings.device == "cpu" and _num_cores() == 1)


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _outcome(job: FlowJob, settings: FlowSettings, *, one_core: bool) -> FlowOutcome:
    start = time.perf_counter()
    status: Status = "failed"
    count, error, is_store_full = 0, None, False
    try:
        with one_opencv_thread():
            status, count = _extract(job, settings, one_core=one_core)
    # RuntimeError is how torch tells that a GPU's memory is full.
    except (DualstreamError, OSError, MemoryError, RuntimeError) as failure:
        error = str(failure) or type(failure).__name__
        cause = failure if isinstance(failure, OSError) else failure.__cause__
        is_store_full = isinstance(cause, OSError) and cause.errno in _STORE_FULL
    seconds = time.perf_counter() - start
    return FlowOutcome(job.name, status, count, seconds, error, is_store_full)


def window_length(height: int, width: int) -> int:
    """Frames decoded at once: 33, fewer where their RGB bytes would exceed 64 MiB, 2 at least.

    240x320 -> 33; 1080x1920 -> 10; 2160x3840 -> 2.
    """
    return max(2, min(_WINDOW, _WINDOW_BYTES // (height * width * 3)))


def _extract(job: FlowJob, settings: FlowSettings, *, one_core: bool) -> tuple[Status, int]:
    store = FlowStore(settings.root)
    if not os.path.isfile(job.path):
        raise VideoNotFoundError(f"{job.path} does not exist.")
    sha256 = job.sha256 or file_sha256(job.path)
    meta = replace(settings.template, source=job.name, source_sha256=sha256)
    if not settings.overwrite:
        count = _complete(store, job.name, meta, settings.layout)
        if count is not None:
            return "kept", count
    if job.sha256 is not None and job.sha256 != file_sha256(job.path):
        raise FlowError(f"{job.path} is not the file that `dualstream prepare` saw; run it again.")
    with ExitStack() as stack:
        info, windows = _open_windows(job, settings, stack)
        meta = replace(meta, fps=info.fps)

        def compute(window: Window) -> NDArray[Any]:
            return _fields(window, settings, job.path)

        def write(fields: Iterator[NDArray[Any]]) -> FlowMeta:
            if settings.layout == "folders":
                return write_folder(store.folder_path(job.name), fields, meta)
            return store.write(job.name, fields, meta)

        written = (
            write(map(compute, windows)) if one_core else run_pipeline(windows, compute, write)
        )
        return "done", written.num_fields


def _complete(store: FlowStore, name: str, meta: FlowMeta, layout: Layout) -> int | None:
    """Number of fields if the store has this flow, whole and made in this way, else None."""
    if layout == "store":
        if not store.is_complete(name, meta):
            return None
        with FlowFile.open(store.path(name)) as file:
            return file.num_fields
    try:
        folder = FlowFolder.open(store.folder_path(name), source_sha256=meta.source_sha256)
    except FlowError:
        return None
    return folder.num_fields if folder.meta.same_settings(meta) else None


def _open_windows(
    job: FlowJob, settings: FlowSettings, stack: ExitStack
) -> tuple[VideoInfo, Iterator[Window]]:
    """The video's facts and its windows in order: frames that share one with the next window,
    grey where the method sees no more, or motion vectors. `stack` closes what is opened."""
    windows: Iterator[Window]
    if settings.method == MOTION_VECTORS:
        from dualstream.video.motion_vectors import motion_vector_windows

        info = probe(job.path)
        length = window_length(info.height, info.width)
        windows = motion_vector_windows(job.path, length, intra=INTRA)
    else:
        reader = stack.enter_context(VideoReader(job.path))
        info = reader.info
        length = window_length(info.height, info.width)
        if _sees_grey(settings):
            images = (image for image, _ in reader.images())
            windows = grey_windows(images, length, short_side=settings.template.short_side)
        else:
            windows = reader.windows(length, step=length - 1)
    if settings.max_fields is not None:
        windows = itertools.islice(windows, max(1, settings.max_fields // (length - 1)))
    return info, windows


def _sees_grey(settings: FlowSettings) -> bool:
    return settings.layout == "store" and not settings.is_warped and is_grey(settings.method)


def _fields(window: Window, settings: FlowSettings, source: str) -> NDArray[Any]:
    """(n, 2, H, W): bytes in the store's mapping, for folders float32 pixels."""
    template = settings.template
    if isinstance(window, np.ndarray):
        return grey_flow_bytes(
            window,
            method=settings.method,
            params=settings.params,
            device=settings.device,
            direction=template.direction,
            bound_px=template.bound_px,
            source=source,
        )
    flow = window if isinstance(window, Flow) else _flow(window, settings)
    if settings.layout == "folders":
        return pixels(flow)
    return encoded(flow, bound_px=template.bound_px)


def _flow(frames: Frames, settings: FlowSettings) -> Flow:
    return named_flow(
        frames,
        name=settings.template.method,
        params=settings.params,
        device=settings.device,
        short_side=settings.template.short_side,
        direction=settings.template.direction,
    )
