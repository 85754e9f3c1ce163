"""Optical flow of many videos into a flow store."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Unpack

from dualstream.errors import FlowStoreError, InputError, check_choice, check_least
from dualstream.flow.compute import FlowOptions
from dualstream.flow.extract.job import (
    FlowJob,
    FlowOutcome,
    FlowSettings,
    Layout,
    Status,
    target_folders,
)
from dualstream.flow.extract.video_job import extract_video
from dualstream.flow.methods.lookup import WARPED_PREFIX, find_method
from dualstream.flow.methods.params import DEFAULT_METHOD, Direction
from dualstream.flow.store.meta import QUALITY, FlowMeta
from dualstream.flow.store.store import FlowStore
from dualstream.flow.store.unfinished import remove_abandoned
from dualstream.jobs.processes import reason_of_death, run_jobs
from dualstream.version import __version__

Directions = Literal["forward", "backward", "both"]

_LEAVING_SECONDS = 10.0


class ExtractOptions(FlowOptions, total=False):
    """Options of `extract_flow` and `flow_settings` that say how flow is made and stored.

    Those of `optical_flow` have the same defaults; `method` may also be `motion-vectors`, which
    the video's codec found, on the video's own grid.
    """

    bound_px: float
    """Largest displacement stored (see `quantize`); 20 by default."""
    quality: int
    """JPEG quality, 1..100; 95 by default."""
    direction: Directions
    """See `optical_flow`. `both` computes both in one pass over the video and writes backward flow
    into a second store, `root` with `_backward` after its name."""
    warped: bool
    """Remove the camera's motion; meta.json then has the method `warped-<method>`."""
    overwrite: bool
    """Compute again the videos that the store has already."""
    layout: Layout
    """`store`, or `folders` of images in denseflow's mapping."""


def extract_flow(
    jobs: Sequence[FlowJob],
    root: str | os.PathLike[str],
    *,
    workers: int | None = None,
    ray: str | None = None,
    **options: Unpack[ExtractOptions],
) -> Iterator[FlowOutcome]:
    """Compute and store the flow of videos; gives each outcome as its video is finished.

    A video that the store has already, complete by its checksums, from the same file and with
    the same settings, is kept. A video that cannot be read fails and the others go on; one
    whose worker process dies is tried once more. Each video is decoded, computed and written in
    three threads, in constant memory. A run that was killed leaves whole files only; the same
    call goes on where it stopped.

    Args:
        jobs: the videos; names differ.
        root: folder of the flow store.
        workers: processes that work side by side, one core each, the longest videos first; 1
            works in this process. None is 1 here, and every core of a Ray cluster.
        ray: address of a Ray cluster (`auto`, `host:6379`) whose nodes do the work. Each has this
            version of the package and sees the videos and `root` under the same paths.
        options: see `ExtractOptions`.

    Yields:
        FlowOutcome, in order of completion.

    Raises:
        InputError: an option that cannot be used, or two jobs of one name (raised at once).
        MissingDependencyError: `ray` is asked for and not installed (raised at once).
        FlowStoreError: the disk of the store is full, once the video that met it has been
            reported: the others are not begun.
        ClusterError: no Ray cluster can be reached.
    """
    return run_extraction(jobs, flow_settings(root, **options), workers=workers, ray=ray)


def flow_settings(root: str | os.PathLike[str], **options: Unpack[ExtractOptions]) -> FlowSettings:
    """Options of `extract_flow`, checked; InputError names the one that cannot be used."""
    roots = stores_of(root, options.get("direction", "forward"))
    method, device = options.get("method", DEFAULT_METHOD), options.get("device", "cpu")
    short_side, is_warped = options.get("short_side"), options.get("warped", False)
    layout = options.get("layout", "store")
    check_choice("layout", layout, Layout)
    record = find_method(method)
    if record.read_file and (device != "cpu" or short_side is not None or is_warped):
        raise InputError(
            f"Method {method!r} takes what the file holds: no device, short_side or warped."
        )
    if is_warped:
        record = find_method(f"{WARPED_PREFIX}{method}")
    for direction in roots:
        record.check_direction(direction)
    params = record.resolve(options.get("params"))
    template = FlowMeta(
        method=record.name,
        params={} if params is None else asdict(params),
        bound_px=float(options.get("bound_px", 20.0)),
        short_side=short_side,
        quality=options.get("quality", QUALITY),
        version=__version__,
    )
    overwrite = options.get("overwrite", False)
    return FlowSettings(roots, params, device, layout, overwrite, template)


