"""Checks every video of a data set by decoding it, in worker processes, and can be interrupted."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from dualstream.errors import AnnotationError, InputError, VideoError
from dualstream.files import file_sha256, replacing
from dualstream.video import VideoReader, probe

T = TypeVar("T")

_JOURNAL_COLUMNS = (
    *("path", "size", "mtime_ns", "decoded", "frames", "fps", "width", "height"),
    *("frames_from_header", "frames_missing", "sha256", "end"),
)


@dataclass(frozen=True)
class VideoFacts:
    """Facts about a video file."""

    frames: int
    """Frames that decode (or, where nothing was decoded, that the file holds packets of)."""
    fps: float
    """Mean frame rate."""
    width: int
    """Pixels as displayed."""
    height: int
    """Pixels as displayed."""
    frames_from_header: int | None
    """Frames that the file claims to have."""
    frames_missing: int
    """Pictures in the file that cannot be decoded; 0 where nothing was decoded."""
    sha256: str
    """Checksum of the file."""


@dataclass(frozen=True)
class CheckedVideo:
    """Outcome of checking one video: either `facts` or `error` is given."""

    path: str
    """Name of the video, from the root of the data set."""
    facts: VideoFacts | None
    error: str | None
    is_reused: bool
    """Whether an earlier run had checked this same file (path, size and time of change)."""


def check_video(path: str | os.PathLike[str], *, decode: bool = True) -> VideoFacts:
    """Facts about one video file.

    Args:
        path: the file.
        decode: decode all of it; otherwise frames are counted by their packets.

    Raises:
        VideoError: it cannot be decoded, or cannot be read at all.
    """
    info = probe(path, decode=decode)
    with VideoReader(path) as reader:
        # Until anything is decoded, the reader counts the packets that hold a picture.
        num_packets = reader.num_frames
    frames = num_packets if info.num_frames_decoded is None else info.num_frames_decoded
    missing = max(0, num_packets - frames)
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise VideoError(f"{os.fspath(path)!r} cannot be read ({error.strerror}).") from error
    # Sums of presentation times carry rounding errors: 29.999999999999996 is 30.
    fps = round(info.fps, 6)
    claimed = info.num_frames_from_header
    return VideoFacts(frames, fps, info.width, info.height, claimed, missing, digest)


def check_videos(
    root: Path,
    names: Sequence[str],
    *,
    workers: int = 1,
    decode: bool = True,
    journal: Path | None = None,
) -> Iterator[CheckedVideo]:
    """Check videos and yield each outcome as soon as it is known; a bad one does not stop it.

    Args:
        root: folder that the names start from.
        names: the videos.
        workers: processes that check; with 1 this one does it.
        decode: see `check_video`.
        journal: CSV file that good outcomes are kept in as they come, so that the next run goes
            on from there; a file that has changed since is checked again.

    Raises:
        InputError: `workers` is below 1.
        AnnotationError: the journal cannot be written.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}.")
    with _Journal(journal) as kept:
        due: list[str] = []
        for name in names:
            if facts := kept.find(root / name, name, decode=decode):
                yield CheckedVideo(name, facts, None, is_reused=True)
            else:
                due.append(name)
        stats = {name: _stat(root / name) for name in due}
        check = partial(_try_check, decode=decode)
        jobs = [(name, str(root / name)) for name in due]
        for name, outcome in _outcomes(check, jobs, workers=min(workers, max(len(due), 1))):
            if isinstance(outcome, VideoFacts):
                kept.add(name, stats[name], outcome, decode=decode)
                yield CheckedVideo(name, outcome, None, is_reused=False)
            else:
                error = outcome or "The decoder crashed on this file. Re-encode or remove it."
                yield CheckedVideo(name, None, error, is_reused=False)


def _try_check(path: str, *, decode: bool) -> VideoFacts | str:
    try:
        return check_video(path, decode=decode)
    except VideoError as error:
        return str(error)


