"""Jobs on disk: kept as they are, one service at a time, versions told apart."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from dualstream.errors import DiskError, InputError
from dualstream.serve import database
from dualstream.serve.database import Job, JobDatabase
from dualstream.serve.documents import PredictOptions


def job_of(number: int, **values: object) -> Job:
    """A job that waits."""
    return Job(
        **{
            "id": f"{number:032x}",
            "state": "queued",
            "name": f"a {number}.mp4",
            "path": "/a.mp4",
            "is_upload": True,
            "options": PredictOptions(top=3, enter=0.25),
            "video_seconds": 1.5,
            "created": 100.0 + number,
            **values,
        }
    )


def test_jobs_come_back_as_they_were(tmp_path: Path) -> None:
    jobs = [job_of(number) for number in range(3)]
    first = JobDatabase(tmp_path / "jobs.sqlite")
    for job in jobs:
        first.add(job)
    running = first.change(jobs[0], state="running", attempts=1)
    failed = first.finish(jobs[1], "failed", error="video", message="no video")
    first.close()
    again = JobDatabase(tmp_path / "jobs.sqlite")
    assert again.get(jobs[0].id) == running
    assert again.get(jobs[1].id) == failed
    assert again.get("nothing") is None
    assert again.in_state("queued") == [jobs[2]]
    assert again.in_state("running", "queued") == [running, jobs[2]]
    assert again.count("failed", "running") == 2
    assert again.expired(time.time() + 1) == [failed]
    assert again.expired(failed.finished or 0) == []
    again.remove(failed.id)
    assert again.ids() == {jobs[0].id, jobs[2].id}
    again.close()


def test_jobs_before_one_in_the_queue(tmp_path: Path) -> None:
    jobs = JobDatabase(tmp_path / "jobs.sqlite")
    added = [job_of(number) for number in range(4)]
    for job in added:
        jobs.add(job)
    jobs.change(added[0], state="running")
    assert [jobs.num_ahead(job) for job in added] == [0, 0, 1, 2]
    jobs.close()


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    first = JobDatabase(tmp_path / "jobs.sqlite")
    with pytest.raises(InputError, match="in use: another `dualstream serve`"):
        JobDatabase(tmp_path / "jobs.sqlite")
    first.close()
    JobDatabase(tmp_path / "jobs.sqlite").close()


def test_an_older_version_is_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.sqlite"
    old = JobDatabase(path)
    old.add(job_of(1))
    old.close()
    step = "ALTER TABLE jobs ADD COLUMN note TEXT; UPDATE jobs SET name = 'brought up'"
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, step))
        patch.setattr(database, "_as_job", dict)
        newer = JobDatabase(path)
        (row,) = newer.in_state("queued")
        assert row["name"] == "brought up"  # type: ignore[index]
        newer.close()
    with pytest.raises(InputError, match="its version is 2, this dualstream knows 1 to 1"):
        JobDatabase(path)


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, None])
def test_files_of_others(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "jobs.sqlite"
    if content is None:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE films (name TEXT)")
        other.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"jobs\.sqlite .* --data"):
        JobDatabase(path)
    assert path.read_bytes()[100:] == before[100:]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="file"):
        JobDatabase(tmp_path / "file" / "jobs.sqlite")


def test_a_full_disk(tmp_path: Path) -> None:
    jobs = JobDatabase(tmp_path / "jobs.sqlite")
    jobs._db.execute("PRAGMA max_page_count = 1")
    jobs.add(job_of(0))
    with pytest.raises(DiskError):
        jobs.add(job_of(1, name="x" * 100_000))
    jobs.close()
