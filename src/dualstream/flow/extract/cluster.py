"""Extraction on a Ray cluster: one task a video, a bounded number of them under way."""

from __future__ import annotations

import itertools
import os
import socket
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dualstream.errors import FlowError, MissingDependencyError
from dualstream.flow.extract.job import FlowJob, FlowOutcome, FlowSettings
from dualstream.flow.extract.video_job import extract_video
from dualstream.flow.store.unfinished import in_use
from dualstream.version import __version__

_TASKS_PER_CORE = 2  # one at work and one that can begin at once
_CANCEL_SECONDS = 10.0
_CONNECT_SECONDS = 10.0


def run_on_ray(
    jobs: Sequence[FlowJob], settings: FlowSettings, *, address: str, limit: int | None
) -> Generator[FlowOutcome, None, None]:
    """Extract the flow of `jobs` by the nodes of a Ray cluster.

    Ray tries a task again once when its process or node dies; an error in a video is an outcome,
    as in a run without Ray. Files and store are looked for under their absolute paths here.
    `address` is `auto`, `host:6379` or `ray://host:10001`; `limit` tasks are under way at a time,
    two for each core of the cluster if None. Closing cancels them and disconnects.

    Raises:
        MissingDependencyError: Ray is not installed (raised at once).
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "Extraction on a cluster needs Ray: pip install 'dualstream[ray]'."
        ) from error
    roots = {d: Path(os.path.abspath(root)) for d, root in settings.roots.items()}
    settings = replace(settings, roots=roots)
    absolute = [replace(job, path=os.path.abspath(job.path)) for job in jobs]
    # A long video begun last would keep one core busy while the others have nothing to do.
    absolute.sort(key=lambda job: -(job.num_frames or 0))
    return _run(ray, absolute, settings, address, limit)


def extract_on_node(job: FlowJob, settings: FlowSettings, marker: str) -> FlowOutcome:
    """`extract_video` on a node of the cluster, once sure that the node fits.

    It fails, naming the node, where that has another version of the package, or does not find
    the file `marker` of the calling machine in the store.
    """
    reason = None
    if __version__ != settings.template.version:
        reason = f"has dualstream {__version__}, not {settings.template.version}"
    elif not (settings.root / marker).exists():
        reason = f"does not see the flow store {settings.root}: it must be a folder that all share"
    if reason is not None:
        error = f"{job.path}: node {os.uname().nodename} {reason}."
        return FlowOutcome(job.name, "failed", 0, 0.0, error)
    return extract_video(job, settings, alone=True)


def _run(
    ray: Any, jobs: Sequence[FlowJob], settings: FlowSettings, address: str, limit: int | None
) -> Generator[FlowOutcome, None, None]:
    with ExitStack() as stack:
        stack.enter_context(_connected(ray, address))
        marker = stack.enter_context(_marker(settings.root))
        num_gpus = 0 if settings.device == "cpu" else 1
        task = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=1)(extract_on_node)
        waiting = iter(jobs)
        under_way: dict[Any, FlowJob] = {}
        try:
            while True:
                # The cluster may have grown since the last time.
                cores = ray.cluster_resources().get("CPU", 1)
                places = limit or max(1, int(_TASKS_PER_CORE * cores))
                for job in itertools.islice(waiting, max(0, places - len(under_way))):
                    under_way[task.remote(job, settings, marker)] = job
                if not under_way:
                    return
                finished, _ = ray.wait(list(under_way), num_returns=1)
                for reference in finished:
                    yield _outcome(ray, under_way.pop(reference), reference)
        finally:
            tasks = list(under_way)
            end = time.monotonic() + _CANCEL_SECONDS
            # Python drops an interrupt that comes at a bad moment, so it is sent again; between two
            # a task has the time to remove what it has half written.
            # (A Ray that is shut down already would begin a cluster of its own to cancel in.)
            while tasks and ray.is_initialized() and time.monotonic() < end:
                for reference in tasks:
                    ray.cancel(reference)
                _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=_CANCEL_SECONDS / 4)


def _outcome(ray: Any, job: FlowJob, reference: Any) -> FlowOutcome:
    try:
        outcome: FlowOutcome = ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # the last line of its trace is the cause
        reason = f"its Ray task failed: {str(error).strip().splitlines()[-1]}"
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"its Ray task died, and again when it was tried once more: {lines[0]}"
    else:
        return outcome
    return FlowOutcome(job.name, "failed", 0, 0.0, f"{job.path}: {reason}")


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Where the calling program is connected already, its connection is used and left open."""
    if ray.is_initialized():
        yield
        return
    try:
        host, separator, port = address.removeprefix("ray://").rpartition(":")
        if separator and port.isdecimal():  # where nothing listens, Ray itself tries for minutes
            place = host.strip("[]"), int(port)
            socket.create_connection(place, timeout=_CONNECT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise FlowError(
            f"No Ray cluster can be used at {address!r}: {str(error).rstrip('.')}. Start one with "
            "`ray start --head` and give the address that it prints, or 'auto' on that machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _marker(root: Path) -> Iterator[str]:
    """Put a file into the store by which nodes can tell that they see the same folder."""
    root.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.NamedTemporaryFile(dir=root, prefix=".shared.", suffix=".tmp") as file,
        in_use(Path(file.name)),
    ):
        yield os.path.basename(file.name)
