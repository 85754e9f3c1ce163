"""Segments out of windows: hysteresis, merging, totals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dualstream.errors import InputError, ShapeError
from dualstream.scores.timeline import (
    BACKGROUND,
    Segment,
    Thresholds,
    Totals,
    find_segments,
    totals,
)

CLASSES = ("run", "sit", BACKGROUND)


def windows(count: int, *, length: float = 1.0, step: float = 1.0) -> np.ndarray:
    starts = step * np.arange(count)
    return np.stack((starts, starts + length), axis=1)


def table(*rows: tuple[float, float]) -> np.ndarray:
    """Probabilities of run and sit; the rest is none of these."""
    return np.array([(run, sit, 1 - run - sit) for run, sit in rows])


def found_in(probabilities: np.ndarray, **thresholds: float) -> list[tuple[str, float, float]]:
    segments = find_segments(windows(len(probabilities)), probabilities, CLASSES, **thresholds)
    return [(s.label, s.start_seconds, s.end_seconds) for s in segments]


def test_a_class_stays_while_it_is_above_the_lower_threshold() -> None:
    rows = ((0.4, 0.3), (0.6, 0.2), (0.35, 0.33), (0.45, 0.3), (0.2, 0.35), (0.4, 0.3))
    probabilities = table(*rows)
    assert found_in(probabilities) == [("run", 1, 4)]
    assert found_in(probabilities, leave=0.5) == [("run", 1, 2)]
    assert found_in(probabilities, enter=0.4) == [("run", 0, 4), ("run", 5, 6)]


def test_another_class_comes_in_at_once() -> None:
    probabilities = table((0.6, 0.1), (0.45, 0.5), (0.4, 0.4), (0.1, 0.1))
    assert found_in(probabilities, leave=0.4) == [("run", 0, 1), ("sit", 1, 3)]


def test_background_ends_a_segment_and_makes_none() -> None:
    # In the second window none of these is the likeliest, though run is above `leave`.
    assert found_in(table((0.6, 0), (0.35, 0), (0.6, 0))) == [("run", 0, 1), ("run", 2, 3)]
    assert found_in(table((0.1, 0.1), (0, 0))) == []


def test_merging_comes_before_dropping() -> None:
    probabilities = table((0.9, 0), (0, 0), (0.6, 0), (0, 0), (0, 0), (0, 0.9))
    assert found_in(probabilities, least_seconds=2) == []
    assert found_in(probabilities, merge_seconds=1, least_seconds=2) == [("run", 0, 3)]
    merged = find_segments(windows(6), probabilities, CLASSES, merge_seconds=1)
    assert merged[0].confidence == pytest.approx(0.75)  # of the windows of run
    assert [s.label for s in merged] == ["run", "sit"]


def test_windows_that_overlap_share_what_they_have_in_common() -> None:
    probabilities = table((0.9, 0), (0.9, 0), (0, 0.9))
    segments = find_segments(windows(3, length=4, step=2), probabilities, CLASSES)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in segments] == [
        ("run", 0, 5),
        ("sit", 5, 8),
    ]


def test_a_gap_in_the_video_ends_a_segment() -> None:
    apart = np.array([[0.0, 1], [5, 6]])
    segments = find_segments(apart, table((0.9, 0), (0.9, 0)), CLASSES)
    assert [(s.start_seconds, s.end_seconds) for s in segments] == [(0, 1), (5, 6)]


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 12), st.just(3)), elements=st.floats(0, 1)),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 3),
)
def test_segments_are_in_order_inside_the_video_and_long_enough(
    probabilities: np.ndarray, one: float, other: float, seconds: float
) -> None:
    thresholds: Thresholds = {
        "enter": max(one, other),
        "leave": min(one, other),
        "merge_seconds": seconds,
        "least_seconds": seconds,
    }
    segments = find_segments(windows(len(probabilities)), probabilities, CLASSES, **thresholds)
    edges = [edge for s in segments for edge in (s.start_seconds, s.end_seconds)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(probabilities) for edge in edges)
    assert all(s.seconds >= seconds and s.label != BACKGROUND for s in segments)
    assert sum(of.seconds for of in totals(segments).values()) <= len(probabilities) + 1e-9


def test_totals() -> None:
    segments = [Segment(0, 2, "run"), Segment(3, 8, "sit"), Segment(9, 10, "run")]
    assert totals(segments) == {"sit": Totals(1, 5, 3, 5), "run": Totals(2, 3, 0, 2)}
    assert list(totals(segments)) == ["sit", "run"]


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"enter": 0.2, "leave": 0.3}, "leave <= enter"),
        ({"enter": 1.2}, "enter <= 1"),
        ({"leave": float("nan")}, "leave <= enter"),
        ({"merge_seconds": -1}, "at least 0"),
        ({"least_seconds": float("nan")}, "at least 0"),
    ],
)
def test_thresholds_out_of_range(thresholds: Thresholds, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_segments(windows(1), table((1, 0)), CLASSES, **thresholds)


def test_a_low_threshold_brings_the_lower_one_down() -> None:
    rows = np.array([(0.2, 0.1), (0.15, 0.1)])
    (segment,) = find_segments(windows(2), rows, ("run", "sit"), enter=0.18)
    assert (segment.start_seconds, segment.end_seconds) == (0, 1)


def test_tables_of_other_shapes() -> None:
    with pytest.raises(ShapeError, match="probabilities"):
        find_segments(windows(2), table((1, 0)), CLASSES)
    with pytest.raises(InputError, match="must end after it starts"):
        Segment(2, 2, "run")
