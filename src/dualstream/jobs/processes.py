"""Processes: jobs spread over a pool, one whose process dies tried once more; their memory."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import platform
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeVar

from dualstream.errors import DualstreamError, InputError

Job = TypeVar("Job")
Result = TypeVar("Result")

_STOP_SECONDS = 10.0

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of mallopt's parameters in glibc's malloc.h."""

_MOST_BYTES = 2**31 - 1
"""Largest value that a parameter can have."""


@dataclass
class _Worker(Generic[Job]):
    process: SpawnProcess
    connection: Connection
    job: Job
    is_retry: bool
    has_started: bool = False
    """Whether the process has come as far as to take jobs."""


def num_threads() -> int:
    """Return how many threads computing in this process may take.

    Those of torch where it is loaded; else $OMP_NUM_THREADS, or the cores of this process.
    """
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    on_death: Callable[[Job, int], Result],
) -> Iterator[Result]:
    """Yield the results of `work(job)` as they come, from `workers` spawned processes.

    A process begins a job once its last result was taken from it, so that no more results wait
    than there are processes, however slowly they are taken.

    `concurrent.futures` gives up all jobs when one process dies and does not tell whose fault
    it was; here a new process goes on with the others. The dead process's job is tried again in
    a process of its own, after all others were begun (less memory may be in use by then); when
    that one dies too, the job gets the result of `on_death`. Processes end when the iterator is
    closed and when this process is killed.

    Args:
        work: a picklable function; an exception that is no DualstreamError ends its process.
        jobs: picklable.
        workers: number of processes, at least 1.
        on_death: (job, exit code of the second process, negative for a signal) -> result.

    Raises:
        DualstreamError: `work` raised it; the other jobs are given up.
        InputError: processes cannot start, as where the calling script has no `__main__` guard.
    """
    waiting, again = deque(jobs), deque[Job]()
    busy: dict[Connection, _Worker[Job]] = {}
    try:
        while waiting or again or busy:
            while (waiting or again) and len(busy) < workers:
                is_retry = not waiting
                job = again.popleft() if is_retry else waiting.popleft()
                worker = _start(work, job, is_retry=is_retry)
                busy[worker.connection] = worker
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                worker = busy[ready]
                try:
                    result = ready.recv()
                except (EOFError, ConnectionResetError):
                    del busy[ready]
                    code = _exit_code(worker)
                    if not worker.has_started:
                        raise InputError(
                            f"Worker processes cannot start (exit code {code}). Put the calling "
                            "code under `if __name__ == '__main__':` in a file, or use workers=1."
                        ) from None
                    if not worker.is_retry:
                        again.append(worker.job)
                        continue
                    result = on_death(worker.job, code)
                else:
                    if isinstance(result, DualstreamError):
                        raise result
                    if not worker.has_started:
                        worker.has_started = True
                        continue
                    if waiting:
                        worker.job, worker.is_retry = waiting.popleft(), False
                        _send(worker, worker.job)
                    else:
                        del busy[ready]
                        _send(worker, None)
                        _exit_code(worker)
                yield result
    finally:
        _stop(list(busy.values()))


def reason_of_death(exit_code: int) -> str:
    """Say of a job whose process died twice how that was, for the `on_death` of `run_jobs`.

    A negative code is the signal that ended the process.
    """
    reason = f"its worker process ended with exit code {exit_code}"
    if exit_code < 0:
        reason = f"its worker process was ended by signal {-exit_code}"
    reason += ", and again when it was tried once more"
    if exit_code == -9:
        reason += " (often: out of memory; use fewer workers)"
    return reason


def _start(work: Callable[[Job], Result], job: Job, *, is_retry: bool) -> _Worker[Job]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    process.start()
    theirs.close()  # so that the death of the process ends `ours`
    worker = _Worker(process, ours, job, is_retry)
    _send(worker, job)
    return worker


def _send(worker: _Worker[Job], job: Job | None) -> None:
    """Hand over a job, or None for the end; a process that died is noticed when it is read."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        worker.connection.send(job)


def _stop(workers: Sequence[_Worker[Job]]) -> None:
    """End processes at work, giving each the time to remove what it has half written."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(_STOP_SECONDS)
        worker.process.kill()
        _exit_code(worker)


def _exit_code(worker: _Worker[Job]) -> int:
    worker.connection.close()
    worker.process.join()
    code = worker.process.exitcode
    worker.process.close()
    return code or 0


def _serve(connection: Connection, work: Callable[[Job], Result]) -> None:
    """Main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # An end by an exception, so that `finally` clauses run.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(-number))
    die_with_parent()
    connection.send(None)  # ready
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if job is None:
            return
        try:
            result: Result | DualstreamError = work(job)
        except DualstreamError as error:
            result = error
        connection.send(result)


def die_with_parent() -> None:
    """Let this process end at once when the one that spawned it ends, however that is."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, and use it again; only glibc is told so.

    By default glibc takes every block above 32 MiB at most from the system and gives it back when
    it is freed. The system clears its pages each time, which for the activations of a network was
    13 of 31 s of processor time in a test of 19 videos, and 1 of 16 s when kept. The process then
    stays as large as it ever was.

    Source:
        mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        library.mallopt(parameter, _MOST_BYTES)
