"""From what the lists say of a video to the rows of the manifest: intervals placed and cut."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dualstream.clips.data.annotations.entries import Problem, Side
from dualstream.clips.data.checks import VideoFacts
from dualstream.clips.data.intervals import Interval, cut_overlaps
from dualstream.clips.data.video_files import ListedVideo

CUT_SLACK_SECONDS = 1.0
"""A file at most so much longer than its interval holds the interval only."""
END_SLACK_SECONDS = 0.1
"""An interval that ends at most so long after its video is not told: times are rounded."""


@dataclass(frozen=True)
class Row:
    """A video, or an interval of it, that becomes a row of the manifest."""

    interval: Interval | None
    labels: tuple[int, ...]
    """Rising."""
    sides: tuple[Side, ...]
    """One a split."""


def rows_of_video(
    listed: Mapping[Interval | None, ListedVideo],
    facts: VideoFacts,
    problems: list[Problem],
    *,
    path: str,
    num_splits: int,
    may_have_several: bool,
) -> list[Row]:
    """Return the rows of one video file, by their start, and add what is wrong to `problems`.

    Args:
        listed: what the lists say of the file; of all of it or of intervals.
        facts: about the file.
        problems: get the intervals that lie outside, and files that are in train and test.
        path: the file, for messages.
        num_splits: sides of each row.
        may_have_several: cut where intervals of several classes overlap (`cut_overlaps`).
    """
    rows: list[Row] = []
    by_sides: dict[tuple[Side, ...], list[tuple[Interval, int]]] = defaultdict(list)
    duration = _duration(facts)
    is_whole_only = all(interval is None for interval in listed)
    first: dict[Interval | None, ListedVideo] = {}
    for interval, video in listed.items():
        place = interval
        if interval is not None and not (video.may_be_cut and _is_cut(interval, duration)):
            place = _inside(interval, facts, problems, video.origin)
            if place is None:
                continue
        elif interval is not None:
            place = None
        sides = tuple(video.sides.get(split + 1, ("", ""))[0] for split in range(num_splits))
        if may_have_several and not is_whole_only:
            whole = Interval(0, duration) if place is None else place
            by_sides[sides] += [(whole, label) for label in video.labels]
        elif (other := first.setdefault(place, video)) is not video:
            what = f"{path} stands in {other.origin} already, and is no longer than its interval"
            problems.append(Problem("listed twice", video.origin, what, "Only that one is used."))
        else:
            rows.append(Row(place, tuple(sorted(video.labels)), sides))
    for sides, intervals in by_sides.items():
        rows += [Row(p.interval, p.labels, sides) for p in cut_overlaps(intervals)]
    problems += _on_both_sides(rows, path, num_splits)
    return sorted(rows, key=lambda row: (row.interval or Interval(0, duration), row.sides))


def _duration(facts: VideoFacts) -> float:
    """Seconds of a video, to the microsecond as in intervals."""
    return round(facts.frames / facts.fps, 6)


def _is_cut(interval: Interval, duration_seconds: float) -> bool:
    """Whether a file is too short to hold more than its interval."""
    return duration_seconds <= interval.seconds + CUT_SLACK_SECONDS


def _inside(
    interval: Interval, facts: VideoFacts, problems: list[Problem], origin: str
) -> Interval | None:
    """The part of an interval that is inside its video, None where there is none."""
    duration = _duration(facts)
    start, end = interval.start_seconds, interval.end_seconds
    is_outside, length = start >= duration, f"the video, which is {duration:.2f} s long"
    if is_outside or end > duration + END_SLACK_SECONDS:
        what = f"{interval} {'lies outside' if is_outside else 'ends after'} {length}"
        used = "The line is left out" if is_outside else "It is used up to the end of the video"
        remedy = f"{used}; correct its times."
        if start.is_integer() and end.is_integer() and end <= facts.frames:
            what += f" and has {facts.frames} frames: these seem to be numbers of frames"
            remedy = f"{used}; divide by {facts.fps:g}, times are read in seconds."
        problems.append(Problem("outside the video", origin, what, remedy))
    return None if is_outside else Interval(start, min(end, duration))


def _on_both_sides(rows: list[Row], path: str, num_splits: int) -> list[Problem]:
    """A problem for each split that has intervals of one file in train and in test."""
    found = []
    for split in range(num_splits):
        sides = Counter(row.sides[split] for row in rows)
        if sides["train"] and sides["test"]:
            what = f"split {split + 1}: {sides['train']} of its intervals are in train, "
            what += f"{sides['test']} in test"
            remedy = "They are kept as listed; pieces of one video look alike: give it one side."
            found.append(Problem("intervals in train and test", path, what, remedy))
    return found
