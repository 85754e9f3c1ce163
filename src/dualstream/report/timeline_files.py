"""Files of timelines: tables, subtitles for players, projects of behaviour software."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from dualstream.errors import InputError
from dualstream.files import write_text
from dualstream.report.boris import boris_project
from dualstream.scores.timeline import Segment

COLUMNS = ("source", "label", "start_seconds", "end_seconds", "confidence")


def check_timeline_file(path: str | os.PathLike[str], *, num_videos: int = 1) -> None:
    """Raise InputError unless `write_timeline` can write so many videos to a file of this name."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".json", ".srt", ".boris"):
        raise InputError(
            f"{path}: a timeline is a .csv, .json, .srt or .boris file; give such a name."
        )
    if suffix == ".srt" and num_videos != 1:
        raise InputError(
            f"{path}: subtitles are of one video, here are {num_videos}. Write a .csv, .json or "
            ".boris."
        )


def write_timeline(
    path: str | os.PathLike[str],
    timelines: Mapping[str, Sequence[Segment]],
    *,
    classes: Sequence[str] = (),
) -> Path:
    """Write the segments of videos, whole or not at all.

    Args:
        path: a .csv (a row a segment), a .json (`{source: [{label, start, end, confidence}]}`),
            the .srt of one video, or a .boris project (see `boris_project`).
        timelines: video -> segments.
        classes: all that may be there, for a project's ethogram; () leaves those that are.

    Raises:
        InputError: another suffix, subtitles of several videos, or what a project cannot hold.
        VideoError: a video of a project cannot be opened.
        DiskError: the file cannot be written.
    """
    check_timeline_file(path, num_videos=len(timelines))
    forms: dict[str, Callable[[Mapping[str, Sequence[Segment]]], str]] = {
        ".csv": _as_csv,
        ".json": _as_json,
        ".srt": _as_srt,
        ".boris": partial(boris_project, path, classes=classes),
    }
    write_text(path, forms[Path(path).suffix.lower()](timelines))
    return Path(path)


def segment_entry(segment: Segment) -> dict[str, str | float]:
    """A segment as JSON has it: label, start, end in seconds, confidence."""
    return {
        "label": segment.label,
        "start": round(segment.start_seconds, 3),
        "end": round(segment.end_seconds, 3),
        "confidence": round(segment.confidence, 6),
    }


def _as_csv(timelines: Mapping[str, Sequence[Segment]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for source, segments in timelines.items():
        for segment in segments:
            row = {name: _rounded(value) for name, value in asdict(segment).items()}
            writer.writerow({"source": source, **row})
    return text.getvalue()


def _rounded(value: str | float) -> str | float:
    return value if isinstance(value, str) else round(value, 3)


def _as_json(timelines: Mapping[str, Sequence[Segment]]) -> str:
    entries = {source: [segment_entry(s) for s in found] for source, found in timelines.items()}
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def _as_srt(timelines: Mapping[str, Sequence[Segment]]) -> str:
    (segments,) = timelines.values()
    return "".join(
        f"{number}\n{_clock(segment.start_seconds)} --> {_clock(segment.end_seconds)}\n"
        f"{segment.label} {100 * segment.confidence:.0f}%\n\n"
        for number, segment in enumerate(segments, start=1)
    )


def _clock(seconds: float) -> str:
    """Subtitles' form of a time: 3661.5 s are 01:01:01,500."""
    millis = round(1000 * seconds)
    return (
        f"{millis // 3_600_000:02}:{millis // 60_000 % 60:02}:{millis // 1000 % 60:02},"
        f"{millis % 1000:03}"
    )
