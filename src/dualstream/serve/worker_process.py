"""The service's end of its worker process: started, watched, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from dualstream.serve.messages import Batch, Cancel, Done, Failed, NotReady, Progress, Ready
from dualstream.serve.refusal import RefusedError
from dualstream.serve.settings import Limits, NetworkSettings

STOP_SECONDS = 5.0
RESTART_SECONDS = 2.0
"""Between the death of a worker and the next one, where it never got ready."""


class WorkerDiedError(Exception):
    """The worker process ended while it worked on an order."""


class WorkerProcess:
    """A worker process that is always there.

    All methods are called from the event loop that `start` was called in.

    Args:
        networks: that it loads.
        limits: of videos.
        on_batch: told how many windows each batch of a network has.
        on_death: told the exit code of a worker that died.
    """

    def __init__(
        self,
        networks: NetworkSettings,
        limits: Limits,
        *,
        on_batch: Callable[[int], None] = lambda count: None,
        on_death: Callable[[int], None] = lambda code: None,
    ) -> None:
        self._networks, self._limits = networks, limits
        self._on_batch, self._on_death = on_batch, on_death
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._listeners: dict[int, Callable[[str, int, int], None]] = {}
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._is_stopping = False
        self.models: dict[str, Any] = {}
        self.ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the process, and wait until its networks are loaded.

        Raises:
            DualstreamError: they cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[None] = self._loop.create_future()
        self._spawn()
        await self._first

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._networks, self._limits)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # so that the death of the process ends `ours`
        self._connection = ours
        reader = threading.Thread(target=self._read, args=(ours, self._process), daemon=True)
        reader.start()

    def _read(self, connection: Connection, process: SpawnProcess) -> None:
        """Hand messages to the event loop, in a thread of its own, until the process ends."""
        with contextlib.suppress(RuntimeError):  # the event loop was closed
            while True:
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    break
                self._loop.call_soon_threadsafe(self._take, message)
            process.join()
            self._loop.call_soon_threadsafe(self._died, process.exitcode or 0)

    def _take(self, message: object) -> None:
        match message:
            case Ready(models):
                self.models = models
                self.ready.set()
                if not self._first.done():
                    self._first.set_result(None)
            case NotReady(error):
                if not self._first.done():
                    self._first.set_exception(error)
            case Progress(number, stage, done, total):
                if listener := self._listeners.get(number):
                    listener(stage, done, total)
            case Batch(count):
                self._on_batch(count)
            case Done(number, value):
                if future := self._close(number):
                    future.set_result(value)
            case Failed(number, kind, text, detail):
                future = self._close(number)
                if future is not None and kind is not None:
                    error = RefusedError(kind, text)
                    if detail:
                        error.add_note(detail)
                    future.set_exception(error)

    def _close(self, number: int) -> asyncio.Future[Any] | None:
        self._listeners.pop(number, None)
        future = self._open.pop(number, None)
        return None if future is None or future.done() else future

    def _died(self, code: int) -> None:
        was_ready = self.ready.is_set()
        self.ready.clear()
        for number in list(self._open):
            if future := self._close(number):
                future.set_exception(WorkerDiedError(_how(code)))
        if self._is_stopping:
            return
        if not self._first.done():
            self._first.set_exception(RefusedError("worker", f"The worker process {_how(code)}."))
            return
        if self._first.exception() is not None:
            return
        self._on_death(code)
        if was_ready:
            self._spawn()
        else:
            self._loop.call_later(RESTART_SECONDS, self._respawn)

    def _respawn(self) -> None:
        if not self._is_stopping:
            self._spawn()

    def next_number(self) -> int:
        """Return a number for an order."""
        return next(self._numbers)

    async def carry_out(
        self, order: Any, *, listener: Callable[[str, int, int], None] | None = None
    ) -> Any:
        """Send an order, and return the answer; an order whose caller is cancelled is given up.

        Args:
            order: see `messages.Order`.
            listener: told stage, done and total of its progress.

        Raises:
            RefusedError: it cannot be carried out.
            WorkerDiedError: the process ended meanwhile.
        """
        await self.ready.wait()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._open[order.number] = future
        if listener is not None:
            self._listeners[order.number] = listener
        self._send(order)
        try:
            return await future
        except asyncio.CancelledError:
            self._send(Cancel(order.number))
            raise
        finally:
            self._listeners.pop(order.number, None)
            self._open.pop(order.number, None)

    def _send(self, message: object) -> None:
        assert self._connection is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, OSError):
            self._connection.send(message)  # a process that died is noticed when it is read

    async def stop(self) -> None:
        """End the process, whatever it does."""
        self._is_stopping = True
        process = self._process
        if process is None:
            return
        process.terminate()
        await asyncio.to_thread(process.join, STOP_SECONDS)
        if process.is_alive():
            process.kill()
            await asyncio.to_thread(process.join, STOP_SECONDS)


def _work(connection: Connection, networks: NetworkSettings, limits: Limits) -> None:
    """Main function of the process; torch is imported there alone."""
    from dualstream.serve.worker import work

    work(connection, networks, limits)


def _how(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
