"""Check every video of a data set by decoding it, in worker processes; a stopped run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import get_type_hints

from dualstream.errors import CorruptVideoError, DiskError, VideoError, check_least
from dualstream.files import file_sha256, write_text
from dualstream.jobs import run_jobs
from dualstream.video import VideoReader, probe


@dataclass(frozen=True)
class VideoFacts:
    """Facts about a video file; width and height in pixels as displayed, sha256 of the file."""

    frames: int
    """Frames that decode (or, where nothing was decoded, that the file holds packets of)."""
    fps: float
    """Mean frame rate."""
    width: int
    height: int
    frames_from_header: int | None
    """Frames that the file claims to have."""
    frames_missing: int
    """Pictures in the file that cannot be decoded; 0 where nothing was decoded."""
    sha256: str


@dataclass(frozen=True)
class CheckedVideo:
    """Outcome of checking one video: either `facts` or `error` is given."""

    path: str
    """Name of the video, from the root of the data set."""
    facts: VideoFacts | None
    error: str | None = None
    is_reused: bool = False
    """Whether an earlier run had checked this same file (path, size and time of change)."""


def check_video(path: str | os.PathLike[str], *, decode: bool = True) -> VideoFacts:
    """Return the facts about one video file; without `decode` frames are counted by their packets.

    Raises:
        VideoError: it cannot be decoded, or cannot be read at all.
    """
    info = probe(path, decode=decode)
    frames = info.num_frames_decoded
    if frames is None:
        with VideoReader(path) as reader:
            frames = reader.num_frames
    # Sums of presentation times carry rounding errors: 29.999999999999996 is 30.
    if not (fps := round(info.fps, 6)) > 0:
        raise CorruptVideoError(
            f"{os.fspath(path)!r} claims {info.fps:.3g} frames a second: its clock is damaged. "
            "Copy or download it again."
        )
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise VideoError(f"{os.fspath(path)!r} cannot be read ({error.strerror}).") from error
    return VideoFacts(
        frames=frames,
        fps=fps,
        width=info.width,
        height=info.height,
        frames_from_header=info.num_frames_from_header,
        frames_missing=info.num_frames_missing or 0,
        sha256=digest,
    )


@dataclass(frozen=True)
class _Row:
    """Line of the journal: a file as it was when it was checked, and its facts."""

    path: str
    size: int
    mtime_ns: int
    is_decoded: bool
    facts: VideoFacts


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
        workers: processes that check, from 1; with 1 this one does it.
        decode: see `check_video`.
        journal: file that good outcomes are kept in as they come, one JSON object a line, so
            that the next run goes on from there; a file that has changed is checked again.

    Raises:
        InputError: worker processes cannot start.
        DiskError: the journal cannot be written.
    """
    check_least(1, workers=workers)
    rows = _read_journal(journal) if journal else {}
    if journal:
        # Written anew: the next line would be joined to one that a kill cut off.
        write_text(journal, "".join(map(_line, rows.values())))
    # Size and time from before its check: a file that changes meanwhile is checked again.
    due: dict[str, tuple[int, int]] = {}
    for name in names:
        row, stat = rows.get(name), _stat(root / name)
        if row and (row.size, row.mtime_ns) == stat and (row.is_decoded or not decode):
            yield CheckedVideo(name, row.facts, is_reused=True)
        else:
            due[name] = stat
    check = partial(_check, root=root, decode=decode)
    checked: Iterator[CheckedVideo] = map(check, due)
    if (workers := min(workers, len(due))) > 1:
        checked = run_jobs(check, list(due), workers=workers, on_death=_crashed)
    for video in checked:
        if journal and video.facts:
            row = _Row(video.path, *due[video.path], decode, video.facts)
            try:
                with journal.open("a", encoding="utf-8") as file:
                    file.write(_line(row))
            except OSError as error:
                raise DiskError(error.errno, error.strerror, str(journal)) from error
        yield video


def _check(name: str, *, root: Path, decode: bool) -> CheckedVideo:
    try:
        return CheckedVideo(name, check_video(root / name, decode=decode))
    except VideoError as error:
        return CheckedVideo(name, None, str(error))


def _crashed(name: str, exit_code: int) -> CheckedVideo:
    return CheckedVideo(name, None, "The decoder crashed on this file. Re-encode or remove it.")


def _stat(path: Path) -> tuple[int, int]:
    """(size, mtime_ns) of a file; zeros where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _line(row: _Row) -> str:
    return json.dumps(asdict(row)) + "\n"


def _read_journal(path: Path) -> dict[str, _Row]:
    """Rows by path, the last of each; lines of another form (cut off, foreign) are left out."""
    rows: dict[str, _Row] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            values = json.loads(line)
            row = _Row(**{**values, "facts": VideoFacts(**values["facts"])})
            if _has_types(row) and _has_types(row.facts):
                rows[row.path] = row
    return rows


def _has_types(read: _Row | VideoFacts) -> bool:
    """Whether every field is of its type: a line of JSON may hold anything."""
    types = get_type_hints(type(read))
    return all(
        isinstance(getattr(read, name), kind) and (kind is bool or getattr(read, name) is not True)
        for name, kind in types.items()
    )
