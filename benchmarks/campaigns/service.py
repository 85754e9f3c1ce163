"""A service that is killed while it works on many videos: each is done or failed by name."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from .containers import moving_square
from .tiny import tiny_run

JOBS, KILLS = 50, 4
"""Of one case."""

ANSWER = {"result.json", "timeline.csv", "timeline.srt", "video.mp4"}
"""Files of a job that is done."""

TORCH = f"torchinductor_{getpass.getuser()}"
"""Folder for compiled code, which importing torch makes and nothing removes."""

_MOST_SECONDS = 600.0
"""Without a change after which a service hangs."""


class Killed:
    """`dualstream serve` on the folder of a case, in a group of processes of its own.

    Args:
        folder: of the case, with `run` and `jobs`.
    """

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "dualstream", "serve", str(folder / "run"), "--port", "0"]
        command += ["--data", str(folder / "data"), "--window", "0.1", "--answer-seconds", "0"]
        # Log and errors of all services of a case, one after the other.
        with (folder / "log.jsonl").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--max-queue", str(2 * JOBS)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "temporary")},
            )

    def client(self) -> httpx.Client:
        """Wait until the service answers; empty where it was killed before."""
        assert self._process.stdout is not None
        address = self._process.stdout.readline().rpartition(" ")[2].strip()
        return httpx.Client(base_url=address, timeout=_MOST_SECONDS)

    def kill(self, *, only_parent: bool) -> int:
        """Kill it, with its worker or alone; returns how many of its processes live on."""
        parent = psutil.Process(self._process.pid)
        processes = [parent, *parent.children(recursive=True)]
        (os.kill if only_parent else os.killpg)(self._process.pid, signal.SIGKILL)
        self._close()
        _, alive = psutil.wait_procs(processes, timeout=60)
        for process in alive:
            process.kill()
        return len(alive)

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        self._process.terminate()
        return self._close()

    def _close(self) -> int:
        code = self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


class Uploads:
    """What the clients of a case send, again where no answer came, and what they were told.

    Args:
        video: that all send, under names of their own.
        names: of the files.
    """

    def __init__(self, video: Path, names: Iterable[str]) -> None:
        self._content = video.read_bytes()
        self.sent = Counter[str]()
        self.jobs: dict[str, str] = {}
        """Name -> the job that the service told."""
        self.waiting = list(names)

    def send(self, client: httpx.Client) -> None:
        """Upload all that wait, until the service is gone."""
        with contextlib.suppress(httpx.TransportError):
            while self.waiting:
                name = self.waiting[0]
                self.sent[name] += 1
                answer = client.post(
                    "/v1/predict", files={"file": (name, self._content)}, params={"wait": False}
                )
                answer.raise_for_status()
                self.jobs[name] = answer.json()["id"]
                self.waiting.pop(0)


def write_data(folder: Path) -> None:
    """Write a network and a video, on which it works for a moment."""
    from dualstream.video import write_video

    tiny_run(folder / "run", "rgb")
    write_video(folder / "video.mp4", moving_square(50, 48, 64), fps=25)


def record_of(seed: int, work: Path, *, jobs: int = JOBS, kills: int = KILLS) -> dict[str, Any]:
    """Kill a service several times while it takes and works on videos; then let it end its work.

    A moment is one of the start, of the uploads, or one when so many videos were done, all drawn
    by chance. Clients send again what was not acknowledged.

    Args:
        seed: of the moments.
        work: folder of all cases; it has what `write_data` makes after the first.
        jobs: videos.
        kills: of the service.
    """
    if not (work / "sound").is_dir():
        write_data(work / "making")
        (work / "making").rename(work / "sound")
    folder = work / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(work / "sound", folder)
    (folder / "temporary").mkdir()
    rng = random.Random(f"serve {seed}")
    uploads = Uploads(folder / "video.mp4", [f"{number:02}.mp4" for number in range(jobs)])
    told, survivors = [], 0
    for left in range(kills, 0, -1):
        service = Killed(folder)
        with _moment(service, uploads, rng, kills_left=left) as moment:
            only_parent = rng.randrange(3) == 0
            told.append(f"{moment}, {'parent' if only_parent else 'all'}")
            survivors += service.kill(only_parent=only_parent)
    service = Killed(folder)
    with service.client() as client:
        uploads.send(client)
        is_over = _until(lambda: _open(client) == 0, steady=lambda: _open(client))
    code = service.end() if is_over else service.kill(only_parent=False)
    wrong = _wrong(folder, uploads)
    states = wrong.pop("states")
    if survivors:
        wrong["processes"] = survivors
    if not is_over or code:
        wrong["end"] = code
    detail = {"kills": told, "jobs": sum(states.values()), **states, "wrong": wrong}
    return {**detail, "verdict": "hung" if not is_over else "lost" if wrong else "read"}


@contextlib.contextmanager
def _moment(
    service: Killed, uploads: Uploads, rng: random.Random, *, kills_left: int
) -> Iterator[str]:
    """Begin the block, which kills the service, when it is time; gives what that moment is."""
    kind = rng.choice(("start", "upload", "work", "work"))
    if kind == "start":
        seconds = rng.uniform(0, 6)
        time.sleep(seconds)
        yield f"{seconds:.1f} s after the start"
        return
    with service.client() as client:
        sender = threading.Thread(target=uploads.send, args=(client,))
        before = len(uploads.waiting)
        due = rng.randrange(before) if kind == "upload" and before else before
        sender.start()
        _until(lambda: before - len(uploads.waiting) >= due, steady=lambda: len(uploads.waiting))
        found = f"after {due} uploads"
        if due == before:
            sender.join()
            there = _open(client)
            ended = rng.randrange(1 + there // (kills_left + 1))
            _until(lambda: there - _open(client) >= ended, steady=lambda: _open(client))
            found = f"after {ended} of {there} jobs"
        time.sleep(rng.uniform(0, 0.2))
        yield found
        sender.join()


def _open(client: httpx.Client) -> int:
    """Jobs that wait or run."""
    health = client.get("/healthz").json()
    return int(health["queued"]) + int(health["running"])


def _until(happened: Callable[[], bool], *, steady: Callable[[], object]) -> bool:
    """Wait; returns False where nothing changed for so long that nothing will."""
    since, last = time.monotonic(), steady()
    while not happened():
        if (now := steady()) != last:
            since, last = time.monotonic(), now
        if time.monotonic() - since > _MOST_SECONDS:
            return False
        time.sleep(0.02)
    return True


def _wrong(folder: Path, uploads: Uploads) -> dict[str, Any]:
    """What is not as it must be after the last service, and under `states` how jobs ended."""
    from dualstream.serve.database import JobDatabase

    database = JobDatabase(folder / "data" / "jobs.sqlite")
    jobs = database.in_state("queued", "running", "done", "failed", "cancelled")
    database.close()
    rows, ids = Counter(job.name for job in jobs), {job.id for job in jobs}
    done = {job.id for job in jobs if job.state == "done"}
    worked = Counter(entry["job"] for entry in _log(folder) if entry.get("event") == "job-done")
    files = {
        path.name: {one.name for one in path.iterdir()} for path in (folder / "data/jobs").iterdir()
    }
    answers = [json.loads((folder / "data/jobs" / job / "result.json").read_text()) for job in done]
    told = [{key: value for key, value in one.items() if key != "source"} for one in answers]
    found = {
        "lost": sorted({*uploads.sent} - {*rows} | {*uploads.jobs.values()} - ids),
        "not at an end": [job.id for job in jobs if job.state not in ("done", "failed")],
        "not named": [
            j.id for j in jobs if j.state == "failed" and j.name not in (j.message or "")
        ],
        "twice": [name for name in rows if rows[name] > uploads.sent[name]]
        + [job for job in worked if worked[job] > 1],
        "left over": [name for name in files if name not in done]
        + [path.name for path in (folder / "temporary").iterdir() if path.name != TORCH],
        "other files": sorted(
            path.name
            for path in (folder / "data").iterdir()
            if path.name not in ("jobs", "jobs.sqlite")
        ),
        "incomplete": [job for job in done if files.get(job) != ANSWER],
        "other answers": len(told) - told.count(told[0]) if told else 0,
    }
    states = Counter(job.state for job in jobs)
    return {"states": dict(states)} | {key: value for key, value in found.items() if value}


def _log(folder: Path) -> Iterator[dict[str, Any]]:
    """Lines of the services' logs; one may be half, of a service that was killed."""
    for line in (folder / "log.jsonl").read_text().splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table of cases: kills, jobs, how they ended, and what was wrong."""
    rows = [
        "| seed | killed | jobs | done | failed by name | wrong |",
        "|---:|---|---:|---:|---:|---|",
    ]
    for one in records:
        wrong = ", ".join(one["wrong"]) or "nothing"
        cells = [one["seed"], "; ".join(one["kills"]), one["jobs"], one.get("done", 0)]
        rows.append("| " + " | ".join(map(str, [*cells, one.get("failed", 0), wrong])) + " |")
    return "\n".join(rows)
