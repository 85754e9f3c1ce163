"""Places that refuse: a full disk, a read-only folder, a small /dev/shm, a clock that goes back."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from dualstream.errors import DualstreamError

from .tiny import tiny_run, tiny_videos


@contextmanager
def tmpfs(folder: Path, *options: str) -> Iterator[Path]:
    """Mount a file system in memory; needs root.

    Raises:
        PermissionError: it cannot be mounted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise PermissionError("no file system can be mounted here (root only)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dualstream", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def _commands(work: Path, out: Path) -> dict[str, list[str]]:
    """Every command that writes, into a folder `out`."""
    data, run = str(work / "data"), str(work / "run")
    return {
        "prepare": ["prepare", data, "--out", str(out / "prepared")],
        "flow": ["flow", data, "--out", str(out / "flow")],
        "predict": ["predict", data, "--checkpoint", run, "--out", str(out / "p.jsonl")],
    }


def _told(work: Path, out: Path) -> str:
    """Each command must fail with an error of the package, and without a trace."""
    told = []
    for name, command in _commands(work, out).items():
        result = _run(*command)
        if result.returncode != 1 or "Traceback" in result.stderr:
            raise AssertionError(f"{name}: exit code {result.returncode}: {result.stderr[-400:]}")
        told.append(f"{name}: {' '.join(result.stderr.split())[-120:]}")
    return "; ".join(told)


def full_disk(work: Path) -> str:
    """A disk of 64 KiB that is full: nothing half written, and the same command goes on."""
    with tmpfs(work / "small", "size=64k") as small:
        (small / "filler").write_bytes(bytes(60 * 1024))
        told = _told(work, small)
        if left := [path.name for path in small.rglob("*.tmp")]:
            raise AssertionError(f"left behind: {left}")
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        for name, command in _commands(work, small).items():
            if (result := _run(*command)).returncode:
                raise AssertionError(f"{name} does not go on: {result.stderr[-400:]}")
    return told


def read_only(work: Path) -> str:
    """A folder that may not be written to."""
    with tmpfs(work / "fixed", "size=1m") as fixed:
        subprocess.run(["mount", "-o", "remount,ro", str(fixed)], check=True)
        return _told(work, fixed)


def two_jobs(work: Path) -> str:
    """Two extractions into one store at the same time: both end well, every file is whole."""
    from dualstream.flow.extract.job import FlowJob
    from dualstream.flow.extract.run import verify_flow

    store = work / "shared"
    command = [sys.executable, "-m", "dualstream", "flow", str(work / "data"), "--out", str(store)]
    both = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate()
        if process.returncode:
            raise AssertionError(errors.decode()[-400:])
    names = [str(p.relative_to(work / "data")) for p in sorted((work / "data").rglob("*.mp4"))]
    jobs = [FlowJob(name, str(work / "data" / name)) for name in names]
    outcomes = list(verify_flow(jobs, [store]))
    if any(outcome.status != "kept" for outcome in outcomes) or list(store.rglob("*.tmp")):
        raise AssertionError(str(outcomes))
    return f"{len(outcomes)} files, all whole"


def clock_back(work: Path) -> str:
    """The wall clock jumps back by an hour at every look; what is measured must not be negative."""
    from dualstream.clips.data.prepare import prepare
    from dualstream.flow.extract.job import FlowJob
    from dualstream.flow.extract.run import extract_flow

    ticks = (time.time() - 3600.0 * n for n in itertools.count())
    with mock.patch("time.time", side_effect=ticks):
        report = prepare(work / "data", journal=work / "clock.jsonl").report()
        jobs = [
            FlowJob(r.path, str(report.manifest.video_path(r))) for r in report.manifest.records
        ]
        outcomes = list(extract_flow(jobs, work / "clock"))
    if any(outcome.status != "done" or outcome.seconds < 0 for outcome in outcomes):
        raise AssertionError(str(outcomes))
    return f"{len(outcomes)} videos"


def slow_store(work: Path) -> str:
    """A store where every sync and rename takes a tenth of a second."""
    from dualstream.flow.extract.job import FlowJob
    from dualstream.flow.extract.run import extract_flow

    def late(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            time.sleep(0.1)
            return function(*arguments, **options)

        return call

    files = sorted((work / "data").rglob("*.mp4"))
    with (
        mock.patch("os.fsync", late(os.fsync)),
        mock.patch.object(Path, "replace", late(Path.replace)),
    ):
        outcomes = list(extract_flow([FlowJob(f.name, str(f)) for f in files], work / "slow"))
    if any(outcome.status != "done" for outcome in outcomes):
        raise AssertionError(str(outcomes))
    return f"{len(outcomes)} videos"


def predict_memory(work: Path, *, processes: int = 20) -> str:
    """Many processes that predict side by side: the largest of them, and their sum."""
    script = (
        "import resource, sys; from dualstream.engine.infer.predictor import Predictor; "
        "import torch; torch.set_num_threads(1); p = Predictor(sys.argv[1]); "
        "[p.predict(f) for f in sys.argv[2:]]; "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    files = list(map(str, sorted((work / "data").rglob("*.mp4"))))
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(work / "run"), *files], stdout=subprocess.PIPE
        )
        for _ in range(processes)
    ]
    peaks = [float(process.communicate()[0]) for process in begun]
    return f"{len(peaks)} processes, the largest {max(peaks):.0f} MiB, in all {sum(peaks):.0f} MiB"


PLACES: dict[str, Callable[[Path], str]] = {
    "full disk": full_disk,
    "read-only folder": read_only,
    "two jobs on one store": two_jobs,
    "clock that goes back": clock_back,
    "slow store": slow_store,
    "parallel predictions": predict_memory,
}


def write_data(work: Path) -> None:
    """Write the videos and the run that the commands work on."""
    shutil.rmtree(work, ignore_errors=True)
    tiny_videos(work / "data", per_class=2)
    tiny_run(work / "run", "rgb")


def record_of(name: str, work: Path) -> dict[str, str]:
    """Try one place; the record of what came of it."""
    try:
        return {"place": name, "verdict": "read", "detail": PLACES[name](work)}
    except PermissionError as error:
        return {"place": name, "verdict": "skipped", "detail": str(error)}
    except (AssertionError, DualstreamError) as error:
        return {"place": name, "verdict": "wrong", "detail": str(error)}
    except Exception as error:
        return {"place": name, "verdict": "foreign", "detail": f"{type(error).__name__}: {error}"}
