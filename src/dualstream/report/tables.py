"""Tables of a report as rows of numbers, ready to be printed or drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dualstream.errors import InputError, check_least
from dualstream.scores import Accuracy, align, measure, per_class_accuracy, predicted_classes
from dualstream.types import Scores


@dataclass(frozen=True)
class HeadlineRow:
    """One stream, or the fusion, with its accuracy as fractions."""

    name: str
    accuracy: Accuracy
    interval: tuple[float, float]
    """95 % Wilson interval of the top-1 accuracy."""
    is_fused: bool


@dataclass(frozen=True)
class ClassRow:
    """One class: how many videos, and the share that each column of the report recognises."""

    name: str
    num_videos: int
    shares: tuple[float, ...]
    """One a stream and last the fusion where there is one."""
    gain: float | None
    """Fusion minus the best single stream of the whole report; None without a fusion."""


@dataclass(frozen=True)
class AgreementRow:
    """The videos on which the same streams are right."""

    right: tuple[bool, ...]
    """One a stream."""
    num_videos: int
    num_fused_right: int | None
    """How many of them the fusion gets right; None without a fusion."""


@dataclass(frozen=True)
class Comparison:
    """The fusion beside the best single stream."""

    best_stream: str
    gained: int
    """Videos that the fusion alone gets right."""
    lost: int
    """Videos that the best stream alone gets right."""
    p_value: float
    """Of McNemar's exact test: chance of so uneven a split if both were equally good."""


@dataclass(frozen=True, eq=False)
class Comparable:
    """Streams and their fusion, brought to the same videos in the same order."""

    names: tuple[str, ...]
    streams: tuple[Scores, ...]
    fused_name: str
    fused: Scores | None

    @property
    def columns(self) -> tuple[tuple[str, Scores], ...]:
        """Name and scores of each stream, last of the fusion where there is one."""
        columns = tuple(zip(self.names, self.streams, strict=True))
        return columns if self.fused is None else (*columns, (self.fused_name, self.fused))

    @property
    def best_stream(self) -> int:
        """Number of the single stream with the highest top-1 accuracy; of equals the first."""
        return int(np.argmax([measure(stream).top_1 for stream in self.streams]))

    @property
    def main(self) -> tuple[str, Scores]:
        """The fusion, or without one the best single stream."""
        if self.fused is not None:
            return self.fused_name, self.fused
        return self.names[self.best_stream], self.streams[self.best_stream]


def compare(
    streams: Mapping[str, Scores], fused: Scores | None = None, *, fused_name: str = "fused"
) -> Comparable:
    """Align streams and fusion for the tables below.

    Raises:
        InputError: there is no stream, or a stream has the name of the fusion.
        ScoresError: the videos, classes or labels do not fit together.
    """
    if not streams:
        raise InputError("A report needs at least one stream, got none.")
    if fused is not None and fused_name in streams:
        raise InputError(f"A stream cannot have the name of the fusion, {fused_name!r}.")
    aligned = align([*streams.values(), *([] if fused is None else [fused])])
    last = None if fused is None else aligned[-1]
    return Comparable(tuple(streams), aligned[: len(streams)], fused_name, last)


def headline(comparable: Comparable) -> tuple[HeadlineRow, ...]:
    """Return one row a stream, last the fusion."""
    rows = []
    for name, scores in comparable.columns:
        interval = wilson_interval(int(_is_right(scores).sum()), len(scores))
        rows.append(HeadlineRow(name, measure(scores), interval, scores is comparable.fused))
    return tuple(rows)


def class_rows(comparable: Comparable) -> tuple[ClassRow, ...]:
    """Return one row for each class that occurs, in class order."""
    columns = [per_class_accuracy(scores) for _, scores in comparable.columns]
    counts = np.bincount(comparable.streams[0].labels, minlength=len(comparable.streams[0].classes))
    best = comparable.best_stream
    return tuple(
        ClassRow(
            name=comparable.streams[0].classes[k],
            num_videos=int(counts[k]),
            shares=tuple(float(column[k]) for column in columns),
            gain=None if comparable.fused is None else float(columns[-1][k] - columns[best][k]),
        )
        for k in np.flatnonzero(counts)
    )


def agreement_rows(comparable: Comparable) -> tuple[AgreementRow, ...]:
    """Count the videos that each combination of streams gets right; most right streams first.

    Combinations without a video are left out.
    """
    right = np.stack([_is_right(stream) for stream in comparable.streams], axis=1)  # (N, S)
    fused_right = None if comparable.fused is None else _is_right(comparable.fused)
    rows = []
    for pattern in np.unique(right, axis=0):
        members = (right == pattern).all(axis=1)
        fused = None if fused_right is None else int(fused_right[members].sum())
        rows.append(AgreementRow(tuple(pattern.tolist()), int(members.sum()), fused))
    return tuple(sorted(rows, key=lambda row: (sum(row.right), row.right), reverse=True))


def fusion_gain(comparable: Comparable) -> Comparison | None:
    """Count videos gained and lost by the fusion against the best stream; None without one."""
    if comparable.fused is None:
        return None
    best = comparable.best_stream
    fused_right, stream_right = _is_right(comparable.fused), _is_right(comparable.streams[best])
    gained = int((fused_right & ~stream_right).sum())
    lost = int((stream_right & ~fused_right).sum())
    return Comparison(comparable.names[best], gained, lost, mcnemar_p_value(gained, lost))


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share from counts (Wilson 1927); within 0..1 for small counts.

    Raises:
        InputError: `right` is not in 0..total, or total is 0.
    """
    if not 0 <= right <= total or total == 0:
        raise InputError(f"Need 0 <= right <= total and total > 0, got {right} of {total}.")
    from scipy.stats import binomtest

    low, high = binomtest(right, total).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test.

    It is the chance that gained + lost coin throws split so unevenly or more.

    Raises:
        InputError: a count is negative.
    """
    check_least(0, gained=gained, lost=lost)
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _is_right(scores: Scores) -> np.ndarray:
    right: np.ndarray = predicted_classes(scores) == scores.labels
    return right
