"""Marks: what somebody says is there from when to when, and how marks are joined and erased."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dualstream.clips.data.annotations.entries import is_class_name, label_finder
from dualstream.clips.data.intervals import SHORTEST_PIECE_SECONDS, Interval, seconds_text
from dualstream.clips.data.rows import END_SLACK_SECONDS
from dualstream.errors import AnnotationError, InputError
from dualstream.files import read_csv

COLUMNS = ("path", "start_seconds", "end_seconds", "label")
"""Of the file of marks, which is a table of intervals as `dualstream prepare` reads them."""


@dataclass(frozen=True, order=True)
class Mark:
    """An interval of a video of the project in which an action is there."""

    video: str
    """Name of the video in the project."""
    start_seconds: float
    """From the first frame, as `end_seconds`."""
    end_seconds: float
    label: str

    def __post_init__(self) -> None:
        interval = Interval(self.start_seconds, self.end_seconds)  # checks and rounds
        object.__setattr__(self, "start_seconds", interval.start_seconds)
        object.__setattr__(self, "end_seconds", interval.end_seconds)
        if not is_class_name(self.label):
            raise InputError(
                f"label {self.label!r} must be one line of text without blanks around it."
            )

    @property
    def interval(self) -> Interval:
        """Its times."""
        return Interval(self.start_seconds, self.end_seconds)

    def __str__(self) -> str:
        return f"{self.video} {self.interval} {self.label!r}"

    def entry(self) -> dict[str, str | float]:
        """The mark as JSON has it."""
        return {
            "video": self.video,
            "start": self.start_seconds,
            "end": self.end_seconds,
            "label": self.label,
        }


def fitted(mark: Mark, *, duration_seconds: float) -> Mark:
    """Return a mark that ends with its video where it ends a moment later.

    Raises:
        InputError: it begins after the end of the video, or ends later than `END_SLACK_SECONDS`
            after it.
    """
    long = f"{mark.video}, which is {duration_seconds:.2f} s long"
    if mark.start_seconds >= duration_seconds:
        raise InputError(f"{mark.interval} lies outside {long}. Correct the times.")
    if mark.end_seconds > duration_seconds + END_SLACK_SECONDS:
        raise InputError(
            f"{mark.interval} leaves {long}. Let it end at {seconds_text(duration_seconds)} s."
        )
    return replace(mark, end_seconds=min(mark.end_seconds, duration_seconds))


def known_label(label: str, marks: Iterable[Mark], *further: str) -> str:
    """Return a label in the spelling that is used already: `Air drumming` for `air_drumming`."""
    spellings = (*dict.fromkeys([*(mark.label for mark in marks), *further]),)
    found = label_finder(spellings)(label)
    return label if found is None else spellings[found]


def with_mark(
    marks: Sequence[Mark], new: Mark, *, may_overlap: bool, replaces: bool = False
) -> tuple[tuple[Mark, ...], Mark]:
    """Return the marks with a new one, and what it has become.

    It is joined with marks of its label that it overlaps or touches: 0 to 4 s and 3 to 6 s are 0 to
    6 s.

    Args:
        marks: of all videos.
        new: to be added.
        may_overlap: whether marks of other labels may share time with it.
        replaces: erase the other labels in that time first.

    Raises:
        InputError: it overlaps a mark of another label, and neither is allowed.
    """
    if replaces:
        for label in {m.label for m in marks if m.video == new.video} - {new.label}:
            marks, _ = without(marks, new.video, new.interval, label=label)
    kept: list[Mark] = []
    for mark in marks:
        is_near = mark.video == new.video and (
            mark.start_seconds <= new.end_seconds and new.start_seconds <= mark.end_seconds
        )
        if is_near and mark.label == new.label:
            start = min(mark.start_seconds, new.start_seconds)
            new = replace(
                new, start_seconds=start, end_seconds=max(mark.end_seconds, new.end_seconds)
            )
            continue
        kept.append(mark)
    clash = next(
        (m for m in kept if m.video == new.video and m.interval.overlaps(new.interval)), None
    )
    if clash is not None and not may_overlap:
        raise InputError(
            f"{new} overlaps {clash.interval} {clash.label!r}. Replace the part that is shared "
            "(--replace), correct the times, or let this project have several labels at once "
            "(`dualstream teach set FOLDER --labels several`)."
        )
    return tuple(sorted((*kept, new))), new


def without(
    marks: Sequence[Mark], video: str, interval: Interval, *, label: str | None = None
) -> tuple[tuple[Mark, ...], int]:
    """Return the marks with a stretch of a video erased, and how many of them it has touched.

    A mark that reaches beyond the stretch keeps the rest; rests shorter than
    `SHORTEST_PIECE_SECONDS` go.

    Args:
        marks: of all videos.
        video: whose marks are erased.
        interval: the stretch.
        label: the only one that is erased; None erases all.
    """
    kept: list[Mark] = []
    touched = 0
    for mark in marks:
        is_meant = mark.video == video and label in (None, mark.label)
        if not (is_meant and mark.interval.overlaps(interval)):
            kept.append(mark)
            continue
        touched += 1
        for start, end in (
            (mark.start_seconds, interval.start_seconds),
            (interval.end_seconds, mark.end_seconds),
        ):
            if end - start >= SHORTEST_PIECE_SECONDS:
                kept.append(replace(mark, start_seconds=start, end_seconds=end))
    return tuple(sorted(kept)), touched


def marks_text(marks: Iterable[Mark]) -> str:
    """Return the file of marks."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for mark in sorted(marks):
        times = map(seconds_text, (mark.start_seconds, mark.end_seconds))
        writer.writerow([mark.video, *times, mark.label])
    return text.getvalue()


def read_marks(file: Path) -> tuple[Mark, ...]:
    """Read the file of marks; none where there is no file.

    Raises:
        AnnotationError: it has other columns, or a row that is no mark; names the line.
    """
    if not file.is_file():
        return ()
    rows = read_csv(file, error=AnnotationError)
    _, header = next(rows, (1, list(COLUMNS)))
    if tuple(name.strip() for name in header) != COLUMNS:
        raise AnnotationError(
            f"{file}:1: found {','.join(header)}. The columns must be {','.join(COLUMNS)}."
        )
    marks = []
    for line, cells in rows:
        try:
            if len(cells) != len(COLUMNS):
                raise InputError(f"{len(cells)} cells, where there must be {len(COLUMNS)}.")
            video, start, end, label = (cell.strip() for cell in cells)
            interval = Interval.parse(start, end)
            marks.append(Mark(video, interval.start_seconds, interval.end_seconds, label))
        except InputError as error:
            raise AnnotationError(f"{file}:{line}: {error}") from None
    return tuple(sorted(marks))
