"""Scores of videos that have several classes: measured, joined, kept in files, cut to segments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualstream.errors import ScoresError, UnknownNameError
from dualstream.scores import (
    align,
    average_precisions,
    average_views,
    find_segments,
    fit_fusion,
    fuse,
    measure,
    measure_several,
    only_common,
    read_scores,
    write_scores,
)
from dualstream.scores.timeline import Presence
from dualstream.types import Scores

TRUTH = [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0]]
TABLE = [[0.9, 0.2, 0.1, 0.5], [0.8, 0.1, 0.4, 0.5], [0.7, 0.3, 0.6, 0.5], [0.1, 0.9, 0.2, 0.5]]


def scores(*, order: tuple[int, ...] = (0, 1, 2, 3)) -> Scores:
    truth = np.array(TRUTH, bool)
    whole = Scores(
        tuple("abcd"),
        truth.argmax(axis=1).astype(np.int64),
        np.array(TABLE, np.float32),
        ("w", "x", "y", "z"),
        "probabilities",
        truth,
    )
    return whole.rows(order)


def test_average_precision_by_hand() -> None:
    found = average_precisions(scores())
    # w: a and c at ranks 1 and 3. x: a and b at ranks 3 and 4. y: c and d at ranks 1 and 3.
    np.testing.assert_allclose(
        found, [(1 + 2 / 3) / 2, (1 / 3 + 2 / 4) / 2, (1 + 2 / 3) / 2, np.nan]
    )
    accuracy = measure_several(scores())
    assert accuracy.num_videos == 4
    assert accuracy.mean_ap == pytest.approx((5 / 6 + 5 / 12 + 5 / 6) / 3)
    assert accuracy.hit_1 == 0.5  # a: w; b: w, wrong; c: w; d: x, wrong
    assert list(accuracy.as_dict()) == ["map", "hit1"]


def test_what_is_measured_on_one_class_is_refused() -> None:
    with pytest.raises(ScoresError, match="several classes each"):
        measure(scores())
    one = scores()
    plain = Scores(one.names, one.labels, one.scores, one.classes, one.kind)
    with pytest.raises(ScoresError, match="no video of which all classes are known"):
        measure_several(plain)


def test_truth_is_kept(tmp_path: Path) -> None:
    write_scores(tmp_path / "a.npz", scores())
    read = read_scores(tmp_path / "a.npz")
    assert read.truth is not None
    np.testing.assert_array_equal(read.truth, np.array(TRUTH, bool))
    other = scores(order=(3, 1, 0, 2))
    _, aligned = align([scores(), other])
    np.testing.assert_array_equal(aligned.truth, np.array(TRUTH, bool))
    (common, _) = only_common([other, scores(order=(0, 3))])
    assert common.names == ("d", "a")
    np.testing.assert_array_equal(common.truth, np.array(TRUTH, bool)[[3, 0]])


def test_only_means_join_independent_probabilities() -> None:
    joined = fuse([scores(), scores(order=(3, 2, 1, 0))], weights=[1, 3])
    np.testing.assert_allclose(joined.scores, TABLE, atol=1e-6)
    assert measure_several(joined) == measure_several(scores())
    held_out = replace(scores(), names=tuple("efgh"))
    for method in ("max", "svm", "weighted"):
        with pytest.raises(ScoresError, match=f"with given weights, not by '{method}'"):
            fuse([scores(), scores()], method=method, fit_on=[held_out, held_out])
    with pytest.raises(ScoresError, match="several classes each"):
        fit_fusion([scores()], method="weighted")


def test_product_is_the_geometric_mean_of_the_odds() -> None:
    one = replace(scores(), scores=np.array([[0.9, 0.5, 1, 0]] * 4, np.float32))
    other = replace(scores(), scores=np.array([[0.5, 0.5, 1, 0.3]] * 4, np.float32))
    joined = fuse([one, other], method="product")
    # Odds of 9 and 1: 3. Odds of 1e-12 and .43: 6.5e-7.
    np.testing.assert_allclose(joined.scores[0], [0.75, 0.5, 1, 0], atol=1e-6)
    assert joined.truth is not None
    logits = np.log([9.0, 1.0, 1e20, 1e-20]).astype(np.float32)
    as_logits = replace(one, scores=np.tile(logits, (4, 1)), kind="logits")
    np.testing.assert_allclose(fuse([as_logits]).scores, one.scores, atol=1e-6)


def test_which_classes_are_there() -> None:
    rows = np.array([[0.9, 0.1, 0.8], [0.4, 0.6, 0.9], [0.2, 0.6, 0.9], [0.1, 0.2, 0.9]])
    classes = ("walk", "talk", "none of these")
    several = Presence(classes, labels="several", enter=0.5, leave=0.3)
    assert [several.step(row) for row in rows] == [(0,), (0, 1), (1,), ()]
    one = Presence(classes, labels="one", enter=0.5, leave=0.3)
    assert [one.step(row) for row in rows] == [(0,), (), (), ()]
    with pytest.raises(UnknownNameError, match="labels"):
        Presence(classes, labels="both", enter=0.5, leave=0.3)  # type: ignore[arg-type]


def test_independent_average_of_views() -> None:
    logits = np.array([[0.0, np.log(3)], [np.log(3), -1000.0]])
    np.testing.assert_allclose(
        average_views(logits, average="independent"), [0.625, 0.375], atol=1e-7
    )


def test_segments_of_classes_that_overlap() -> None:
    windows = np.array([[i, i + 1.0] for i in range(5)])
    table = np.array([[0.9, 0.1, 1], [0.6, 0.7, 1], [0.4, 0.9, 1], [0.1, 0.35, 1], [0.9, 0.1, 1]])
    classes = ("walk", "talk", "none of these")
    found = find_segments(windows, table, classes, labels="several")
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == [
        ("walk", 0, 3),
        ("talk", 1, 4),
        ("walk", 4, 5),
    ]
    assert found[0].confidence == pytest.approx((0.9 + 0.6 + 0.4) / 3)
    assert find_segments(windows, table, classes) == ()  # the third one is always the highest
