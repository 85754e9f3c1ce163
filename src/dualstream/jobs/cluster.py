"""Jobs on a Ray cluster: one task a job, a bounded number of them under way."""

from __future__ import annotations

import importlib
import itertools
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dualstream.errors import ClusterError, DualstreamError, MissingDependencyError
from dualstream.version import __version__

Job = TypeVar("Job")
Result = TypeVar("Result")

_TASKS_PER_CORE = 2  # one at work and one that can begin at once
_CANCEL_SECONDS = 10.0
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Unfit:
    """Reason for which a node cannot do a job."""

    reason: str


def run_on_cluster(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    address: str,
    limit: int | None,
    num_gpus: int = 0,
    shared: Sequence[Path] = (),
    on_failure: Callable[[Job, str], Result],
) -> Generator[Result, None, None]:
    """Yield the results of `work(job)` as they come, from the nodes of a Ray cluster.

    Ray tries a task again once when its process or node dies. A node must have this version of the
    package and see `shared`; else the jobs that come to it fail. Closing the iterator cancels what
    is under way and disconnects.

    Args:
        work: a picklable function; the processes of the nodes live on from one job to the next.
        jobs: picklable; the next one is taken when there is a place for it.
        address: `auto`, `host:6379` or `ray://host:10001`.
        limit: jobs that are under way at a time; None is two for each core of the cluster.
        num_gpus: GPUs that each task has to itself.
        shared: absolute paths that every node must see.
        on_failure: (job, reason) -> result, where no node could do a job.

    Raises:
        MissingDependencyError: Ray is not installed (raised at once).
        ClusterError: no cluster can be reached.
        DualstreamError: `work` raised it; the other jobs are given up.
    """
    return _run(import_ray(), work, jobs, address, limit, num_gpus, tuple(shared), on_failure)


def import_ray() -> Any:
    """Return the module `ray`; MissingDependencyError where it is not installed."""
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingDependencyError(
            "Work on a cluster needs Ray: pip install 'dualstream[ray]'."
        ) from error


def run_on_node(
    work: Callable[[Job], Result], job: Job, version: str, shared: Sequence[Path]
) -> Result | Unfit:
    """`work(job)` on a node of the cluster, once sure that the node fits.

    Args:
        version: of the package on the calling machine.
        shared: paths that the node must see.
    """
    if __version__ != version:
        return Unfit(f"node {_node_name()} has dualstream {__version__}, not {version}")
    for path in shared:
        if not path.exists():
            return Unfit(
                f"node {_node_name()} does not see {path}: it must lie in a folder that all share"
            )
    return work(job)


def _node_name() -> str:
    return socket.gethostname()


def _run(
    ray: Any,
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    address: str,
    limit: int | None,
    num_gpus: int,
    shared: Sequence[Path],
    on_failure: Callable[[Job, str], Result],
) -> Generator[Result, None, None]:
    with _connected(ray, address):
        task = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=1)(run_on_node)
        waiting = iter(jobs)
        under_way: dict[Any, Job] = {}
        try:
            while True:
                # The cluster may have grown since the last time.
                cores = ray.cluster_resources().get("CPU", 1)
                places = limit or max(1, int(_TASKS_PER_CORE * cores))
                for job in itertools.islice(waiting, max(0, places - len(under_way))):
                    under_way[task.remote(work, job, __version__, shared)] = job
                if not under_way:
                    return
                finished, _ = ray.wait(list(under_way), num_returns=1)
                for reference in finished:
                    job = under_way.pop(reference)
                    result = _result(ray, reference)
                    if isinstance(result, Unfit):
                        result = on_failure(job, result.reason)
                    yield result
        finally:
            _cancel(ray, list(under_way))


def _cancel(ray: Any, tasks: list[Any]) -> None:
    """End tasks: ask each, so that it removes what it has half written, then end its process.

    An interrupt that is late, or comes at a moment at which Python drops it, is sent again. (A Ray
    that is shut down already would begin a cluster of its own to cancel in.)
    """
    for force in (False, True):
        end = time.monotonic() + _CANCEL_SECONDS
        while tasks and ray.is_initialized() and time.monotonic() < end:
            for reference in tasks:
                ray.cancel(reference, force=force)
            _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=_CANCEL_SECONDS / 4)


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DualstreamError):
            raise error.cause from error
        # The last line of its trace is the cause.
        return Unfit(f"its Ray task failed: {str(error).strip().splitlines()[-1]}")
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Unfit(f"its Ray task died, and again when it was tried once more: {lines[0]}")


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
        raise ClusterError(
            f"No Ray cluster can be used at {address!r}: {str(error).rstrip('.')}. Start one with "
            "`ray start --head` and give the address that it prints, or 'auto' on that machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
