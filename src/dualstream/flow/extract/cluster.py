"""Extraction on a Ray cluster: one task a video."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from dualstream.flow.extract.job import FlowJob, FlowOutcome, FlowSettings
from dualstream.flow.extract.video_job import extract_video
from dualstream.flow.store.unfinished import held
from dualstream.jobs.cluster import import_ray, run_on_cluster


def run_on_ray(
    jobs: Sequence[FlowJob], settings: FlowSettings, *, address: str, limit: int | None
) -> Generator[FlowOutcome, None, None]:
    """Extract the flow of `jobs` by the nodes of a Ray cluster; see `run_on_cluster`.

    An error in a video is an outcome, as in a run without Ray. Files and store are looked for
    under their absolute paths here.

    Raises:
        MissingDependencyError: Ray is not installed (raised at once).
    """
    import_ray()
    roots = {d: Path(os.path.abspath(root)) for d, root in settings.roots.items()}
    settings = replace(settings, roots=roots)
    absolute = [replace(job, path=os.path.abspath(job.path)) for job in jobs]
    # A long video begun last would keep one core busy while the others have nothing to do.
    absolute.sort(key=lambda job: -(job.num_frames or 0))
    return _run(absolute, settings, address, limit)


def _run(
    jobs: Sequence[FlowJob], settings: FlowSettings, address: str, limit: int | None
) -> Generator[FlowOutcome, None, None]:
    with _marker(settings.root) as marker:
        yield from run_on_cluster(
            partial(extract_video, settings=settings, alone=True),
            jobs,
            address=address,
            limit=limit,
            num_gpus=0 if settings.device == "cpu" else 1,
            shared=(marker,),
            on_failure=_failed,
        )


def _failed(job: FlowJob, reason: str) -> FlowOutcome:
    return FlowOutcome(job.name, "failed", 0, 0.0, f"{job.path}: {reason}.")


@contextmanager
def _marker(root: Path) -> Iterator[Path]:
    """Put a file into the store by which nodes can tell that they see the same folder."""
    root.mkdir(parents=True, exist_ok=True)
    with held(partial(_made, root)) as path:
        yield path


@contextmanager
def _made(root: Path) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(
        dir=root, prefix=".shared.", suffix=".tmp", delete=False
    ) as file:
        path = Path(file.name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
