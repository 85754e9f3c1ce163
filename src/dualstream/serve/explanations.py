"""Explanations on demand: each window's pictures are drawn once and kept with the job."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from dualstream.serve.database import Job
from dualstream.serve.messages import EXPLANATION, RESULT, Explain
from dualstream.serve.refusal import RefusedError
from dualstream.serve.service import Service
from dualstream.serve.worker_process import WorkerDiedError

MOST_WAITING = 4
"""Windows that wait to be explained."""


class Explanations:
    """Explanations of the finished jobs of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._drawing: dict[Path, asyncio.Task[None]] = {}

    async def at(self, job: Job, seconds: float) -> dict[str, Any]:
        """Return the explanation of the window at a time, drawn now unless it is there.

        Args:
            job: that is done.
            seconds: of the video; before its start and after its end the nearest window counts.

        Raises:
            RefusedError: the job has no answer, the networks cannot be explained, or too many wait.
        """
        if job.state != "done":
            raise RefusedError(
                "conflict", f"This job is {job.state}; only an answer can be explained."
            )
        if not self._service.worker.models.get("explains"):
            raise RefusedError(
                "conflict",
                "These networks cannot be explained: exported files have no layers to look into, "
                "and several crops no one place.",
            )
        windows = json.loads((self._service.folder(job) / RESULT).read_bytes())["timeline"]
        number = next(
            (place for place, window in enumerate(windows) if seconds < window["end"]),
            len(windows) - 1,
        )
        folder = self._service.folder(job) / f"window-{number}"
        if not (folder / EXPLANATION).is_file():
            await self._draw(job, folder, windows[number])
        document = json.loads((folder / EXPLANATION).read_bytes())
        for picture in document["pictures"]:
            picture["href"] = f"/v1/jobs/{job.id}/windows/{number}/{picture['href']}"
        return dict(document)

    async def _draw(self, job: Job, folder: Path, window: dict[str, Any]) -> None:
        task = self._drawing.get(folder)
        if task is None:
            if len(self._drawing) >= MOST_WAITING:
                raise RefusedError(
                    "queue-full",
                    f"{len(self._drawing)} windows wait to be explained. Try again later.",
                    retry_after_seconds=5,
                )
            order = Explain(
                self._service.worker.next_number(),
                job.path,
                job.name,
                folder=str(folder),
                start_seconds=window["start"],
                end_seconds=window["end"],
                options=job.options,
            )
            task = asyncio.create_task(self._service.worker.carry_out(order))
            self._drawing[folder] = task
            task.add_done_callback(lambda _: self._drawing.pop(folder, None))
        try:
            await asyncio.shield(task)
        except WorkerDiedError as error:
            raise RefusedError("worker", "The worker process ended; try again.") from error
