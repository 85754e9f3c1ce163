"""Metrics: literal tables, and parity with torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest

from dualstream.errors import InputError, ScoresError
from dualstream.scores import (
    Accuracy,
    confusion_matrix,
    mean_class_accuracy,
    measure,
    most_confused_pairs,
    per_class_accuracy,
    per_class_precision,
    predicted_classes,
    top_k_accuracy,
    true_class_rank,
)
from dualstream.scores.metrics import ConfusedPair
from dualstream.types import Scores


def make(labels: list[int], scores: object, classes: str = "abc") -> Scores:
    return Scores(
        tuple(f"v{i}" for i in range(len(labels))),
        np.array(labels, np.int64),
        np.array(scores, np.float32).reshape(len(labels), len(classes)),
        tuple(classes),
        "logits",
    )


def by_answers(labels: list[int], answers: list[int], classes: str = "abc") -> Scores:
    return make(labels, np.eye(len(classes))[answers], classes)


def random_scores(n: int, k: int, seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k - 1, n)  # the last class never occurs
    values = rng.normal(size=(n, k))
    values[np.arange(n), labels] += 1
    return Scores(
        tuple(f"v{i}" for i in range(n)),
        labels.astype(np.int64),
        values.astype(np.float32),
        tuple(f"class {i}" for i in range(k)),
        "logits",
    )


def test_rank_and_top_k_of_a_table() -> None:
    scores = make([0, 1, 2, 2], [[3, 2, 1], [3, 2, 1], [3, 2, 1], [1, 2, 3]])
    assert true_class_rank(scores).tolist() == [0, 1, 2, 0]
    assert top_k_accuracy(scores) == 0.5
    assert top_k_accuracy(scores, 2) == 0.75
    assert top_k_accuracy(scores, 3) == 1.0
    assert top_k_accuracy(scores, 9) == 1.0


def test_of_equal_scores_the_first_class_wins() -> None:
    scores = make([0, 1, 2], np.ones((3, 3)))
    assert predicted_classes(scores).tolist() == [0, 0, 0]
    assert true_class_rank(scores).tolist() == [0, 1, 2]
    assert top_k_accuracy(scores, 1) == pytest.approx(1 / 3)
    assert top_k_accuracy(scores, 2) == pytest.approx(2 / 3)


def test_rank_agrees_with_a_stable_sort_when_scores_are_equal() -> None:
    rng = np.random.default_rng(0)
    scores = make(rng.integers(0, 6, 200).tolist(), rng.integers(0, 3, (200, 6)), "abcdef")
    order = np.argsort(-scores.scores, axis=1, kind="stable")
    expected = np.argmax(order == scores.labels[:, None], axis=1)
    np.testing.assert_array_equal(true_class_rank(scores), expected)
    assert top_k_accuracy(scores) == (predicted_classes(scores) == scores.labels).mean()


def test_confusion_matrix_has_a_row_for_each_true_class() -> None:
    scores = by_answers([0, 0, 0, 2, 2], [0, 1, 1, 2, 0])
    assert confusion_matrix(scores).tolist() == [[1, 2, 0], [0, 0, 0], [1, 0, 1]]


def test_per_class_and_mean_class_leave_out_classes_that_do_not_occur() -> None:
    scores = by_answers([0, 0, 0, 0, 2, 2], [0, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(per_class_accuracy(scores), [0.25, np.nan, 1.0])
    # Taken for class 0 is one video, for 1 three, for 2 two.
    np.testing.assert_array_equal(per_class_precision(scores), [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(
        per_class_precision(by_answers([0, 1, 1], [0, 0, 0])), [1 / 3, np.nan, np.nan]
    )
    assert mean_class_accuracy(scores) == 0.625
    assert measure(scores) == Accuracy(num_videos=6, top_1=0.5, top_5=None, mean_class=0.625)


@pytest.mark.parametrize(("num_classes", "top_5"), [(2, None), (5, None), (6, 0.75)])
def test_top_5_is_measured_where_it_says_something(num_classes: int, top_5: float | None) -> None:
    values = np.tile(np.arange(num_classes, 0, -1, dtype=np.float32), (4, 1))  # class 0 is best
    labels = np.array([0, 1, 0, num_classes - 1])
    classes = tuple(str(i) for i in range(num_classes))
    scores = Scores(("a", "b", "c", "d"), labels, values, classes, "logits")
    assert measure(scores).top_5 == top_5


def test_most_confused_pairs_in_their_order() -> None:
    #        a is taken for b twice of 4, c for a twice of 2, b for a once
    scores = by_answers([0, 0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 0, 0, 0])
    assert most_confused_pairs(scores) == (
        ConfusedPair("c", "a", 2, 1.0),
        ConfusedPair("a", "b", 2, 0.5),
        ConfusedPair("b", "a", 1, 1.0),
    )
    assert len(most_confused_pairs(scores, 1)) == 1
    assert most_confused_pairs(by_answers([0, 1], [0, 1])) == ()


@pytest.mark.parametrize("seed", range(3))
def test_parity_with_torchmetrics(seed: int) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    scores = random_scores(300, 7, seed)
    values, labels = torch.from_numpy(scores.scores), torch.from_numpy(scores.labels)
    for k in (1, 3):
        reference = functional.multiclass_accuracy(
            values, labels, num_classes=7, top_k=k, average="micro"
        )
        assert top_k_accuracy(scores, k) == pytest.approx(float(reference), abs=1e-6)
    reference = functional.multiclass_confusion_matrix(values, labels, num_classes=7)
    np.testing.assert_array_equal(confusion_matrix(scores), reference.numpy())
    recalls = functional.multiclass_recall(values, labels, num_classes=7, average="none")
    np.testing.assert_allclose(per_class_accuracy(scores)[:6], recalls.numpy()[:6], atol=1e-6)
    assert mean_class_accuracy(scores) == pytest.approx(float(recalls[:6].mean()), abs=1e-6)


def test_unknown_labels_are_refused_by_name() -> None:
    scores = make([0, -1, -1, -1, -1], np.zeros((5, 3)))
    for metric in (top_k_accuracy, mean_class_accuracy, confusion_matrix, most_confused_pairs):
        with pytest.raises(ScoresError, match=r"4 of 5 videos .*'v1', 'v2', 'v3' and 1 more"):
            metric(scores)


def test_no_videos_and_impossible_counts() -> None:
    with pytest.raises(ScoresError, match="no videos"):
        measure(make([], np.zeros((0, 3))))
    with pytest.raises(InputError, match="at least 1"):
        top_k_accuracy(by_answers([0], [0]), 0)
    with pytest.raises(InputError, match="at least 1"):
        most_confused_pairs(by_answers([0], [0]), 0)
