"""The service without HTTP: jobs that wait, run, end, are answered, and are removed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dualstream.errors import DiskError
from dualstream.serve.database import Job, JobDatabase
from dualstream.serve.documents import FINISHED, JobState, PredictOptions
from dualstream.serve.messages import Check, Predict
from dualstream.serve.observe import Metrics, log
from dualstream.serve.refusal import RefusedError, disk_refusal
from dualstream.serve.settings import Settings
from dualstream.serve.worker_process import WorkerDiedError, WorkerProcess

DATABASE = "jobs.sqlite"
JOBS = "jobs"
MOST_ATTEMPTS = 2
"""Times that a job is begun whose worker dies."""
CHECK_SECONDS = 120.0
"""Longest that looking at a header may take, or the start of a worker before it."""
SWEEP_SECONDS = 20.0
SPARE_BYTES = 64 * 10**6
"""That must stay free on the disk beside an upload."""


class Service:
    """Jobs, their files and the worker that carries them out.

    Args:
        settings: of the service.

    Raises:
        InputError: another service works with the folder, or its jobs are of another version.
        DiskError: the folder cannot be written.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.worker = WorkerProcess(
            settings.networks,
            settings.limits,
            on_batch=self.metrics.batch.observe,
            on_death=self._worker_died,
        )
        self.is_stopping = False
        self.progress: dict[str, tuple[str, int, int]] = {}
        """Of running jobs: stage, done, total."""
        self._folder = settings.folder / JOBS
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._alone: str | None = None
        self._coming: set[str] = set()
        self._changed = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._mean_seconds = 1.0
        self.database = JobDatabase(settings.folder / DATABASE)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._recover()
        except OSError as error:
            self.database.close()
            raise DiskError(error.errno, error.strerror, str(self._folder)) from error

    # --- beginning and end ---

    def _recover(self) -> None:
        """Take up what an earlier service left: begun jobs once more, files of no job away."""
        known = self.database.ids()
        for folder in self._folder.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
        for job in self.database.in_state("running", "queued"):
            if not Path(job.path).is_file():
                self._end(job, "failed", error="worker", message=f"{job.name!r} is gone.")
            elif job.state == "running" and job.attempts >= MOST_ATTEMPTS:
                self._end(job, "failed", error="worker", message=_died_twice(job, "service"))
            elif job.state == "running":
                self.database.change(job, state="queued")

    async def start(self) -> None:
        """Load the networks, and go on with the jobs that wait.

        Raises:
            DualstreamError: the networks cannot be loaded.
        """
        await self.worker.start()
        self._sweeper = asyncio.create_task(self._sweep_for_ever())
        log("started", worker=self.worker.pid, queued=self.database.count("queued"))
        self._dispatch()

    async def stop(self) -> None:
        """Let running jobs end for a while; those that do not go back to the queue on disk."""
        self.begin_to_stop()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self.settings.limits.grace_seconds)
        for job_id, task in list(self._tasks.items()):
            task.cancel()
            job = self.database.get(job_id)
            if job is not None and job.state == "running":
                self.database.change(job, state="queued", attempts=job.attempts - 1)
                log("job-put-back", job=job_id)
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.worker.stop()
        left = self.database.count("queued")
        self.database.close()
        log("stopped", queued=left)

    def begin_to_stop(self) -> None:
        """Take no more videos, and send those who wait for an answer away with their job."""
        if not self.is_stopping:
            self.is_stopping = True
            log("stopping", running=len(self._tasks), queued=self.database.count("queued"))
            self._tell()

    # --- videos come in ---

    @contextmanager
    def place(self, *, num_bytes: int = 0) -> Iterator[Path]:
        """Give the folder of a new job, which is removed again when the block fails.

        Args:
            num_bytes: that are going to be written there, as far as known.

        Raises:
            RefusedError: too many wait, the disk is full, or the service is about to end.
        """
        self.check_room(num_bytes=num_bytes)
        folder = self._folder / secrets.token_hex(16)
        self._coming.add(folder.name)
        try:
            folder.mkdir(mode=0o700)
            yield folder
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise disk_refusal(error) from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._coming.discard(folder.name)

    def check_room(self, *, num_bytes: int = 0) -> None:
        """Raise RefusedError where no further job can be taken; see `place`."""
        if self.is_stopping:
            raise RefusedError(
                "stopping", "The service is about to end. Try again later.", retry_after_seconds=30
            )
        waiting = self.database.count("queued") + len(self._coming)
        if waiting >= self.settings.limits.queue:
            # By then a quarter is done: who comes again finds room, and the worker never rests.
            seconds = waiting * self._mean_seconds / self.settings.limits.concurrency / 4
            raise RefusedError(
                "queue-full",
                f"{waiting} videos wait already. Try again later.",
                retry_after_seconds=int(min(max(seconds, 1), 600)),
            )
        if shutil.disk_usage(self.settings.folder).free < num_bytes + SPARE_BYTES:
            raise RefusedError("disk-full", "The disk of the service is full. Try again later.")

    async def checked(self, path: Path, name: str) -> float:
        """Return the length that a video's header tells.

        Raises:
            RefusedError: it is no video, or it exceeds the limits.
        """
        for _ in range(MOST_ATTEMPTS):
            try:
                number = self.worker.next_number()
                async with asyncio.timeout(CHECK_SECONDS):
                    return float(await self.worker.carry_out(Check(number, str(path), name)))
            except WorkerDiedError:  # perhaps of another video
                continue
            except TimeoutError:
                raise RefusedError(
                    "unavailable",
                    "The service is too busy. Try again later.",
                    retry_after_seconds=60,
                ) from None
        raise RefusedError("video", f"Looking at {name!r} made the worker process die, twice.")

    def add(
        self, path: Path, name: str, folder: Path, *, seconds: float, options: PredictOptions
    ) -> Job:
        """Queue a video whose files are kept in the folder of `place`."""
        job = Job(
            id=folder.name,
            state="queued",
            name=name,
            path=str(path),
            is_upload=path.parent == folder,
            options=options,
            video_seconds=seconds,
            created=time.time(),
        )
        self.database.add(job)
        log("job-queued", job=job.id, seconds=round(seconds, 1), upload=job.is_upload)
        self._tell()
        self._dispatch()
        return job

    # --- jobs ---

    def job(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            RefusedError: there is none of this name.
        """
        job = self.database.get(job_id)
        if job is None:
            raise RefusedError("not-found", "There is no such job; it may have been removed.")
        return job

    def folder(self, job: Job) -> Path:
        """Return the folder of a job's files."""
        return self._folder / job.id

    async def changes(self, job_id: str) -> AsyncIterator[Job | None]:
        """Yield a job now and whenever something may have changed, until its end.

        None comes now and then where nothing did; the service's end ends it too.
        """
        while True:
            changed = self._changed
            job = self.job(job_id)
            yield job
            if job.state in FINISHED or self.is_stopping:
                return
            while True:
                try:
                    await asyncio.wait_for(changed.wait(), timeout=10)
                    break
                except TimeoutError:
                    yield None

    async def ended(self, job_id: str, *, seconds: float) -> Job:
        """Return a job when it has come to its end, or as it is after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for _ in self.changes(job_id):
                    pass
        return self.job(job_id)

    def cancel(self, job: Job) -> Job:
        """Give up a job that waits or runs, and remove its files."""
        if job.state in FINISHED:
            return job
        if task := self._tasks.get(job.id):
            task.cancel()
        ended = self._end(job, "cancelled")
        self._tell()
        self._dispatch()
        return ended

    def remove(self, job: Job) -> None:
        """Forget a finished job with its video and its answer."""
        self.database.remove(job.id)
        shutil.rmtree(self.folder(job), ignore_errors=True)

    def _dispatch(self) -> None:
        """Begin with jobs that wait, as many as may run; those whose worker died run alone."""
        if self.is_stopping:
            return
        for job in self.database.in_state("queued"):
            if len(self._tasks) >= self.settings.limits.concurrency or self._alone in self._tasks:
                break
            if job.attempts:
                if self._tasks:
                    break
                self._alone = job.id
            started = self.database.change(job, state="running", attempts=job.attempts + 1)
            self._tasks[job.id] = asyncio.create_task(self._run(started))
        self.metrics.queued.set(self.database.count("queued"))
        self.metrics.running.set(len(self._tasks))

    async def _run(self, job: Job) -> None:
        begun = time.monotonic()
        order = Predict(
            self.worker.next_number(),
            job.path,
            job.name,
            folder=str(self.folder(job)),
            options=job.options,
        )

        def listener(stage: str, done: int, total: int) -> None:
            self.progress[job.id] = stage, done, total
            self._tell()

        try:
            await self.worker.carry_out(order, listener=listener)
            seconds = time.monotonic() - begun
            self._mean_seconds += 0.2 * (seconds - self._mean_seconds)
            self.metrics.job_seconds.observe(seconds)
            self.metrics.video_seconds.inc(job.video_seconds)
            self._end(job, "done")
            log("job-done", job=job.id, work_seconds=round(seconds, 3))
        except RefusedError as error:
            self._end(job, "failed", error=error.kind, message=str(error))
            detail = "".join(getattr(error, "__notes__", ()))
            log(
                "job-failed", job=job.id, error=error.kind, **({"detail": detail} if detail else {})
            )
        except WorkerDiedError:
            if job.attempts >= MOST_ATTEMPTS:
                self._end(job, "failed", error="worker", message=_died_twice(job, "worker"))
                log("job-failed", job=job.id, error="worker")
            else:
                self.database.change(job, state="queued")
                log("job-queued-again", job=job.id)
        finally:
            self.progress.pop(job.id, None)
            self._tasks.pop(job.id, None)
            self._tell()
            if not self.is_stopping:
                self._dispatch()

    def _end(self, job: Job, state: JobState, **why: str) -> Job:
        """Keep how a job ended; of one without an answer all files go."""
        if state != "done":
            shutil.rmtree(self.folder(job), ignore_errors=True)
        self.metrics.jobs.labels(state).inc()
        try:
            return self.database.finish(job, state, **why)
        except DiskError:  # room for a line in the database comes before the answer
            shutil.rmtree(self.folder(job), ignore_errors=True)
            text = "The disk of the service was full when the answer was there."
            return self.database.finish(job, "failed", error="disk-full", message=text)

    def _worker_died(self, code: int) -> None:
        self.metrics.worker_deaths.inc()
        log("worker-died", exit_code=code)

    def _tell(self) -> None:
        """Wake up all who wait for a change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # --- what is old goes ---

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self.settings.limits.keep_seconds / 4))
            with contextlib.suppress(DiskError):
                self.sweep()

    def sweep(self) -> None:
        """Remove jobs that were kept long enough, and what a late worker left of removed ones."""
        for job in self.database.expired(time.time() - self.settings.limits.keep_seconds):
            self.remove(job)
            log("job-removed", job=job.id)
        kept = {job.id for job in self.database.in_state("queued", "running", "done")}
        for folder in self._folder.iterdir():
            if folder.name not in kept | self._coming:
                shutil.rmtree(folder, ignore_errors=True)

    def health(self) -> dict[str, Any]:
        """Return how the service is."""
        status = "ok" if self.worker.ready.is_set() else "starting"
        return {
            "status": "stopping" if self.is_stopping else status,
            "queued": self.database.count("queued"),
            "running": len(self._tasks),
        }


def _died_twice(job: Job, who: str) -> str:
    return (
        f"The {who} process ended while it worked on {job.name!r}, and again when it was tried "
        "once more (often: not enough memory). Send it smaller or shorter."
    )
