"""Trainings of projects, each in a process of its own: one at a time, told how far it is."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Literal

from dualstream.errors import DualstreamError
from dualstream.jobs.processes import die_with_parent
from dualstream.serve.messages import Pace
from dualstream.serve.observe import log
from dualstream.serve.refusal import RefusedError

State = Literal["never", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Training:
    """Where the training of a project stands."""

    state: State = "never"
    phase: str | None = None
    done: int = 0
    total: int = 0
    message: str | None = None
    """Why it failed."""


class Trainings:
    """Trainings of a service, which its event loop begins and follows.

    Args:
        device: where networks compute features.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._states: dict[Path, Training] = {}
        self._process: SpawnProcess | None = None
        self._folder: Path | None = None

    def of(self, folder: Path) -> Training:
        """Return where the training of a project stands."""
        return self._states.get(folder, Training())

    def begin(self, folder: Path) -> Training:
        """Begin to train a project.

        Raises:
            RefusedError: another one, or this one, is being trained.
        """
        if self._folder is not None and self.of(self._folder).state == "running":
            raise RefusedError(
                "conflict", f"{self._folder.name!r} is being trained. Wait for its end."
            )
        loop = asyncio.get_running_loop()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_train, args=(theirs, folder, self._device), daemon=True)
        process.start()
        theirs.close()
        self._process, self._folder = process, folder
        self._states[folder] = Training("running")

        def read() -> None:
            last = Training("failed", message="The training process ended by itself.")
            with contextlib.suppress(RuntimeError):  # the event loop was closed
                with contextlib.suppress(EOFError, OSError):
                    while True:
                        last = ours.recv()
                        loop.call_soon_threadsafe(self._told, folder, last)
                ours.close()
                process.join()
                loop.call_soon_threadsafe(self._ended, folder, process)

        threading.Thread(target=read, daemon=True).start()
        log("training-began", worker=process.pid)
        return self._states[folder]

    def _told(self, folder: Path, training: Training) -> None:
        if self.of(folder).state == "running":
            self._states[folder] = training

    def _ended(self, folder: Path, process: SpawnProcess) -> None:
        if self._process is not process:
            return  # the next one has begun
        self._process = self._folder = None
        if self.of(folder).state == "running":
            text = "The training process ended (often: not enough memory). Train again: what is "
            self._states[folder] = Training("failed", message=f"{text}computed is kept.")
        log("training-ended", state=self.of(folder).state)

    def cancel(self, folder: Path) -> Training:
        """Stop the training of a project; the features that are computed are kept."""
        if self._folder == folder and self._process is not None:
            self._states[folder] = Training("cancelled")
            self._process.terminate()
        return self.of(folder)

    async def stop(self) -> None:
        """Stop whatever is being trained."""
        if self._folder is not None and (process := self._process) is not None:
            self.cancel(self._folder)
            await asyncio.to_thread(process.join, 5)


def _train(connection: Connection, folder: Path, device: str) -> None:
    """Main function of the process."""
    from dualstream.engine.teach.teacher import Teacher  # needs torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    pace, phase = Pace(), ""

    def listener(progress: object) -> None:
        nonlocal phase
        entry = progress.entry()  # type: ignore[attr-defined]
        is_new, phase = entry["phase"] != phase, entry["phase"]
        if pace.is_due(at_end=is_new):
            connection.send(Training("running", phase, entry["done"], entry["total"]))

    try:
        Teacher(folder).train(device=device, listener=listener)
    except (DualstreamError, OSError) as error:
        connection.send(Training("failed", message=str(error)))
    except Exception:
        traceback.print_exc()
        connection.send(Training("failed", message="The training failed; the log says why."))
    else:
        connection.send(Training("done"))
