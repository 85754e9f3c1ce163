"""How near timelines come to the truth, over time and segment by segment."""

from __future__ import annotations

from math import isnan

import pytest

from dualstream.errors import InputError
from dualstream.scores.timeline import BACKGROUND, Segment
from dualstream.scores.timeline_metrics import (
    PrecisionRecall,
    frame_accuracy,
    mean_average_precision,
    overlap,
    precision_recall,
    segment_f1,
)


def test_frame_accuracy_counts_time() -> None:
    truth = [Segment(0, 4, "run"), Segment(6, 8, "sit")]
    assert frame_accuracy(truth, truth, duration_seconds=10) == 1
    assert frame_accuracy([], truth, duration_seconds=10) == pytest.approx(0.4)
    found = [Segment(1, 5, "run"), Segment(6, 7, "sit"), Segment(7, 8, "run")]
    # Wrong are 0 to 1, 4 to 5 and 7 to 8.
    assert frame_accuracy(found, truth, duration_seconds=10) == pytest.approx(0.7)


TRUTH = {"v": [Segment(0, 4, "run")], "w": [Segment(0, 2, "sit")]}
FOUND = {"v": [Segment(3, 8, "run")], "w": [Segment(1, 2, "sit")]}
LENGTHS = {"v": 10.0, "w": 4.0}


def test_precision_and_recall_of_none_of_these_count_time() -> None:
    def nothing(found: dict[str, list[Segment]]) -> PrecisionRecall:
        return precision_recall(found, TRUTH, duration_seconds=LENGTHS)

    assert nothing(TRUTH) == PrecisionRecall(1, 1)
    # v: found 0 to 3 and 8 to 10, there 4 to 10; w: found 0 to 1 and 2 to 4, there 2 to 4.
    assert nothing(FOUND) == PrecisionRecall(precision=(2 + 2) / 8, recall=(2 + 2) / 8)
    assert nothing({}) == PrecisionRecall(precision=8 / 14, recall=1)
    # A segment of the background itself is none, and what leaves the video does not count.
    spoken = {"v": [Segment(0, 4, "run"), Segment(4, 12, BACKGROUND)], "w": TRUTH["w"]}
    assert nothing(spoken) == PrecisionRecall(1, 1)


def test_precision_and_recall_of_a_class() -> None:
    run = precision_recall(FOUND, TRUTH, duration_seconds=LENGTHS, label="run")
    assert run == PrecisionRecall(precision=1 / 5, recall=1 / 4)
    # Classes that are there at once are judged each by itself.
    both = {"v": [*TRUTH["v"], Segment(0, 10, "sit")]}
    of_v = {"v": 10.0}
    assert precision_recall(both, both, duration_seconds=of_v, label="run") == PrecisionRecall(1, 1)


def test_what_is_never_found_has_no_precision_and_what_is_never_there_no_recall() -> None:
    jump = precision_recall(FOUND, TRUTH, duration_seconds=LENGTHS, label="jump")
    assert isnan(jump.precision)
    assert isnan(jump.recall)
    everywhere = {"v": [Segment(0, 10, "run")]}
    none = precision_recall(everywhere, everywhere, duration_seconds={"v": 10.0})
    assert isnan(none.precision)
    assert isnan(none.recall)
    with pytest.raises(InputError, match="duration_seconds must be above 0, got 0"):
        precision_recall(FOUND, TRUTH, duration_seconds={"v": 0.0})


def test_overlap() -> None:
    assert overlap(Segment(0, 4, "a"), Segment(2, 6, "a")) == pytest.approx(2 / 6)
    assert overlap(Segment(0, 1, "a"), Segment(1, 2, "a")) == 0


def test_f1_of_segments() -> None:
    truth = {"v": [Segment(0, 10, "run"), Segment(20, 30, "sit")], "w": [Segment(0, 5, "run")]}
    assert segment_f1(truth, truth, iou=1) == 1
    assert segment_f1({}, truth, iou=0.5) == 0
    assert segment_f1({"v": ()}, {"v": ()}, iou=0.5) == 1
    found = {
        # Half of the first; the whole of it again, which is taken; the second under another name.
        "v": [Segment(0, 5, "run"), Segment(0, 10, "run"), Segment(20, 30, "run")],
        "w": [Segment(0, 4, "run")],
    }
    assert segment_f1(found, truth, iou=0.5) == pytest.approx(2 * 2 / (4 + 3))
    # At .75 the half does not take it.
    assert segment_f1(found, truth, iou=0.75) == pytest.approx(2 * 2 / (4 + 3))
    assert segment_f1(found, truth, iou=0.9) == pytest.approx(2 * 1 / (4 + 3))
    with pytest.raises(InputError, match="iou must be above 0"):
        segment_f1(found, truth, iou=0)


def test_mean_average_precision() -> None:
    truth = {"v": [Segment(0, 10, "run"), Segment(20, 30, "run")], "w": [Segment(0, 5, "sit")]}
    found = {
        "v": [
            Segment(0, 10, "run", 0.9),  # right
            Segment(40, 50, "run", 0.8),  # wrong
            Segment(21, 30, "run", 0.7),  # right
        ],
        "w": [Segment(0, 5, "run", 0.6), Segment(0, 5, "sit", 0.5)],
    }
    # run: recall 1/2 at precision 1, 1 at 2/3; sit: 1.
    expected = ((0.5 + 0.5 * 2 / 3) + 1) / 2
    assert mean_average_precision(found, truth, iou=0.5) == pytest.approx(expected)
    assert mean_average_precision({}, truth, iou=0.5) == 0
    with pytest.raises(InputError, match="no true segment"):
        mean_average_precision(found, {"v": []}, iou=0.5)


def test_where_the_best_partner_is_taken_average_precision_tries_the_next() -> None:
    truth = {"v": [Segment(0, 10, "run"), Segment(8, 20, "run")]}
    found = {"v": [Segment(0, 10, "run", 0.9), Segment(3, 13, "run", 0.8)]}
    assert mean_average_precision(found, truth, iou=0.2) == 1
    assert segment_f1(found, truth, iou=0.2) == pytest.approx(2 / 4)
