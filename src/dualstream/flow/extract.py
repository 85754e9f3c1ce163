"""Optical flow of many videos into a flow store."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import cv2

import dualstream
from dualstream.errors import (
    DualstreamError,
    FlowError,
    InputError,
    UnknownNameError,
    VideoNotFoundError,
)
from dualstream.flow.abandoned import remove_abandoned
from dualstream.flow.folders import FlowFolder, write_folder
from dualstream.flow.meta import FlowMeta
from dualstream.flow.methods import check_device, optical_flow
from dualstream.flow.opencv import one_opencv_thread
from dualstream.flow.params import Direction, FlowMethod, FlowParams, resolve_params
from dualstream.flow.pool import run_jobs
from dualstream.flow.quantize import quantize
from dualstream.flow.store import FlowFile, FlowStore
from dualstream.types import Flow
from dualstream.video import VideoReader

Layout = Literal["store", "folders"]
"""One ZIP a video, or folders of images as denseflow and MMAction2 read them."""

Status = Literal["done", "kept", "failed"]

_LONGEST_WINDOW = 33
_WINDOW_BYTES = 64 * 2**20


@dataclass(frozen=True)
class FlowJob:
    """One video whose flow is wanted."""

    name: str
    """Name in the store (manifest path)."""
    path: str
    """The video file."""
    sha256: str | None = None
    """SHA-256 of the file where it is known; the file is checked against it."""


@dataclass(frozen=True)
class FlowOutcome:
    """What became of one job."""

    name: str
    status: Status
    """`kept`: the store had it already, complete and made in the same way."""
    num_fields: int
    seconds: float
    error: str | None = None
    """Why it failed."""


@dataclass(frozen=True)
class _Settings:
    root: Path
    method: FlowMethod
    params: FlowParams
    device: str
    layout: Layout
    overwrite: bool
    template: FlowMeta


def extract_flow(
    jobs: Sequence[FlowJob],
    root: str | os.PathLike[str],
    *,
    method: FlowMethod = "dis",
    params: FlowParams | None = None,
    workers: int = 1,
    device: str = "cpu",
    short_side: int | None = None,
    bound_px: float = 20.0,
    quality: int = 95,
    direction: Direction = "forward",
    overwrite: bool = False,
    layout: Layout = "store",
) -> Iterator[FlowOutcome]:
    """Compute and store the flow of videos; gives each outcome as its video is finished.

    A video that the store has already, complete by its checksums, from the same file and with
    the same settings, is kept. A video that cannot be read fails and the others go on; so do
    they when a worker process dies. Each video is decoded in windows, in constant memory. A
    run that was killed leaves whole files only; the same call goes on where it stopped.

    Args:
        jobs: the videos; names differ.
        root: folder of the flow store.
        method: see `optical_flow`.
        params: settings of the method; None takes its defaults.
        workers: processes that work side by side, one thread each; 1 works in this process.
        device: torch device for `tvl1` and `raft`.
        short_side: size that frames are brought to first; None keeps their own.
        bound_px: largest displacement stored (see `quantize`).
        quality: JPEG quality, 1..100.
        direction: see `optical_flow`.
        overwrite: compute videos anew that the store has already.
        layout: `store`, or `folders` of images in denseflow's mapping.

    Yields:
        FlowOutcome, in order of completion.

    Raises:
        InputError: an option that cannot be used, or two jobs of one name (raised at once).
    """
    settings = resolve_params(method, params)
    check_device(method, device)
    if layout not in get_args(Layout):
        raise UnknownNameError("layout", layout, get_args(Layout))
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}.")
    template = FlowMeta(
        method=method,
        params=asdict(settings),
        direction=direction,
        bound_px=float(bound_px),
        short_side=short_side,
        quality=quality,
        version=dualstream.__version__,
    )
    run = _Settings(Path(root), method, settings, device, layout, overwrite, template)
    return _run(jobs, run, workers, _target_folders(jobs, FlowStore(root), layout))


def _target_folders(jobs: Sequence[FlowJob], store: FlowStore, layout: Layout) -> list[Path]:
    """Folders that will be written to; InputError if two jobs have one target."""
    targets: dict[Path, str] = {}
    for job in jobs:
        target = store.path(job.name) if layout == "store" else store.folder_path(job.name)
        if target in targets:
            raise InputError(f"Videos {targets[target]!r} and {job.name!r} both go to {target}.")
        targets[target] = job.name
    return sorted({target.parent for target in targets})


def _run(
    jobs: Sequence[FlowJob], settings: _Settings, workers: int, folders: Sequence[Path]
) -> Iterator[FlowOutcome]:
    for folder in folders:
        remove_abandoned(folder)
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield _extract(job, settings)
        return
    yield from run_jobs(
        functools.partial(_extract_in_worker, settings=settings),
        jobs,
        workers=workers,
        on_death=_died,
    )


def _extract_in_worker(job: FlowJob, settings: _Settings) -> FlowOutcome:
    cv2.setNumThreads(1)
    if settings.method in ("tvl1", "raft"):
        import torch

        torch.set_num_threads(1)
    return _extract(job, settings)


def _died(job: FlowJob, exit_code: int) -> FlowOutcome:
    reason = f"its worker process ended with exit code {exit_code}"
    if exit_code < 0:
        reason = f"its worker process was ended by signal {-exit_code}"
    if exit_code == -9:
        reason += " (often: out of memory; use fewer workers)"
    return FlowOutcome(job.name, "failed", 0, 0.0, f"{job.path}: {reason}.")


def _extract(job: FlowJob, settings: _Settings) -> FlowOutcome:
    """One job from start to end; what a video can do wrong becomes an outcome."""
    start = time.perf_counter()
    status: Status
    try:
        with one_opencv_thread():
            status, count = _compute(job, settings)
        error = None
    # RuntimeError is how torch tells that a GPU's memory is full.
    except (DualstreamError, OSError, MemoryError, RuntimeError) as failure:
        status, count, error = "failed", 0, str(failure) or type(failure).__name__
    return FlowOutcome(job.name, status, count, time.perf_counter() - start, error)


def _compute(job: FlowJob, settings: _Settings) -> tuple[Status, int]:
    store = FlowStore(settings.root)
    if not os.path.isfile(job.path):
        raise VideoNotFoundError(f"{job.path} does not exist.")
    sha256 = job.sha256 or _file_sha256(job.path)
    meta = replace(settings.template, source=job.name, source_sha256=sha256)
    if not settings.overwrite:
        count = _complete(store, job.name, meta, settings.layout)
        if count is not None:
            return "kept", count
    if job.sha256 is not None and job.sha256 != _file_sha256(job.path):
        raise FlowError(f"{job.path} is not the file that `dualstream prepare` saw; run it again.")
    with VideoReader(job.path) as reader:
        meta = replace(meta, fps=reader.info.fps)
        flows = (flow.data for flow in _windows_of_flow(reader, settings))
        if settings.layout == "folders":
            return "done", write_folder(store.folder_path(job.name), flows, meta).num_fields
        fields = (quantize(flow, bound_px=meta.bound_px) for flow in flows)
        return "done", store.write(job.name, fields, meta).num_fields


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


def _windows_of_flow(reader: VideoReader, settings: _Settings) -> Iterator[Flow]:
    length = window_length(reader.info.height, reader.info.width)
    for frames in reader.windows(length, step=length - 1):
        yield optical_flow(
            frames,
            method=settings.method,
            params=settings.params,
            device=settings.device,
            short_side=settings.template.short_side,
            direction=settings.template.direction,
        )


def window_length(height: int, width: int) -> int:
    """Frames decoded at once: 33, fewer where their RGB bytes would exceed 64 MiB, 2 at least.

    240x320 -> 33; 1080x1920 -> 10; 2160x3840 -> 2.
    """
    return max(2, min(_LONGEST_WINDOW, _WINDOW_BYTES // (height * width * 3)))


def _file_sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
