"""Timelines: when which class is there, out of the probabilities of windows in time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, check_choice, check_shape
from dualstream.types import BACKGROUND as BACKGROUND
from dualstream.types import Labels

ENTER, LEAVE = 0.5, 0.3


class Thresholds(TypedDict, total=False):
    """Keyword arguments of `find_segments`."""

    enter: float
    """Probability, the highest of the window, at which a class comes in; .5 by default."""
    leave: float
    """Probability below which it goes again; .3 by default, and not above `enter`."""
    merge_seconds: float
    """Segments of one class with at most so much of nothing between them become one; 0."""
    least_seconds: float
    """Shorter segments go; 0."""


@dataclass(frozen=True, order=True)
class Segment:
    """A stretch of a video in which one class is there."""

    start_seconds: float
    end_seconds: float
    label: str
    confidence: float = 1.0
    """Mean probability of the class over the windows of the segment."""

    def __post_init__(self) -> None:
        if not self.end_seconds > self.start_seconds:
            raise InputError(
                f"Segment {self.label!r} must end after it starts, got {self.start_seconds:g} to "
                f"{self.end_seconds:g} s."
            )

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end_seconds - self.start_seconds


@dataclass(frozen=True)
class Totals:
    """What the segments of one class come to."""

    count: int
    seconds: float
    first_seconds: float
    """Where the first one starts."""
    longest_seconds: float


def find_segments(
    window_seconds: NDArray[np.float64],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    *,
    labels: Labels = "one",
    **thresholds: Unpack[Thresholds],
) -> tuple[Segment, ...]:
    """Join the windows of a video to segments of one class each.

    A class comes in where its probability is the highest and at least `enter`, and stays while it
    is at least `leave` (hysteresis), unless another one comes in. Then segments of one class that
    lie near each other become one, and short ones go. `BACKGROUND` counts as nothing. Where
    several classes may be there at once, each comes and goes by itself.

    Args:
        window_seconds: (M, 2) start and end of each window, rising; windows that overlap share
            their common part half and half.
        probabilities: (M, K).
        classes: K names.
        labels: what the probabilities are of: "several" are independent of each other.
        thresholds: see `Thresholds`.

    Returns:
        Segments in their order; none overlaps another of its class, nor of any with "one".

    Raises:
        UnknownNameError: `labels` is neither.
        InputError: see `check_thresholds`.
        ShapeError: tables of other shapes.
    """
    enter, leave, merge_seconds, least_seconds = check_thresholds(**thresholds)
    check_shape("window_seconds", window_seconds, ("M", 2))
    check_shape("probabilities", probabilities, (len(window_seconds), len(classes)))
    edges = _without_overlap(window_seconds)
    states = Presence(classes, labels=labels, enter=enter, leave=leave)
    present = [states.step(row) for row in probabilities]
    # Of one class a video all are one track, in which the next class ends the one before.
    tracks = [range(len(classes))] if labels == "one" else [(n,) for n in range(len(classes))]
    merged: list[Segment] = []
    for track in tracks:
        held = [next((label for label in now if label in track), -1) for now in present]
        merged += _merged(_runs(held, edges, probabilities, classes), merge_seconds)
    return tuple(sorted(s for s in merged if s.seconds >= least_seconds))


def _runs(
    held: Sequence[int],
    edges: NDArray[np.float64],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
) -> list[Segment]:
    """Segments of the windows that follow each other and have one class, -1 for none."""
    runs: list[tuple[int, int, int]] = []  # class, first and last window
    for window, label in enumerate(held):
        if label < 0:
            continue
        joins = runs and runs[-1][0] == label and runs[-1][2] == window - 1
        if joins and edges[window - 1, 1] >= edges[window, 0]:
            runs[-1] = (label, runs[-1][1], window)
        else:
            runs.append((label, window, window))
    return [
        Segment(
            float(edges[first, 0]),
            float(edges[last, 1]),
            classes[label],
            float(np.mean(probabilities[first : last + 1, label])),
        )
        for label, first, last in runs
    ]


def check_thresholds(**thresholds: Unpack[Thresholds]) -> tuple[float, float, float, float]:
    """Return `enter`, `leave`, `merge_seconds` and `least_seconds`, defaults for what is missing.

    `leave` is at most `enter` where only that is given.

    Raises:
        InputError: `leave` above `enter`, either out of 0..1, or seconds below 0.
    """
    enter = thresholds.get("enter", ENTER)
    leave = thresholds.get("leave", min(LEAVE, enter))
    merge, least = thresholds.get("merge_seconds", 0.0), thresholds.get("least_seconds", 0.0)
    if not 0 <= leave <= enter <= 1:
        raise InputError(f"0 <= leave <= enter <= 1 must hold, got {leave:g} and {enter:g}.")
    if not (merge >= 0 and least >= 0):
        raise InputError(
            f"merge_seconds and least_seconds must be at least 0, got {merge:g} and {least:g}."
        )
    return enter, leave, merge, least


class Hysteresis:
    """Which class is there, window by window.

    Args:
        classes: K names. `BACKGROUND` counts as nothing.
        enter: probability at which a class comes in, if it is the highest.
        leave: probability below which it goes.
    """

    def __init__(self, classes: Sequence[str], *, enter: float, leave: float) -> None:
        self._classes = classes
        self._enter, self._leave = enter, leave
        self._current = -1

    def step(self, probabilities: NDArray[np.floating]) -> int:
        """Return the number of the class in the next window (K,), -1 for nothing."""
        best = int(probabilities.argmax())
        if probabilities[best] >= self._enter:
            self._current = best
        elif self._current >= 0 and probabilities[self._current] < self._leave:
            self._current = -1
        is_nothing = self._current >= 0 and self._classes[self._current] == BACKGROUND
        return -1 if is_nothing else self._current


class Presence:
    """Which classes are there, window by window: one at most, or several, each by itself.

    Args:
        classes: as of `Hysteresis`.
        enter: as of `Hysteresis`.
        leave: as of `Hysteresis`.
        labels: what the probabilities are of: "several" are independent of each other.
    """

    def __init__(
        self, classes: Sequence[str], *, labels: Labels, enter: float, leave: float
    ) -> None:
        check_choice("labels", labels, Labels)
        groups = [classes] if labels == "one" else [[name] for name in classes]
        self._states = [Hysteresis(group, enter=enter, leave=leave) for group in groups]

    def step(self, probabilities: NDArray[np.floating]) -> tuple[int, ...]:
        """Return the numbers of the classes in the next window (K,), rising."""
        if len(self._states) == 1:
            label = self._states[0].step(probabilities)
            return (label,) if label >= 0 else ()
        pairs = enumerate(self._states)
        return tuple(n for n, state in pairs if state.step(probabilities[n : n + 1]) >= 0)


def _without_overlap(window_seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The windows cut in the middle of what two neighbours share."""
    edges = np.array(window_seconds, np.float64)
    shared = edges[1:, 0] < edges[:-1, 1]
    middles = (window_seconds[1:, 0] + window_seconds[:-1, 1]) / 2
    edges[1:, 0] = np.where(shared, middles, edges[1:, 0])
    edges[:-1, 1] = np.where(shared, middles, edges[:-1, 1])
    return edges


def _merged(segments: Sequence[Segment], merge_seconds: float) -> list[Segment]:
    merged: list[Segment] = []
    for segment in segments:
        before = merged[-1] if merged else None
        if (
            before is not None
            and before.label == segment.label
            and segment.start_seconds - before.end_seconds <= merge_seconds
        ):
            weighted = before.confidence * before.seconds + segment.confidence * segment.seconds
            merged[-1] = replace(
                before,
                end_seconds=segment.end_seconds,
                confidence=weighted / (before.seconds + segment.seconds),
            )
        else:
            merged.append(segment)
    return merged


def totals(segments: Sequence[Segment]) -> dict[str, Totals]:
    """Count, seconds, first and longest segment of each class, the longest in all first."""
    by_label: dict[str, list[Segment]] = defaultdict(list)
    for segment in segments:
        by_label[segment.label].append(segment)
    found = {
        label: Totals(
            len(of_label),
            sum(segment.seconds for segment in of_label),
            min(segment.start_seconds for segment in of_label),
            max(segment.seconds for segment in of_label),
        )
        for label, of_label in by_label.items()
    }
    return dict(sorted(found.items(), key=lambda item: (-item[1].seconds, item[0])))
