"""Jobs spread over processes, where the death of a process costs one job and no more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass
class _Worker(Generic[Job]):
    process: SpawnProcess
    connection: Connection
    job: Job


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    on_death: Callable[[Job, int], Result],
) -> Iterator[Result]:
    """Results of `work(job)` as they come, from `workers` spawned processes.

    `concurrent.futures` gives up all jobs when one process dies and does not tell whose fault
    it was; here the dead process's job gets the result of `on_death`, and a new process goes on
    with the others. Processes end when the iterator is closed and when this process is killed.

    Args:
        work: a picklable function; an exception in it ends its process.
        jobs: picklable.
        workers: number of processes, at least 1.
        on_death: (job, exit code, negative for a signal) -> result.
    """
    waiting = deque(jobs)
    busy: dict[Connection, _Worker[Job]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker = _start(work, waiting.popleft())
                busy[worker.connection] = worker
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                worker = busy[ready]
                try:
                    result = ready.recv()
                except (EOFError, ConnectionResetError):
                    del busy[ready]
                    result = on_death(worker.job, _exit_code(worker))
                else:
                    if waiting:
                        worker.job = waiting.popleft()
                        ready.send(worker.job)
                    else:
                        del busy[ready]
                        ready.send(None)
                        _exit_code(worker)
                yield result
    finally:
        for worker in busy.values():
            worker.process.terminate()
            _exit_code(worker)


def _start(work: Callable[[Job], Result], job: Job) -> _Worker[Job]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    process.start()
    theirs.close()  # so that the death of the process ends `ours`
    ours.send(job)
    return _Worker(process, ours, job)


def _exit_code(worker: _Worker[Job]) -> int:
    worker.connection.close()
    worker.process.join()
    code = worker.process.exitcode
    worker.process.close()
    return code or 0


def _serve(connection: Connection, work: Callable[[Job], Result]) -> None:
    """Main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if job is None:
            return
        connection.send(work(job))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
