"""How near timelines come to the truth: over time, and segment by segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dualstream.errors import InputError
from dualstream.scores.timeline import Segment
from dualstream.types import BACKGROUND


@dataclass(frozen=True)
class PrecisionRecall:
    """How much of what is found is right, and how much of what is right is found; fractions."""

    precision: float
    """NaN where nothing is found."""
    recall: float
    """NaN where there is nothing to find."""


def frame_accuracy(
    found: Sequence[Segment], truth: Sequence[Segment], *, duration_seconds: float
) -> float:
    """Part of a video's time in which the class, or that there is none, is the true one.

    Args:
        found: segments without overlap.
        truth: segments without overlap.
        duration_seconds: of the video, above 0.
    """
    right = sum(
        end - start
        for start, end in _stretches(found, truth, duration_seconds=duration_seconds)
        if _label_at(found, (start + end) / 2) == _label_at(truth, (start + end) / 2)
    )
    return right / duration_seconds


def precision_recall(
    found: Mapping[str, Sequence[Segment]],
    truth: Mapping[str, Sequence[Segment]],
    *,
    duration_seconds: Mapping[str, float],
    label: str = BACKGROUND,
) -> PrecisionRecall:
    """Precision and recall of one class over the time of all videos.

    `BACKGROUND` is there where no segment is, so that it need not be among the segments.

    Args:
        found: video -> segments. One that is missing has none.
        truth: the same of what is right.
        duration_seconds: video -> its length, above 0; these videos count.
        label: the class.

    Worked example: of a video of 10 s, 0 to 4 s are a run, and 3 to 8 s are found as one. None of
    these is found for 5 s, 2 of them wrong, and is there for 6 s: precision 3/5, recall 3/6.
    """
    given = wanted = right = 0.0
    for video, seconds in duration_seconds.items():
        both = found.get(video, ()), truth.get(video, ())
        for start, end in _stretches(*both, duration_seconds=seconds):
            is_found, is_true = (_is_there(label, one, (start + end) / 2) for one in both)
            given += is_found * (end - start)
            wanted += is_true * (end - start)
            right += (is_found and is_true) * (end - start)
    return PrecisionRecall(
        right / given if given else float("nan"), right / wanted if wanted else float("nan")
    )


def _is_there(label: str, segments: Sequence[Segment], seconds: float) -> bool:
    inside = {s.label for s in segments if s.start_seconds <= seconds < s.end_seconds}
    return label in inside if label != BACKGROUND else not inside - {BACKGROUND}


def _stretches(
    found: Sequence[Segment], truth: Sequence[Segment], *, duration_seconds: float
) -> list[tuple[float, float]]:
    """Start and end of each stretch of a video in which no segment starts or ends.

    Raises:
        InputError: the duration is not above 0.
    """
    if not duration_seconds > 0:
        raise InputError(f"duration_seconds must be above 0, got {duration_seconds:g}.")
    edges = {0.0, duration_seconds}
    for segment in (*found, *truth):
        edges |= {segment.start_seconds, segment.end_seconds}
    return list(pairwise(sorted(edge for edge in edges if 0 <= edge <= duration_seconds)))


def _label_at(segments: Sequence[Segment], seconds: float) -> str | None:
    inside = (s.label for s in segments if s.start_seconds <= seconds < s.end_seconds)
    return next(inside, None)


def overlap(one: Segment, other: Segment) -> float:
    """Intersection over union of two stretches of time."""
    shared = min(one.end_seconds, other.end_seconds) - max(one.start_seconds, other.start_seconds)
    if shared <= 0:
        return 0.0
    return shared / (one.seconds + other.seconds - shared)


def segment_f1(
    found: Mapping[str, Sequence[Segment]], truth: Mapping[str, Sequence[Segment]], *, iou: float
) -> float:
    """F1 of segments, of which one is right where it overlaps a true one of its class enough.

    A true segment is found once; a second one whose best partner it is is wrong.

    Args:
        found: video -> segments. Videos without any count in neither.
        truth: the same of what is right.
        iou: least intersection over union, above 0 up to 1.

    Returns:
        2 TP / (2 TP + FP + FN) over all videos; 1 where there is nothing and nothing is found.

    Source:
        Lea et al. 2017, Temporal Convolutional Networks for Action Segmentation and Detection,
        section 4.2 (F1@k).
    """
    _check_iou(iou)
    right = sum(
        sum(_matches(found.get(video, ()), true, iou, next_best=False))
        for video, true in truth.items()
    )
    given = sum(len(segments) for segments in found.values())
    wanted = sum(len(segments) for segments in truth.values())
    return 2 * right / (given + wanted) if given + wanted else 1.0


def mean_average_precision(
    found: Mapping[str, Sequence[Segment]], truth: Mapping[str, Sequence[Segment]], *, iou: float
) -> float:
    """Mean over the true classes of the average precision of segments, the surest first.

    Args:
        found: video -> segments.
        truth: the same of what is right.
        iou: least intersection over union, above 0 up to 1.

    Returns:
        0..1; the precision at each rank is the best at it or any later one.

    Raises:
        InputError: there is no true segment.

    Source:
        ActivityNet's evaluation (Caba Heilbron et al. 2015) with Pascal VOC's interpolation.
    """
    _check_iou(iou)
    classes = sorted({segment.label for segments in truth.values() for segment in segments})
    if not classes:
        raise InputError("There is no true segment to measure against.")
    return float(np.mean([_average_precision(found, truth, label, iou) for label in classes]))


def _average_precision(
    found: Mapping[str, Sequence[Segment]],
    truth: Mapping[str, Sequence[Segment]],
    label: str,
    iou: float,
) -> float:
    ranked: list[tuple[float, bool]] = []
    for video, segments in found.items():
        of_label = sorted(
            (s for s in segments if s.label == label), key=lambda s: s.confidence, reverse=True
        )
        right = _matches(of_label, truth.get(video, ()), iou, next_best=True)
        ranked += [(s.confidence, hit) for s, hit in zip(of_label, right, strict=True)]
    wanted = sum(s.label == label for segments in truth.values() for s in segments)
    ranked.sort(key=lambda pair: -pair[0])
    hits = np.cumsum([hit for _, hit in ranked], dtype=np.float64)
    if not len(hits):
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    best_later = np.maximum.accumulate(precision[::-1])[::-1]
    recall_steps = np.diff(np.concatenate(([0.0], hits))) / wanted
    return float((best_later * recall_steps).sum())


def _matches(
    found: Sequence[Segment], truth: Sequence[Segment], iou: float, *, next_best: bool
) -> list[bool]:
    """Whether each segment takes a true one of its class that none before it has taken.

    Args:
        next_best: where the one that it overlaps most is taken, try the next.
    """
    taken: set[int] = set()
    right = []
    for segment in found:
        partners = sorted(
            (place for place, true in enumerate(truth) if true.label == segment.label),
            key=lambda place: -overlap(segment, truth[place]),
        )
        tried = partners if next_best else partners[:1]
        free = [p for p in tried if p not in taken and overlap(segment, truth[p]) >= iou]
        taken |= set(free[:1])
        right.append(bool(free))
    return right


def _check_iou(iou: float) -> None:
    if not 0 < iou <= 1:
        raise InputError(f"iou must be above 0 and at most 1, got {iou:g}.")
