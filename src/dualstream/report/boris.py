"""Timelines as a project of BORIS, the event-logging software of people who score behaviour.

A project file is JSON. Its format is version 7.0, which BORIS reads and writes since its version 7
and still in 9.12.3; what is here follows the source of that one.

    behaviors_conf   ethogram: number -> {type, key, code, description, category, ...}
    observations     name -> {file, events, media_info, ...}, one for each video
    events           [seconds, subject, code, modifier, comment, frame], rising in time

A class is a state event: of its events, taken in their order, the first is the start of a
segment, the second its end, the third the start of the next one, and so on.

Source:
    Friard & Gamba 2016, BORIS: a free, versatile open-source event-logging software for
    video/audio coding and live observations; github.com/olivierfriard/BORIS, version 9.12.3,
    `config.py` (names and version), `observation_operations.py` (an observation of a media file),
    `project_functions.py` (opening and checking a project).
"""

from __future__ import annotations

import datetime
import json
import os
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from dualstream.errors import InputError
from dualstream.scores.timeline import BACKGROUND, Segment
from dualstream.video import probe
from dualstream.video.container import is_url

FORMAT_VERSION = "7.0"
"""`project_format_version` of the files."""

NUM_PLAYERS = 8
"""Videos side by side in an observation; ours stand in the first player."""

TICK_SECONDS = 0.001
"""BORIS keeps times in milliseconds."""

KEYS = string.ascii_lowercase + string.digits


def boris_project(
    path: str | os.PathLike[str],
    timelines: Mapping[str, Sequence[Segment]],
    *,
    classes: Sequence[str] = (),
) -> str:
    """Return the text of a project with an observation for each video.

    Times are those that players show, which begin with the file: a stream whose clock starts
    later (MPEG-TS) is moved to 0. Videos in the folder of the project, or below it, are named
    relative to it, so that the folder can be moved as a whole; others by their whole path.

    Args:
        path: name that the project file will have.
        timelines: video file -> segments; those of one class must not overlap.
        classes: names for the ethogram, besides those of the segments. The first 36 get a key.

    Raises:
        InputError: segments of one class overlap, or two classes have one name in BORIS.
        VideoError: a video cannot be opened.
    """
    found = [segment.label for segments in timelines.values() for segment in segments]
    names = [name for name in dict.fromkeys((*classes, *sorted(found))) if name != BACKGROUND]
    codes = _codes(names)
    now = datetime.datetime.now().replace(microsecond=0).isoformat()
    times_named = Counter(Path(source).name for source in timelines)
    observations = {
        Path(source).name if times_named[Path(source).name] == 1 else source: _observation(
            source, segments, codes, folder=Path(path).parent, date=now
        )
        for source, segments in timelines.items()
    }
    project = {
        "time_format": "hh:mm:ss",
        "project_date": now,
        "project_name": Path(path).stem,
        "project_description": "Segments found by dualstream; their confidence is in the comments.",
        "project_format_version": FORMAT_VERSION,
        "subjects_conf": {},
        "behaviors_conf": {
            str(number): _behaviour(code, key)
            for number, (code, key) in enumerate(
                zip_longest(codes.values(), KEYS[: len(codes)], fillvalue="")
            )
        },
        "observations": observations,
        "behavioral_categories": [],
        "behavioral_categories_config": {},
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    # Letters other than ASCII are escaped: BORIS opens files in the system's own encoding.
    return json.dumps(project, indent=1) + "\n"


def _codes(names: Sequence[str]) -> dict[str, str]:
    """Class -> code of its behaviour: BORIS allows no bar in it, nor spaces around it."""
    codes = {name: name.replace("|", "/").strip() for name in names}
    clashes = [code for code, count in Counter(codes.values()).items() if count > 1]
    if clashes:
        same = [name for name, code in codes.items() if code == clashes[0]]
        raise InputError(
            f"In a BORIS project the classes {same} have the same name, {clashes[0]!r}. Rename one."
        )
    return codes


def _behaviour(code: str, key: str) -> dict[str, Any]:
    """A row of the ethogram."""
    return {
        "type": "State event",
        "key": key,
        "code": code,
        "description": "",
        "color": "",
        "category": "",
        "modifiers": {},
        "excluded": "",
        "coding map": "",
    }


def _observation(
    source: str, segments: Sequence[Segment], codes: Mapping[str, str], *, folder: Path, date: str
) -> dict[str, Any]:
    """One video with its events."""
    info = probe(source)
    media = _media_path(source, folder)
    events = _events(segments, codes, source=source)
    length = info.duration_seconds_from_header or max((event[0] for event in events), default=0.0)
    players = {str(player): [media] if player == 1 else [] for player in range(1, NUM_PLAYERS + 1)}
    return {
        "file": players,
        "type": "MEDIA",
        "date": date,
        "description": "",
        "time offset": 0.0,
        "events": events,
        "observation time interval": [0, 0],
        "independent_variables": {},
        "visualize_spectrogram": False,
        "visualize_waveform": False,
        "media_creation_date_as_offset": False,
        "media_scan_sampling_duration": 0,
        "image_display_duration": 1,
        "close_behaviors_between_videos": False,
        "media_info": {
            "length": {media: round(length, 3)},
            "fps": {media: round(info.fps, 3)},
            "hasVideo": {media: True},
            "hasAudio": {media: info.has_audio},
            "offset": {"1": 0.0},
            "display": {media: "Nothing"},
        },
    }


def _media_path(source: str, folder: Path) -> str:
    if is_url(source):
        return source
    video, home = Path(source).absolute(), folder.absolute()
    return video.relative_to(home).as_posix() if video.is_relative_to(home) else str(video)


def _events(
    segments: Sequence[Segment], codes: Mapping[str, str], *, source: str
) -> list[list[Any]]:
    """Start and end of each segment, in the order of their times."""
    ordered = sorted(segments)
    for label in {segment.label for segment in ordered}:
        for before, after in pairwise(s for s in ordered if s.label == label):
            if after.start_seconds < before.end_seconds:
                raise InputError(
                    f"{source}: two segments of {label!r} overlap at {after.start_seconds:g} s; "
                    "BORIS tells starts from ends by their order. Join them first."
                )
    events: list[list[Any]] = []
    for segment in ordered:
        code = codes[segment.label]
        start = round(max(0.0, segment.start_seconds), 3)
        end = max(start + TICK_SECONDS, segment.end_seconds)
        comment = f"confidence {segment.confidence:.3f}"
        events.append([start, "", code, "", comment, "NA"])
        events.append([round(end, 3), "", code, "", "", "NA"])
    return sorted(events, key=lambda event: event[0])
