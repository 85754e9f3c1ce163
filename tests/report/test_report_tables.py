"""Rows of a report against literal tables, and the two statistics against published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.errors import InputError, ScoresError
from dualstream.report.tables import (
    AgreementRow,
    ClassRow,
    Comparison,
    agreement_rows,
    class_rows,
    compare,
    fusion_gain,
    headline,
    mcnemar_p_value,
    wilson_interval,
)
from dualstream.types import Scores

LABELS = [0, 0, 0, 0, 1, 1]


def answering(answers: list[int], labels: list[int] = LABELS, names: str = "abcdef") -> Scores:
    """Scores of three classes (the last never occurs) whose best class is as given."""
    return Scores(
        tuple(names),
        np.array(labels, np.int64),
        np.eye(3, dtype=np.float32)[answers],
        ("run", "walk", "sit"),
        "probabilities",
    )


RGB = answering([0, 0, 1, 1, 1, 0])  # right on a b e
FLOW = answering([0, 1, 0, 2, 1, 1])  # right on a c e f
FUSED = answering([0, 0, 0, 1, 1, 1])  # right on all but d


def test_headline_has_a_row_for_each_and_the_fusion_last() -> None:
    rows = headline(compare({"rgb": RGB, "flow": FLOW}, FUSED, fused_name="both"))
    assert [(row.name, row.is_fused) for row in rows] == [
        ("rgb", False),
        ("flow", False),
        ("both", True),
    ]
    assert [row.accuracy.top_1 for row in rows] == pytest.approx([3 / 6, 4 / 6, 5 / 6])
    assert rows[2].accuracy.mean_class == pytest.approx((3 / 4 + 1) / 2)
    assert rows[0].interval == wilson_interval(3, 6)


def test_class_rows_leave_out_classes_without_a_video() -> None:
    # flow is the best single stream: the gain is fused minus flow.
    assert class_rows(compare({"rgb": RGB, "flow": FLOW}, FUSED)) == (
        ClassRow("run", 4, (0.5, 0.5, 0.75), 0.25),
        ClassRow("walk", 2, (0.5, 1.0, 1.0), 0.0),
    )
    assert class_rows(compare({"rgb": RGB})) == (
        ClassRow("run", 4, (0.5,), None),
        ClassRow("walk", 2, (0.5,), None),
    )


def test_agreement_of_the_streams() -> None:
    assert agreement_rows(compare({"rgb": RGB, "flow": FLOW}, FUSED)) == (
        AgreementRow((True, True), 2, 2),  # a e
        AgreementRow((True, False), 1, 1),  # b
        AgreementRow((False, True), 2, 2),  # c f
        AgreementRow((False, False), 1, 0),  # d
    )
    assert agreement_rows(compare({"rgb": RGB})) == (
        AgreementRow((True,), 3, None),
        AgreementRow((False,), 3, None),
    )


def test_gain_counts_videos_won_and_lost_against_the_best_stream() -> None:
    assert fusion_gain(compare({"rgb": RGB, "flow": FLOW}, FUSED)) == Comparison("flow", 1, 0, 1.0)
    assert fusion_gain(compare({"rgb": RGB, "flow": FLOW}, RGB)) == Comparison("flow", 1, 2, 1.0)
    assert fusion_gain(compare({"rgb": RGB})) is None


def test_main_is_the_fusion_or_else_the_best_stream() -> None:
    assert compare({"rgb": RGB, "flow": FLOW}, FUSED).main[0] == "fused"
    assert compare({"rgb": RGB, "flow": FLOW}).main[0] == "flow"


def test_streams_in_another_order_are_aligned() -> None:
    backwards = answering([1, 1, 2, 0, 1, 0], LABELS[::-1], "fedcba")
    assert agreement_rows(compare({"a": FLOW, "b": backwards})) == (
        AgreementRow((True, True), 4, None),
        AgreementRow((False, False), 2, None),
    )


def test_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="at least one stream"):
        compare({})
    with pytest.raises(InputError, match="name of the fusion"):
        compare({"fused": RGB}, FUSED)
    with pytest.raises(ScoresError, match="lacks"):
        compare({"rgb": RGB, "flow": answering([0], [0], "a")})
    with pytest.raises(ScoresError, match="label -1"):
        headline(compare({"rgb": answering([0], [-1], "a")}))


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_of_published_cases(
    right: int, total: int, low: float, high: float
) -> None:
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_holds_the_share(total: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, total))
    low, high = wilson_interval(right, total)
    assert 0 <= low <= right / total <= high <= 1
    mirrored = wilson_interval(total - right, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_statistics_refuse_impossible_counts() -> None:
    for right, total in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(InputError, match="0 <= right <= total"):
            wilson_interval(right, total)
    with pytest.raises(InputError, match="gained must be at least 0"):
        mcnemar_p_value(-1, 2)


def test_mcnemar_against_the_binomial_by_hand_and_scipy() -> None:
    assert mcnemar_p_value(0, 0) == 1.0
    assert mcnemar_p_value(3, 3) == 1.0
    assert mcnemar_p_value(5, 0) == 2 / 32
    assert mcnemar_p_value(1, 7) == pytest.approx(2 * (1 + 8) / 256)
    stats = pytest.importorskip("scipy.stats")
    for gained, lost in ((10, 3), (38, 9), (120, 80)):
        expected = stats.binomtest(gained, gained + lost, 0.5).pvalue
        assert mcnemar_p_value(gained, lost) == pytest.approx(expected)
    assert 0 <= mcnemar_p_value(3000, 1000) < 1e-100  # beyond the range of 2.0**4000
    assert math.isfinite(mcnemar_p_value(2000, 1990))
