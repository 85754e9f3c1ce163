"""What marks say of windows, and which windows belong together."""

from __future__ import annotations

import numpy as np
import pytest

from dualstream.engine.teach.marks import Mark
from dualstream.engine.teach.samples import label_windows
from dualstream.engine.teach.steps import StepFeatures, joined, windows_of
from dualstream.types import BACKGROUND

SECONDS = np.array([(i, i + 2) for i in range(6)], np.float64)
"""Windows of 2 s, one a second, of 7 s."""


def rows_of(targets: np.ndarray, known: np.ndarray, classes: list[str]) -> list[str]:
    """Labels of each window, "?" where unknown."""
    return [
        "?" if not sure else "+".join(c for c, has in zip(classes, row, strict=True) if has)
        for row, sure in zip(targets, known, strict=True)
    ]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 2, ["a", "?", "?", "?", "?", "?"]),  # 1..3 is half covered
        (0, 4, ["a", "a", "a", "?", "?", "?"]),
        (0.5, 3.5, ["a", "a", "a", "?", "?", "?"]),
        (1.1, 1.4, ["a", "?", "?", "?", "?", "?"]),  # shorter than half a window: in its middle
        (1.6, 1.9, ["?", "a", "?", "?", "?", "?"]),
        (6.5, 7, ["?", "?", "?", "?", "?", "a"]),
    ],
)
def test_a_mark_labels_the_windows_that_it_covers_most_of(
    start: float, end: float, expected: list[str]
) -> None:
    marks = [Mark("v", start, end, "a")]
    targets, known, chosen = label_windows(
        SECONDS, marks, ["a", "b"], labels="one", is_reviewed=False
    )
    assert rows_of(targets, known, ["a", "b"]) == expected
    assert chosen[0].tolist() == [i for i, name in enumerate(expected) if name == "a"]


def test_unmarked_time_of_a_reviewed_video_is_background() -> None:
    classes = ["a", BACKGROUND]
    marks = [Mark("v", 0, 2.5, "a")]
    targets, known, _ = label_windows(SECONDS, marks, classes, labels="one", is_reviewed=True)
    found = rows_of(targets, known, classes)
    assert found == ["a", "a", "?", BACKGROUND, BACKGROUND, BACKGROUND]


def test_marks_of_two_labels_next_to_each_other() -> None:
    marks = [Mark("v", 0, 3, "a"), Mark("v", 3, 3.4, "b"), Mark("v", 3.4, 7, "a")]
    targets, known, chosen = label_windows(
        SECONDS, marks, ["a", "b"], labels="one", is_reviewed=False
    )
    # The short b has no window of its own but the one that it covers most, or as much as others.
    assert rows_of(targets, known, ["a", "b"]) == ["a", "a", "b", "a", "a", "a"]
    assert [windows.tolist() for windows in chosen] == [[0, 1], [2], [3, 4, 5]]


def test_several_labels_share_windows() -> None:
    marks = [Mark("v", 0, 4, "a"), Mark("v", 2, 7, "b"), Mark("v", 0, 2, BACKGROUND)]
    targets, known, _ = label_windows(
        SECONDS, marks[:2], ["a", "b"], labels="several", is_reviewed=False
    )
    assert rows_of(targets, known, ["a", "b"]) == ["a", "a", "a+b", "b", "b", "b"]
    targets, known, _ = label_windows(
        SECONDS, marks[2:], ["a", "b"], labels="several", is_reviewed=False
    )
    assert rows_of(targets, known, ["a", "b"]) == ["", "?", "?", "?", "?", "?"]


def test_windows_are_means_of_their_steps() -> None:
    parts = [
        StepFeatures(
            np.array([(i, i + 1)], np.float64),
            {
                "rgb": np.array([[i, 10 * i]], np.float32),
                "hof": np.array([[1, 3 + 4 * i]], np.float32),
            },
        )
        for i in range(3)
    ]
    windows = windows_of(joined(parts), count=2)
    np.testing.assert_array_equal(windows.seconds, [(0, 2), (1, 3)])
    np.testing.assert_allclose(windows.blocks["rgb"], [(0.5, 5), (1.5, 15)])
    # Histograms: means (1, 5) and (1, 9), as square roots of shares.
    expected = np.sqrt([(1 / 6, 5 / 6), (1 / 10, 9 / 10)])
    np.testing.assert_allclose(windows.blocks["hof"], expected, rtol=1e-6)
    one = windows_of(joined(parts), count=9)
    np.testing.assert_array_equal(one.seconds, [(0, 3)])
