"""Files of features: computed once for the content of a video, part by part, and kept."""

from __future__ import annotations

import json
import os
import queue
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dualstream.engine.teach.steps import StepFeatures, joined
from dualstream.errors import DualstreamError, VideoError
from dualstream.files import replacing, write_text
from dualstream.video import VideoReader

if TYPE_CHECKING:
    from dualstream.engine.teach.features import FeatureExtractor

PART_STEPS = 60
"""Steps of a file; a stopped computation goes on after the last one."""

_STEPS_FILE = "steps.json"


@dataclass(frozen=True)
class TeachProgress:
    """Where a training stands."""

    phase: Literal["features", "fit", "runs"]
    done: int
    total: int
    """Of features: seconds of video."""
    video: str = ""
    """That was worked on last."""

    def entry(self) -> dict[str, Any]:
        """The progress as JSON has it."""
        return {"phase": self.phase, "done": self.done, "total": self.total, "video": self.video}


Listener = Callable[[TeachProgress], None]


class FeatureFiles:
    """The kept features of a project: a folder for each content of a video and settings.

    Args:
        folder: of all of them.
        digest: of the settings (`TeachSettings.features_digest`).
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder, self._digest = folder, digest

    def read(self, sha256: str) -> StepFeatures | None:
        """Return the features of a video's content, None unless all are there."""
        parts = self._parts(sha256)
        try:
            total = json.loads((self.folder_of(sha256) / _STEPS_FILE).read_text())["steps"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return joined(parts) if parts and sum(map(len, parts)) == total else None

    def folder_of(self, sha256: str) -> Path:
        """Folder of a video's content."""
        return self._folder / f"{sha256[:20]}-{self._digest[:12]}"

    def compute(
        self, file: Path, sha256: str, extractor: FeatureExtractor, *, num_threads: int = 1
    ) -> Iterator[float]:
        """Compute what is not there yet; yield the seconds of video that each step adds.

        Args:
            file: of the video.
            sha256: of its content.
            extractor: of the same settings.
            num_threads: that decode.

        Raises:
            VideoError: the file cannot be read.
            DiskError: features cannot be written; those that are there stay.
        """
        with VideoReader(file, num_threads=num_threads) as video:
            steps = extractor.steps(video)
            first = float(video.pts_seconds[0])
            parts = self._parts(sha256)
            folder = self.folder_of(sha256)
            write_text(folder / _STEPS_FILE, json.dumps({"steps": len(steps)}))
            start = sum(map(len, parts))
            if start:
                yield steps[start - 1].end_seconds - first
            found = zip(steps[start:], extractor.features(video, steps[start:]), strict=True)
            rows: list[tuple[tuple[float, float], Mapping[str, Any]]] = []
            for number, (step, blocks) in enumerate(found, start=start + 1):
                rows.append(((step.start_seconds - first, step.end_seconds - first), blocks))
                if number % PART_STEPS == 0 or number == len(steps):
                    _write_part(_part_file(folder, number - len(rows)), rows)
                    rows = []
                yield step.end_seconds - step.start_seconds

    def _parts(self, sha256: str) -> list[StepFeatures]:
        """The parts that are there and whole, from the first step on without a gap."""
        folder = self.folder_of(sha256)
        parts: list[StepFeatures] = []
        while (part := _read_part(_part_file(folder, sum(map(len, parts))))) is not None:
            parts.append(part)
        return parts


def compute_all(
    files: FeatureFiles,
    due: Mapping[str, tuple[Path, str, float]],
    extractor: FeatureExtractor,
    *,
    workers: int,
    listener: Listener | None = None,
) -> None:
    """Compute the features of several videos side by side.

    Threads do it: the networks are in memory once, and a script needs no guard around its call.

    Args:
        files: where they are kept.
        due: video -> its file, checksum and length in seconds.
        extractor: of the same settings.
        workers: videos side by side; they share torch's threads.
        listener: called in this thread for each step; an error that it raises stops all.

    Raises:
        VideoError: a video cannot be read; those before it are kept.
        DiskError: features cannot be written.
    """
    import torch

    total, threads = round(sum(seconds for _, _, seconds in due.values())), torch.get_num_threads()
    workers = max(1, min(workers, len(due)))
    news: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
    stop = threading.Event()

    def work(name: str) -> None:
        torch.set_num_threads(max(1, threads // workers))
        file, sha256, _ = due[name]
        for seconds in files.compute(file, sha256, extractor):
            news.put((name, seconds))
            if stop.is_set():
                return

    done = 0.0
    with ThreadPoolExecutor(workers, thread_name_prefix="features") as pool:
        pending = {pool.submit(work, name): name for name in due}
        try:
            while pending or not news.empty():
                try:
                    name, seconds = news.get(timeout=0.2)
                except queue.Empty:
                    pass
                else:
                    done += seconds
                    if listener is not None:
                        listener(TeachProgress("features", min(round(done), total), total, name))
                for future in [future for future in pending if future.done()]:
                    _raise_for(pending.pop(future), future.exception())
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


def _raise_for(video: str, error: BaseException | None) -> None:
    if error is None:
        return
    if isinstance(error, DualstreamError | OSError | MemoryError):
        raise error
    raise VideoError(f"{video}: its features cannot be computed ({error}).") from error


def _part_file(folder: Path, first: int) -> Path:
    return folder / f"steps-{first:07d}.npz"


def _write_part(file: Path, rows: Sequence[tuple[tuple[float, float], Mapping[str, Any]]]) -> None:
    tables: dict[str, Any] = {
        name: np.stack([blocks[name] for _, blocks in rows]) for name in rows[0][1]
    }
    with replacing(file, keep_suffix=True) as temporary:
        np.savez(temporary, seconds=np.array([times for times, _ in rows]), **tables)


def _read_part(file: Path) -> StepFeatures | None:
    """A part, None where there is none or it is broken."""
    if not os.path.isfile(file):
        return None
    try:
        with file.open("rb") as opened, np.load(opened) as content:
            tables = {name: content[name] for name in content.files}
            part = StepFeatures(tables.pop("seconds"), tables)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return part if len(part) else None
