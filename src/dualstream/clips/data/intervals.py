"""Intervals: pieces of long videos, what they are called, and how overlapping ones are cut."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dualstream.errors import InputError

_FRAGMENT = re.compile(r"#t=[0-9.]+,[0-9.]+$")

SHORTEST_PIECE_SECONDS = 0.1
"""What overlapping intervals are cut into and is shorter, is left out: nobody scores by hand so
exactly that two classes are there at once for so short a time."""


@dataclass(frozen=True, order=True)
class Interval:
    """A piece of a video, from its start up to its end; both in seconds from the first frame."""

    start_seconds: float
    end_seconds: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_seconds) and math.isfinite(self.end_seconds)):
            raise InputError(f"start and end must be numbers of seconds, got {self}.")
        # Microseconds, so that the name of an interval says it exactly.
        object.__setattr__(self, "start_seconds", round(float(self.start_seconds), 6))
        object.__setattr__(self, "end_seconds", round(float(self.end_seconds), 6))
        if self.start_seconds < 0:
            raise InputError(f"start must be at least 0 seconds, got {self}.")
        if not self.end_seconds > self.start_seconds:
            raise InputError(f"end must be after start, got {self}.")

    @classmethod
    def parse(cls, start: str, end: str) -> Interval:
        """Read two numbers of seconds.

        Raises:
            InputError: they are no numbers, the start is below 0, or the end is not after it.
        """
        try:
            return cls(float(start), float(end))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            found = f"{start!r} and {end!r}"
            raise InputError(f"start and end must be numbers of seconds, got {found}.") from None

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end_seconds - self.start_seconds

    def name_in(self, path: str) -> str:
        """Name of the interval of a video: `a.mp4#t=84,94.5`.

        Source:
            Media Fragments URI 1.0 (W3C 2012), section 4.2.1.
        """
        return f"{path}#t={seconds_text(self.start_seconds)},{seconds_text(self.end_seconds)}"

    def overlaps(self, other: Interval) -> bool:
        """Whether some time is in both."""
        return self.start_seconds < other.end_seconds and other.start_seconds < self.end_seconds

    def __str__(self) -> str:
        return f"{seconds_text(self.start_seconds)} to {seconds_text(self.end_seconds)} s"


def seconds_text(seconds: float) -> str:
    """Return a number of seconds as it stands in files and names: 84.0 -> `84`, .04 -> `0.04`."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def video_of(name: str) -> str:
    """Return the video that a name is of: `a.mp4#t=84,94` -> `a.mp4`, `a.mp4` -> `a.mp4`."""
    return _FRAGMENT.sub("", name)


@dataclass(frozen=True)
class Piece:
    """An interval and all classes that are there in it."""

    interval: Interval
    labels: tuple[int, ...]
    """Rising, at least one."""


def cut_overlaps(intervals: Sequence[tuple[Interval, int]]) -> list[Piece]:
    """Cut intervals of one video where those of several classes overlap.

    Each piece then has all its classes: class 0 from 0 to 10 s and class 1 from 5 to 15 s are class
    0 up to 5 s, both up to 10 s, class 1 up to 15 s. What overlaps with its own class only stays
    as it is. Pieces shorter than `SHORTEST_PIECE_SECONDS` go.

    Args:
        intervals: (interval, label) of each.

    Returns:
        By their start; the very same interval of the same class comes once.
    """
    pieces: list[Piece] = []
    for cluster in _clusters(intervals):
        if len({label for _, label in cluster}) == 1:
            pieces += [Piece(interval, (label,)) for interval, label in cluster]
        else:
            found = _cut(cluster)
            pieces += [p for p in found if p.interval.seconds >= SHORTEST_PIECE_SECONDS]
    return pieces


def _clusters(intervals: Sequence[tuple[Interval, int]]) -> list[list[tuple[Interval, int]]]:
    """The intervals that hang together by overlapping, by their start."""
    clusters: list[list[tuple[Interval, int]]] = []
    end = -math.inf
    for interval, label in sorted(set(intervals)):
        if interval.start_seconds < end:
            clusters[-1].append((interval, label))
        else:
            clusters.append([(interval, label)])
        end = max(end, interval.end_seconds)
    return clusters


def _cut(cluster: Sequence[tuple[Interval, int]]) -> list[Piece]:
    """The pieces of intervals that hang together; neighbours of the same classes are one."""
    edges = sorted({e for i, _ in cluster for e in (i.start_seconds, i.end_seconds)})
    pieces: list[Piece] = []
    for start, end in pairwise(edges):
        labels = {n for i, n in cluster if i.start_seconds <= start < i.end_seconds}
        if pieces and pieces[-1].labels == tuple(sorted(labels)):
            start = pieces.pop().interval.start_seconds
        pieces.append(Piece(Interval(start, end), tuple(sorted(labels))))
    return pieces
