"""Annotations of ELAN, as its `Export as > Tab-delimited Text` writes them, with tabs or as CSV.

The class is the value of an annotation, whatever its tier. There are two forms, a row an annotation
or a column a tier (source: ELAN's manual, section Tab-delimited text file, and what its versions 4
to 6 write):

    tier  participant  00:00:01.200  1.2  00:00:04.700  4.7  00:00:03.500  3.5  value
    Begin Time - ss.msec  End Time - ss.msec  Duration - ss.msec  tier 1  tier 2

Times are read in any of the formats `hh:mm:ss.ms`, `ss.msec` and `msec`; without a header line
there must be `hh:mm:ss.ms`. The video is that of the line `"#file:///C:/a.mp4 -- offset: 0"`, or
of the column `File Name` or `File Path` (`a.eaf`), or else the one that is called like the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

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

_CLOCK = re.compile(r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)")
_MEDIA_LINE = re.compile(r"#(.+?)\s+--\s+offset:\s*-?\d+")
_BEGIN, _END = "begin time - ", "end time - "
_TIMES = (_BEGIN, _END, "duration - ")
_UNITS = {"hh:mm:ss.ms": 1.0, "ss.msec": 1.0, "msec": 1e-3}
"""Format of times -> seconds of its unit."""
_NAMES = ("file path", "file name")
_NO_VALUES = {"tier", "participant", "cv description", *_NAMES}
"""Names, in lower case, of columns that hold neither values nor times."""


def is_elan(file: Path) -> bool:
    """Whether a table has columns `Begin Time - ...`, or a row of no header a begin and an end."""
    rows, _ = _without_media(head_of_table(file))
    if not rows:
        return False
    first = rows[0][1]
    return any(name.lower().startswith(_BEGIN) for name in first) or len(_clocks(first)) >= 2


def is_of_elan(file: Path) -> bool:
    """Whether a file is ELAN's, readable or not: its own annotations, or columns that it names."""
    return file.suffix.lower() == ".eaf" or mentions(file, _TIMES, least=2)


def read_elan(path: Path) -> Annotations:
    """Read a folder of ELAN's exports, or one of them; classes as in `read_intervals`."""
    return labelled_intervals(path, *collect_lines(path, is_elan, _read_elan))


def _without_media(table: Table) -> tuple[Table, str]:
    """The rows after the lines that name the media files, and the first of these files."""
    named = [_MEDIA_LINE.match(cells[0]) for _, cells in table]
    media = next((unquote(match.group(1)) for match in named if match), "")
    rows = [row for row, match in zip(table, named, strict=True) if not match]
    return rows, media.removeprefix("file://")


def _clocks(cells: Sequence[str]) -> list[int]:
    """Places of the cells that are times on the clock."""
    return [place for place, cell in enumerate(cells) if _CLOCK.fullmatch(cell)]


def _read_elan(file: Path) -> Iterator[ListLine | Problem]:
    rows, media = _without_media(read_table(file))
    if not rows:
        return
    header = [name.lower() for name in rows[0][1]]
    if not any(name.startswith(_BEGIN) for name in header):
        for line, cells in rows:
            clocks = _clocks(cells)
            if len(clocks) < 2:
                remedy = "write tier, begin, end and value, times as hh:mm:ss.ms"
                yield malformed(f"{file}:{line}", " ".join(cells), remedy)
                continue
            begin, end = clocks[:2]
            value = clocks[-1] + end - begin  # every time is there in the same formats
            name = cells[value + 1] if value + 1 < len(cells) else ""
            label = cells[value] if value < len(cells) else ""
            yield from _lines(file, line, name or media, (cells[begin], cells[end], 1.0), [label])
        return
    formats = (unit for unit in _UNITS if {_BEGIN + unit, _END + unit} <= set(header))
    unit = next(formats, None)
    if unit is None:
        what = f"begin and end are in none of the formats {', '.join(_UNITS)} (frames are not read)"
        remedy = "The file is left out; export it with one of these formats."
        yield Problem("no times", f"{file}:{rows[0][0]}", what, remedy)
        return
    no_values = {name for name in header if name.startswith(_TIMES)} | _NO_VALUES
    values = [place for place, name in enumerate(header) if name not in no_values]
    for line, cells in rows[1:]:
        row = dict(zip(header, cells, strict=False))
        name = next((row[column] for column in _NAMES if row.get(column)), media)
        times = row[_BEGIN + unit], row.get(_END + unit, ""), _UNITS[unit]
        labels = [cells[place] for place in values if place < len(cells)]
        yield from _lines(file, line, name, times, labels)


def _lines(
    file: Path, line: int, name: str, times: tuple[str, str, float], labels: Sequence[str]
) -> Iterator[ListLine | Problem]:
    """One line for each label that is not empty: annotations of several tiers share their times.

    Args:
        file, line: of the row.
        name: of the video or the annotation file, "" where none is given.
        times: begin, end, and the seconds of their unit.
        labels: values of the tiers.
    """
    where, (begin, end, scale) = f"{file}:{line}", times
    video = re.sub(r"\.eaf$", "", name, flags=re.IGNORECASE) or file.stem
    try:
        interval = Interval(_seconds(begin) * scale, _seconds(end) * scale)
    except InputError as error:
        yield wrong_times(where, error)
        return
    except ValueError:
        yield malformed(where, f"times {begin!r} and {end!r}", "write hh:mm:ss.ms or a number")
        return
    for label in filter(None, labels):
        yield ListLine(where, video, listed_set(file.stem), label, interval=interval)


def _seconds(text: str) -> float:
    """`00:01:02.5` -> 62.5, `62.5` -> 62.5."""
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return float(text)
