"""A folder of the trajectories of many videos, and their extraction into it.

ROOT/<checksum of the settings>/settings.json
                               /<video>.npz      float16 arrays, places float32
ROOT/<video>.txt               instead: the authors' lines of text
"""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

import numpy as np

from dualstream.errors import DiskError, DualstreamError, FlowError
from dualstream.files import write_text
from dualstream.flow.trajectories.arrays import Trajectories, save_arrays, write_trajectories
from dualstream.flow.trajectories.track import TrajectoryParams, trajectory_runs
from dualstream.jobs.processes import reason_of_death, run_jobs
from dualstream.video.reader import VideoReader
from dualstream.video.times import frames_between

Layout = Literal["arrays", "text"]

_BROKEN = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile)
"""What numpy raises of files that it cannot read."""

LAYOUT = 1
"""Raised whenever equal settings give other numbers than before."""


@dataclass(frozen=True)
class TrajectoryJob:
    """One video, or an interval of one, whose trajectories are wanted."""

    name: str
    """Name in the store (that of the manifest)."""
    path: str
    """The video file."""
    sha256: str = ""
    """Of the file, "" where it is not known; stored trajectories of another file do not count."""
    seconds: tuple[float, float] | None = None
    """Start and end of the interval, from the first frame; None is the whole video."""


@dataclass(frozen=True)
class TrajectoryOutcome:
    """Outcome of one job."""

    name: str
    status: Literal["done", "kept", "failed"]
    """`kept`: the store had it already."""
    error: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class TrajectoryStore:
    """Trajectories of videos by their names, all made with the same settings."""

    root: Path
    params: TrajectoryParams = field(default_factory=TrajectoryParams)

    @property
    def folder(self) -> Path:
        """Folder of these settings; other settings lie beside it."""
        text = json.dumps({"layout": LAYOUT, **asdict(self.params)}, sort_keys=True)
        return self.root / hashlib.sha256(text.encode()).hexdigest()[:16]

    def path(self, name: str) -> Path:
        """File of a video: `a/b.mp4` -> `<folder>/a/b.mp4.npz`."""
        return self.folder / f"{name}.npz"

    def text_path(self, name: str) -> Path:
        """File of a video as text, whatever the settings: `a/b.mp4` -> `ROOT/a/b.mp4.txt`."""
        return self.root / f"{name}.txt"

    def holds(self, job: TrajectoryJob) -> bool:
        """Whether the trajectories of a video are there, of the same file."""
        try:
            with self.path(job.name).open("rb") as file, np.load(file) as arrays:
                return str(arrays["sha256"]) in ("", job.sha256) or not job.sha256
        except _BROKEN:
            return False

    def read(self, name: str) -> Trajectories:
        """Trajectories of a video.

        Raises:
            FlowError: they are not there, or the file is broken.
        """
        path = self.path(name)
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                parts = [arrays[part.name].astype(np.float32) for part in fields(Trajectories)]
                return Trajectories(*parts)
        except _BROKEN as error:
            raise FlowError(
                f"{path}: no readable trajectories ({error}). Remove the file if it is there, and "
                "compute them again with `dualstream trajectories`, or with the same training."
            ) from error

    def extract(
        self, jobs: Sequence[TrajectoryJob], *, workers: int = 1, layout: Layout = "arrays"
    ) -> Iterator[TrajectoryOutcome]:
        """Compute what the store does not hold yet; yield each outcome as its video is finished.

        A video that cannot be read fails and the others go on; one whose process dies is tried
        once more. A killed run leaves whole files only, and the same call goes on after it.

        Args:
            jobs: names differ.
            workers: processes, one core each; up to 1 works in this one.
            layout: arrays, which `read` reads, or text (`write_trajectories`).

        Raises:
            DiskError: the store takes no more; the others are given up.
            MissingDependencyError: the compiled kernel was not built.
        """
        if layout == "arrays":
            settings = json.dumps({"layout": LAYOUT, **asdict(self.params)}, indent=2)
            write_text(self.folder / "settings.json", settings + "\n")
        missing = []
        for job in jobs:
            is_there = self.text_path(job.name).is_file() if layout == "text" else self.holds(job)
            if is_there:
                yield TrajectoryOutcome(job.name, "kept")
            else:
                missing.append(job)
        work = functools.partial(_extract, self, layout)
        if workers <= 1 or len(missing) < 2:
            yield from map(work, missing)
        elif missing:
            yield from run_jobs(work, missing, workers=workers, on_death=_died)


def _extract(store: TrajectoryStore, layout: Layout, job: TrajectoryJob) -> TrajectoryOutcome:
    """Compute and store the trajectories of one video."""
    try:
        with VideoReader(job.path) as video:
            numbers = None
            if job.seconds is not None:
                numbers = frames_between(video.pts_seconds, *job.seconds)
            runs = trajectory_runs(video, numbers=numbers, params=store.params)
            if layout == "text":
                write_trajectories(store.text_path(job.name), runs)
            else:
                found = Trajectories.joined([Trajectories.empty(store.params.length), *runs])
                save_arrays(store.path(job.name), found, sha256=job.sha256)
    except (DiskError, ImportError):  # would meet all other videos too
        raise
    except DualstreamError as error:
        return TrajectoryOutcome(job.name, "failed", str(error))
    return TrajectoryOutcome(job.name, "done")


def _died(job: TrajectoryJob, exit_code: int) -> TrajectoryOutcome:
    reason = f"{job.path}: {reason_of_death(exit_code)}."
    return TrajectoryOutcome(job.name, "failed", reason)