def stores_of(root: str | os.PathLike[str], direction: Directions) -> dict[Direction, Path]:
    """Store of each direction: `both` puts backward flow beside `root`, as `<root>_backward`."""
    check_choice("direction", direction, Directions)
    root = Path(root)
    if direction == "both":
        return {"forward": root, "backward": root.with_name(f"{root.name}_backward")}
    return {direction: root}


def run_extraction(
    jobs: Sequence[FlowJob], settings: FlowSettings, *, workers: int | None, ray: str | None
) -> Iterator[FlowOutcome]:
    """`extract_flow` with checked settings; the same errors."""
    check_least(1, workers=1 if workers is None else workers)
    folders = target_folders(jobs, settings)
    if ray is None:
        settings.method.check_device(settings.device)
        outcomes = _run_here(jobs, settings, workers or 1)
    else:
        from dualstream.flow.extract.cluster import run_on_ray

        outcomes = run_on_ray(jobs, settings, address=ray, limit=workers)
    return _run(outcomes, len(jobs), folders, settings.root)


def verify_flow(jobs: Sequence[FlowJob], roots: Iterable[Path]) -> Iterator[FlowOutcome]:
    """Check every stored file against its checksums and its video: `kept` or `failed`."""
    stores = [FlowStore(root) for root in roots]
    for job in jobs:
        start = time.perf_counter()
        num_fields, error = 0, None
        try:
            for store in stores:
                with store.open(job.name, source_sha256=job.sha256) as file:
                    file.verify()
                    num_fields = file.num_fields
        except FlowStoreError as failure:
            num_fields, error = 0, str(failure)
        status: Status = "kept" if error is None else "failed"
        yield FlowOutcome(job.name, status, num_fields, time.perf_counter() - start, error)


def _run(
    begun: Generator[FlowOutcome, None, None], num_jobs: int, folders: Sequence[Path], root: Path
) -> Iterator[FlowOutcome]:
    """Clean up after killed runs, then give the outcomes until the store is full."""
    for folder in folders:
        remove_abandoned(folder)
    try:
        with closing(begun) as outcomes:
            for finished, outcome in enumerate(outcomes, start=1):
                yield outcome
                if outcome.is_store_full:
                    raise FlowStoreError(
                        f"The flow store {root} takes no more, so the run stopped with "
                        f"{num_jobs - finished} videos left. Make room and run the same again: "
                        "it goes on where it stopped."
                    )
    except BaseException:  # also when the caller closes this iterator
        _remove_leftovers(folders)
        raise


def _remove_leftovers(folders: Sequence[Path]) -> None:
    """Remove what stopped workers had begun, once the last of them has let go of it."""
    end = time.monotonic() + _LEAVING_SECONDS
    while True:
        for folder in folders:
            remove_abandoned(folder)
        if time.monotonic() > end or not any(any(f.glob(".*.tmp")) for f in folders):
            return
        time.sleep(0.05)


def _run_here(
    jobs: Sequence[FlowJob], settings: FlowSettings, workers: int
) -> Generator[FlowOutcome, None, None]:
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield extract_video(job, settings)
        return
    # A long video begun last would keep one process busy while the others have nothing to do.
    order = sorted(jobs, key=lambda job: -(job.num_frames or 0))
    work = functools.partial(extract_video, settings=settings, alone=True)
    yield from run_jobs(work, order, workers=workers, on_death=_died)


def _died(job: FlowJob, exit_code: int) -> FlowOutcome:
    return FlowOutcome(job.name, "failed", 0, 0.0, f"{job.path}: {reason_of_death(exit_code)}.")