def _outcomes(
    function: Callable[[str], T], jobs: Sequence[tuple[str, str]], *, workers: int
) -> Iterator[tuple[str, T | None]]:
    """(name, function(argument)) of each job (name, argument), in the order of completion.

    The result is None where the process died of the argument. When a process of the pool dies,
    the pool does not tell which job it had, so each unfinished one is tried again alone.
    """
    if workers == 1:
        for name, argument in jobs:
            yield name, function(argument)
        return
    waiting = deque(jobs)
    while waiting:
        suspects: list[tuple[str, str]] = []
        yield from _pool_outcomes(function, waiting, suspects, workers=workers)
        for name, argument in suspects:
            alone: list[tuple[str, str]] = []
            yield from _pool_outcomes(function, deque([(name, argument)]), alone, workers=1)
            if alone:
                yield name, None


def _pool_outcomes(
    function: Callable[[str], T],
    waiting: deque[tuple[str, str]],
    suspects: list[tuple[str, str]],
    *,
    workers: int,
) -> Iterator[tuple[str, T]]:
    """Outcomes of one pool, until `waiting` is empty or a process died (fills `suspects`)."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    running: dict[Future[T], tuple[str, str]] = {}
    try:
        _wait_for_start(pool)
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                running[pool.submit(function, waiting[0][1])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield running.pop(future)[0], result
    except BrokenProcessPool:
        suspects.extend(running.values())
        if not suspects:
            suspects.append(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _wait_for_start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise InputError(
            "Worker processes cannot start. Put the calling code under "
            "`if __name__ == '__main__':` in a file, or use workers=1."
        ) from None


def _start_worker() -> None:
    """End at once with Ctrl-C, and with the parent process, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _stat(path: Path) -> tuple[int, int]:
    """(size, mtime_ns) of a file; zeros where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


class _Journal:
    """Facts of earlier runs, and of this one as they come.

    Each row ends in a full stop; a row cut off by a kill or a full disk is not read back.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, tuple[str, ...]] = {}

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        try:
            self._rows = _read_journal(self._path)
            with (
                replacing(self._path) as temporary,
                temporary.open("w", encoding="utf-8", newline="") as file,
            ):
                csv.writer(file, lineterminator="\n").writerows(
                    [_JOURNAL_COLUMNS, *self._rows.values()]
                )
            self._file = self._path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise self._unwritable(error) from error
        self._writer = csv.writer(self._file, lineterminator="\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._path is not None:
            self._file.close()

    def find(self, path: Path, name: str, *, decode: bool) -> VideoFacts | None:
        """Facts of a file that has not changed; counted ones do not serve where decoding is due."""
        row = self._rows.get(name)
        if row is None or row[1:3] != tuple(map(str, _stat(path))) or (decode and row[3] != "yes"):
            return None
        frames, fps, width, height, claimed, missing, sha256 = row[4:11]
        return VideoFacts(
            frames=int(frames),
            fps=float(fps),
            width=int(width),
            height=int(height),
            frames_from_header=int(claimed) if claimed else None,
            frames_missing=int(missing),
            sha256=sha256,
        )

    def add(self, name: str, stat: tuple[int, int], facts: VideoFacts, *, decode: bool) -> None:
        if self._path is None:
            return
        known = astuple(facts)  # None is written as an empty cell
        try:
            self._writer.writerow([name, *stat, "yes" if decode else "no", *known, "."])
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> AnnotationError:
        return AnnotationError(f"{self._path}: cannot be written ({error.strerror}).")


def _read_journal(path: Path) -> dict[str, tuple[str, ...]]:
    """Complete rows of a journal by path; of two rows of one path the last one counts."""
    rows: dict[str, tuple[str, ...]] = {}
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
        with suppress(csv.Error):  # a cell longer than any name: not a journal from there on
            for row in csv.reader(text.splitlines(keepends=True)):
                if len(row) == len(_JOURNAL_COLUMNS) and row[-1] == ".":
                    rows[row[0]] = tuple(row)
    return rows
