"""Child processes that are fed many cases, so that a crash, a hang and an error are told apart."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import platform
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import psutil

from dualstream.errors import DualstreamError

Verdict = Literal["refused", "read", "foreign", "crashed", "hung", "lost", "wrong"]
"""The package's own error, a result, another's error, a dead process, no end, out of bounds of
memory or without an answer, and a result that is false."""

VERDICTS: tuple[Verdict, ...] = ("refused", "read", "foreign", "crashed", "hung", "lost", "wrong")

CPU_SECONDS = 120.0
"""Processor time of one case after which it hangs: ten thousand times what most take."""

IDLE_SECONDS = 600.0
"""Wall time of one case after which it hangs, however little it computed: a deadlock."""

MOST_BYTES = 2 * 2**30
"""Growth of a child's memory in one case above which the case counts as lost; the largest picture
that a damaged header may tell of is 16384x16384, which is 0.8 GiB of RGB beside FFmpeg's own."""

GUARD_BYTES = 8 * 2**30
"""Data that a child may take at most, so that the machine outlives the campaign."""


class WrongResultError(Exception):
    """A case found a result that cannot be right."""


@dataclass(frozen=True)
class Answer:
    """What became of one case."""

    verdict: Verdict
    detail: Any
    """What the case gave, or how it failed."""
    seconds: float
    peak_bytes: int
    """Growth of the child's memory at its highest, 0 where the child died."""


class Child:
    """One process that answers cases, begun anew where it dies.

    Args:
        target: `module:function`; the function takes a case, which is pickled, and returns what
            JSON holds, or raises.
        log: file that gets what the process writes to its standard error.
    """

    def __init__(
        self,
        target: str,
        *,
        log: Path,
        cpu_seconds: float = CPU_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._target, self._log = target, log
        self._cpu_seconds, self._idle_seconds = cpu_seconds, idle_seconds
        self._most_bytes = most_bytes
        self._process: Any = None
        self._connection: Connection | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, case: Any) -> Answer:
        """Give the child one case and wait for its end, whatever that is."""
        if self._process is None:
            self._begin()
        assert self._connection is not None
        start = time.perf_counter()
        try:
            self._connection.send(case)
            verdict, detail, peak = self._await()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self._end()
            verdict, detail, peak = "crashed", f"exit code {code}: {self._last_words()}", 0
        if verdict in ("read", "refused") and peak > self._most_bytes:
            verdict, detail = "lost", f"{peak / 2**20:.0f} MiB; {detail}"
        if verdict == "hung" or peak > self._most_bytes // 2:
            self._end()  # torch and glibc keep memory; the next case begins with none
        return Answer(verdict, detail, time.perf_counter() - start, peak)

    def _await(self) -> tuple[Verdict, Any, int]:
        assert self._connection is not None
        watched = psutil.Process(self._process.pid)
        before, start = _cpu(watched), time.monotonic()
        while not self._connection.poll(1.0):
            if not self._process.is_alive():
                raise EOFError
            used, waited = _cpu(watched) - before, time.monotonic() - start
            if used > self._cpu_seconds or waited > self._idle_seconds:
                os.kill(self._process.pid, signal.SIGUSR1)  # its stacks go to the log
                time.sleep(0.5)
                self._process.kill()
                return "hung", f"{used:.0f} s of processor time in {waited:.0f} s", 0
        answer: tuple[Verdict, Any, int] = self._connection.recv()
        return answer

    def _begin(self) -> None:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._target, self._log), daemon=True
        )
        self._process.start()
        theirs.close()
        self._connection = ours
        ours.recv()  # imports are done

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.join()
        assert self._connection is not None
        self._connection.close()
        self._process = self._connection = None

    def _last_words(self) -> str:
        text = self._log.read_text(errors="replace") if self._log.is_file() else ""
        return " | ".join(text.strip().splitlines()[-6:])


def verdict_of(work: Callable[[Any], Any], case: Any) -> tuple[Verdict, Any]:
    """Run one case in this process and name what came of it."""
    try:
        return "read", work(case)
    except DualstreamError as error:
        return "refused", f"{type(error).__name__}: {error}"
    except WrongResultError as error:
        return "wrong", str(error)
    except Exception as error:
        return "foreign", f"{type(error).__name__}: {error} {place_of(error)}"


def place_of(error: BaseException) -> str:
    """`[manifest.py:312 rows]`: where in the package an error passed last."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/dualstream/" in file:
            found = f"[{Path(file).name}:{trace.tb_lineno} {trace.tb_frame.f_code.co_name}]"
        trace = trace.tb_next
    return found


def _serve(connection: Connection, target: str, log: Path) -> None:
    """Main function of a child."""
    file = open(log, "wb", buffering=0)  # noqa: SIM115  (it lives as long as the process)
    os.dup2(file.fileno(), 2)
    faulthandler.enable(file, all_threads=True)
    faulthandler.register(signal.SIGUSR1, file, all_threads=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (GUARD_BYTES, GUARD_BYTES))
    module, _, name = target.partition(":")
    work = getattr(importlib.import_module(module), name)
    connection.send(None)
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        file.truncate(0)
        with _peak() as grown:
            verdict, detail = verdict_of(work, case)
        connection.send((verdict, detail, grown[0]))


@contextmanager
def _peak() -> Iterator[list[int]]:
    """Measure by how many bytes this process grew at most while the block ran; Linux tells."""
    grown = [0]
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    can_tell = clear.exists() and platform.system() == "Linux"
    if can_tell:
        clear.write_text("5")  # the peak begins at what is resident now
        before = _high_water(status)
    yield grown
    if can_tell:
        grown[0] = _high_water(status) - before
        if grown[0] > 2**28:
            ctypes.CDLL(None).malloc_trim(0)


def _high_water(status: Path) -> int:
    line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
