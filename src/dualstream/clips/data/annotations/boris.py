"""Events that were scored with BORIS, as its `Export events` writes them in CSV or TSV.

Aggregated events have a row an event, tabular events one for its start and one for its stop; the
columns beside these differ between versions (source: BORIS's user guide, chapter Export events, and
the columns that its versions 4 to 9 write):

    Observation id,...,Media file name,...,Subject,Behavior,...,Behavior type,Start (s),Stop (s),...
    Time,Media file path,Total length,FPS,Subject,Behavior,...,Status

The class is the behaviour, whoever shows it. Point events last no time and are left out. Times are
those of the observation: the offset that an observation gives its times is taken off, and a second
media file played after the first is told, as its times count on from the first one's end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dualstream.clips.data.annotations.entries import (
    Annotations,
    ListLine,
    Problem,
    collect_lines,
    listed_set,
    malformed,
)
from dualstream.clips.data.annotations.interval_tables import (
    Table,
    head_of_table,
    labelled_intervals,
    mentions,
    read_table,
    wrong_times,
)
from dualstream.clips.data.intervals import Interval
from dualstream.errors import InputError

_MEDIA = ("media file name", "media file path", "media file", "source")
"""Columns that name the video, in lower case; the first that a table has is read."""
_COLUMNS = ("observation id", "media file", "behavior", "start (s)", "stop (s)")
"""Words, in lower case, of which the header of an export has two or more."""


def is_boris(file: Path) -> bool:
    """Whether a table has the columns of BORIS's aggregated or tabular events."""
    return _header(head_of_table(file)) is not None


def is_of_boris(file: Path) -> bool:
    """Whether a file is BORIS's, readable or not: its own project, or columns that it names."""
    return file.suffix.lower() == ".boris" or mentions(file, _COLUMNS, least=2)


def read_boris(path: Path) -> Annotations:
    """Read a folder of BORIS's exports, or one of them; classes as in `read_intervals`."""
    return labelled_intervals(path, *collect_lines(path, is_boris, _read_boris))


def _header(table: Table) -> int | None:
    """Number of the row that names the columns."""
    for place, (_, cells) in enumerate(table):
        names = {name.lower() for name in cells}
        is_paired = {"start (s)", "stop (s)"} <= names
        if "behavior" in names and (is_paired or {"time", "subject"} <= names):
            return place
    return None


_Event = tuple[int, dict[str, str], str, str]
"""Line, cells by column, start and end."""


def _read_boris(file: Path) -> Iterator[ListLine | Problem]:
    table = read_table(file)
    header = _header(table)
    if header is None:
        what = (
            "there are no columns Behavior, Start (s) and Stop (s), or Time, Subject and Behavior"
        )
        yield Problem("no times", str(file), what, "The file is left out.")
        return
    names = [name.lower() for name in table[header][1]]
    rows = [(line, dict(zip(names, cells, strict=False))) for line, cells in table[header + 1 :]]
    above = {cells[0].lower(): cells[1] for _, cells in table[:header] if len(cells) > 1}
    if not any(name in names for name in _MEDIA):
        what = f"no column names the media file (looked for {', '.join(_MEDIA)})"
        yield Problem("no times", f"{file}:{table[header][0]}", what, "The file is left out.")
        return
    events: Iterable[_Event | Problem] = (
        _paired(rows, file)
        if "time" in names
        else [(line, row, row.get("start (s)", ""), row.get("stop (s)", "")) for line, row in rows]
    )
    first_media: dict[str, str] = {}
    points = 0
    for event in events:
        if isinstance(event, Problem):
            yield event
        elif event[2] == event[3] and event[2]:
            points += 1
        else:
            offset = event[1].get("time offset (s)") or above.get("time offset (s)") or "0"
            yield _line(file, event, offset=offset, first_media=first_media)
    if points:
        what, remedy = f"{points} events are points in time, not intervals", "They are left out."
        yield Problem("no times", str(file), what, remedy)


def _line(
    file: Path, event: _Event, *, offset: str, first_media: dict[str, str]
) -> ListLine | Problem:
    """The line of one event.

    Args:
        file, event: where it stands.
        offset: seconds that its observation adds to the times of its videos.
        first_media: observation -> its first media file, as far as it is known.
    """
    line, row, start, end = event
    where, media, behavior = f"{file}:{line}", _media_of(row), row.get("behavior", "")
    if not media or not behavior:
        return malformed(where, ",".join(row.values()), "name its media file and behavior")
    observation = row.get("observation id", "")
    if media != first_media.setdefault(observation, media):
        what = f"{media!r} is a further media file of observation {observation!r}"
        remedy = "The line is left out; score each video in an observation of its own."
        return Problem("wrong times", where, f"{what}, whose times count on", remedy)
    try:
        interval = Interval(float(start) - float(offset), float(end) - float(offset))
    except InputError as error:
        return wrong_times(where, error)
    except ValueError:
        return malformed(where, f"times {start!r} and {end!r}", "write numbers of seconds")
    return ListLine(where, media, listed_set(file.stem), behavior, interval=interval)


def _paired(rows: Sequence[tuple[int, dict[str, str]]], file: Path) -> Iterator[_Event | Problem]:
    """Starts and stops of tabular events, joined by observation, subject and behaviour."""
    open_events: dict[tuple[str, ...], tuple[int, dict[str, str]]] = {}
    for line, row in rows:
        key = tuple(row.get(name, "") for name in ("observation id", "subject", "behavior"))
        status = row.get("status", row.get("behavior type", "")).upper()
        if status == "POINT":
            yield line, row, row["time"], row["time"]
        elif status == "START" and key not in open_events:
            open_events[key] = line, row
        elif status == "STOP" and key in open_events:
            first, begun = open_events.pop(key)
            yield first, begun, begun["time"], row["time"]
        else:
            remedy = "write START and STOP in turn, or POINT"
            yield malformed(f"{file}:{line}", f"status {status!r} of {key[-1]!r}", remedy)
    for line, row in open_events.values():
        what = f"{row['behavior']!r} starts here and never stops"
        yield Problem("wrong times", f"{file}:{line}", what, "The line is left out; add its stop.")


def _media_of(row: Mapping[str, str]) -> str:
    """The media file: `player #1:v/a.mp4` -> `v/a.mp4`, and the first of several."""
    cell = next((row[name] for name in _MEDIA if row.get(name)), "")
    return re.sub(r"^player #?\d+:\s*", "", re.split(r"[|;]", cell)[0], flags=re.IGNORECASE)
