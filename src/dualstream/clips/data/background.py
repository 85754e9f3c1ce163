"""Background: intervals in which nothing is labelled, drawn as a class of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np

from dualstream.clips.data.intervals import Interval
from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.errors import AnnotationError, InputError, check_least
from dualstream.types import BACKGROUND


def add_background(manifest: Manifest, *, share: float, seed: int = 0) -> Manifest:
    """Add intervals without a label as the class `BACKGROUND`, so that a model can say so.

    They lie where no interval of the manifest does, in videos that have labelled intervals, and
    overlap nothing. A video gets its share of them, as far as it has room; its rest goes to those
    after it. Their lengths are drawn from those of the labelled intervals, so that the length tells
    nothing, and are cut to the longest gap of a video. Where all intervals of a video are on one
    side of a split, its background is too; else the split leaves it out. What is drawn for a video
    depends on the manifest and the seed only.

    Args:
        manifest: with intervals; `BACKGROUND` may be among its classes already, and then the
            drawn ones join those that somebody scored.
        share: intervals drawn for each labelled one, above 0: 40 labelled ones and 0.5 give 20.
        seed: another one draws others.

    Raises:
        InputError: `share` is not above 0.
        AnnotationError: the manifest has no labelled interval, or no gap is as long as its shortest
            interval.
    """
    check_least(0, seed=seed)
    if not 0 < share < float("inf"):
        raise InputError(f"The share of background must be above 0, got {share:g}.")
    classes = manifest.classes
    classes += (BACKGROUND,) * (BACKGROUND not in classes)
    label = classes.index(BACKGROUND)
    by_file: dict[str, list[VideoRecord]] = defaultdict(list)
    for record in manifest.records:
        by_file[record.path].append(record)
    lengths = sorted(
        r.interval.seconds for r in manifest.records if r.interval and _is_labelled(r, label)
    )
    if not lengths:
        raise AnnotationError(
            f"{manifest.root}: background is drawn between labelled intervals, and the manifest "
            "has none. Give --splits with start and end of each."
        )
    wanted = drawn = 0.0
    records: list[VideoRecord] = []
    for path, of_file in by_file.items():
        wanted += share * sum(_is_labelled(record, label) for record in of_file)
        gaps = _gaps(of_file, shortest=lengths[0])
        digest = sha256(path.encode("utf-8")).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
        found: list[Interval] = []
        while drawn + len(found) + 0.5 <= wanted and gaps:
            found.append(_draw(gaps, lengths, rng))
            gaps = _without(gaps, found[-1], shortest=lengths[0])
        drawn += len(found)
        records += _merged(of_file, found, label)
    if not drawn:
        raise AnnotationError(
            f"{manifest.root}: no video has {lengths[0]:g} s without a labelled interval, the "
            "length of the shortest one: there is no background to draw."
        )
    return replace(manifest, records=tuple(records), classes=classes)


def _is_labelled(record: VideoRecord, background: int) -> bool:
    """Whether a row is an interval of something else than background."""
    return record.interval is not None and record.labels != (background,)


def _gaps(records: Sequence[VideoRecord], *, shortest: float) -> list[Interval]:
    """What of one video no row has, by start; nothing where a row is all of it."""
    if any(record.interval is None for record in records):
        return []
    gaps = [Interval(0, records[0].frames / records[0].fps)]
    for record in records:
        assert record.interval is not None
        gaps = _without(gaps, record.interval, shortest=shortest)
    return gaps


def _without(gaps: Sequence[Interval], taken: Interval, *, shortest: float) -> list[Interval]:
    """The gaps, by start, without an interval; parts below a length go."""
    left: list[Interval] = []
    for gap in gaps:
        parts = [(gap.start_seconds, gap.end_seconds)]
        if gap.overlaps(taken):
            parts = [
                (gap.start_seconds, taken.start_seconds),
                (taken.end_seconds, gap.end_seconds),
            ]
        left += [Interval(a, b) for a, b in parts if b - a >= max(shortest, 1e-3)]
    return left


def _draw(gaps: Sequence[Interval], lengths: Sequence[float], rng: np.random.Generator) -> Interval:
    """An interval inside one of the gaps, every place where it fits as likely as every other."""
    length = min(float(rng.choice(lengths)), max(gap.seconds for gap in gaps))
    fitting = [gap for gap in gaps if gap.seconds >= length]
    rooms = np.array([gap.seconds - length for gap in fitting])
    place = float(rng.uniform(0, rooms.sum()))
    number = min(int(np.searchsorted(np.cumsum(rooms), place)), len(fitting) - 1)
    gap, before = fitting[number], float(rooms[:number].sum())
    start = gap.start_seconds + min(place - before, float(rooms[number]))
    return Interval(start, min(start + length, gap.end_seconds))


def _merged(
    records: Sequence[VideoRecord], found: Sequence[Interval], label: int
) -> list[VideoRecord]:
    """The rows of one video and its background, by start where there is any."""
    sides = [set(column) for column in zip(*(record.splits for record in records), strict=True)]
    splits = tuple(next(iter(side)) if len(side) == 1 else "" for side in sides)
    new = [
        replace(records[0], label=label, more_labels=(), splits=splits, interval=interval)
        for interval in found
    ]
    if not new:
        return list(records)
    return sorted((*records, *new), key=lambda record: record.interval or found[0])
