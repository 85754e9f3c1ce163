"""Jobs in an SQLite file, where they outlast the process; one service at a time."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualstream.errors import DiskError, InputError
from dualstream.serve.documents import JobState, PredictOptions

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        name TEXT NOT NULL,
        path TEXT NOT NULL,
        is_upload INTEGER NOT NULL,
        options TEXT NOT NULL,
        video_seconds REAL NOT NULL,
        created REAL NOT NULL,
        finished REAL,
        attempts INTEGER NOT NULL,
        error TEXT,
        message TEXT
    ) STRICT;
    CREATE INDEX jobs_by_state ON jobs (state, created);
    """,
)
"""Steps from each version of the tables to the next one; version n is what n steps make."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A video that waits, is worked on, or was."""

    id: str
    state: JobState
    name: str
    """Of the file, as the client called it."""
    path: str
    """Of the file, here."""
    is_upload: bool
    """Whether the file is the service's own, to be removed with the job."""
    options: PredictOptions
    video_seconds: float
    """Length as the header tells it."""
    created: float
    """Seconds since 1970, as all times here."""
    finished: float | None = None
    attempts: int = 0
    """Times that work on it began and did not come to an end."""
    error: str | None = None
    """Kind of failure, see `refusal.Kind`."""
    message: str | None = None


class JobDatabase:
    """The jobs of a service.

    Args:
        path: of the file, made where it is missing.

    Raises:
        InputError: another service works with it, or it is no such file, or of another version.
        DiskError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        with self._saying():
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(
                self._path, timeout=0.5, isolation_level=None, check_same_thread=False
            )
        try:
            with self._saying():
                self._db.row_factory = sqlite3.Row
                # The lock is held from the first access on, and the system frees it with the
                # process.
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("BEGIN EXCLUSIVE")
                self._db.execute("COMMIT")
                self._migrate()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version > len(MIGRATIONS) or (version == 0 and tables):
            raise InputError(
                f"{self._path} was made by another version of dualstream, or by another program "
                f"(its version is {version}, this dualstream knows 1 to {len(MIGRATIONS)}). Give "
                "another folder with --data, or move this one away."
            )
        for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
            self._db.executescript(f"BEGIN; {step}; PRAGMA user_version = {number}; COMMIT;")

    def add(self, job: Job) -> None:
        """Keep a new job."""
        row = _as_row(job)
        names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
        self._run(f"INSERT INTO jobs ({names}) VALUES ({places})", row)

    def get(self, job_id: str) -> Job | None:
        """Return the job of this name, None where there is none."""
        found = self._run("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if found is None else _as_job(found)

    def change(self, job: Job, **changes: Any) -> Job:
        """Keep other values of a job, and return it with them."""
        changed = replace(job, **changes)
        row = _as_row(changed)
        assignments = ", ".join(f"{name} = :{name}" for name in row)
        self._run(f"UPDATE jobs SET {assignments} WHERE id = :id", row)
        return changed

    def finish(
        self, job: Job, state: JobState, *, error: str | None = None, message: str | None = None
    ) -> Job:
        """Keep that a job has come to its end."""
        return self.change(job, state=state, finished=time.time(), error=error, message=message)

    def remove(self, job_id: str) -> None:
        """Forget a job."""
        self._run("DELETE FROM jobs WHERE id = ?", (job_id,))

    def in_state(self, *states: JobState) -> list[Job]:
        """Return the jobs in these states, the oldest first."""
        marks = ", ".join("?" * len(states))
        rows = self._run(
            f"SELECT * FROM jobs WHERE state IN ({marks}) ORDER BY created, rowid", states
        )
        return [_as_job(row) for row in rows]

    def count(self, *states: JobState) -> int:
        """Return how many jobs are in these states."""
        marks = ", ".join("?" * len(states))
        found = self._run(f"SELECT count(*) FROM jobs WHERE state IN ({marks})", states)
        return int(found.fetchone()[0])

    def num_ahead(self, job: Job) -> int:
        """Return how many jobs were queued before this one."""
        found = self._run(
            "SELECT count(*) FROM jobs WHERE state = 'queued' AND rowid < "
            "(SELECT rowid FROM jobs WHERE id = ?)",
            (job.id,),
        )
        return int(found.fetchone()[0])

    def expired(self, before: float) -> list[Job]:
        """Return the jobs that were finished before a time."""
        rows = self._run("SELECT * FROM jobs WHERE finished < ?", (before,))
        return [_as_job(row) for row in rows]

    def ids(self) -> set[str]:
        """Return the names of all jobs."""
        return {row["id"] for row in self._run("SELECT id FROM jobs", ())}

    def _run(self, statement: str, values: Any) -> sqlite3.Cursor:
        with self._saying():
            return self._db.execute(statement, values)

    @contextmanager
    def _saying(self) -> Iterator[None]:
        """Turn what SQLite raises into errors that say what to do."""
        try:
            yield
        except sqlite3.Error as error:
            code = error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else None
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InputError(
                    f"{self._path} is in use: another `dualstream serve` works with this folder. "
                    "End that one, or give another folder with --data."
                ) from error
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise DiskError(errno.ENOSPC, str(error), str(self._path)) from error
            if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
                raise DiskError(errno.EACCES, str(error), str(self._path)) from error
            raise InputError(
                f"{self._path} cannot be used ({error}). Move it away, or give another folder "
                "with --data."
            ) from error
        except OSError as error:
            raise DiskError(error.errno, error.strerror, str(self._path)) from error


def _as_row(job: Job) -> dict[str, Any]:
    return {
        **{name: getattr(job, name) for name in Job.__dataclass_fields__},
        "is_upload": int(job.is_upload),
        "options": job.options.model_dump_json(exclude_unset=True),
    }


def _as_job(row: sqlite3.Row) -> Job:
    values = dict(zip(row.keys(), row, strict=True))
    values["is_upload"] = bool(values["is_upload"])
    values["options"] = PredictOptions.model_validate_json(values["options"])
    return Job(**values)
