"""The classifier and its cross-validation."""

from __future__ import annotations

import numpy as np
import pytest

from dualstream.engine.teach.head import (
    CANDIDATES,
    USUAL_C,
    choose_c,
    columns_of,
    fit_head,
    folds_of,
    held_out_probabilities,
    mean_loss,
)
from dualstream.errors import ShapeError

SIZES = {"rgb": 6, "hof": 2, "mbh_x": 2}


def blobs(labels: np.ndarray, *, seed: int = 0, spread: float = 0.5) -> np.ndarray:
    """(N, 10) features around a centre for each class, of very different scales."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(0, 2, (labels.max() + 1, 10))
    features = centres[labels] + rng.normal(0, spread, (len(labels), 10))
    return (features * np.geomspace(0.01, 100, 10) + 5).astype(np.float32)


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(labels.max() + 1, dtype=bool)[labels]


@pytest.mark.parametrize("count", [8, 60])  # fewer than features, and more
def test_it_tells_classes_that_are_apart(count: int) -> None:
    labels = np.arange(count) % 3
    head = fit_head(blobs(labels), one_hot(labels), sizes=SIZES, labels="one", c=10)
    others = np.arange(30) % 3
    probabilities = head.probabilities(blobs(others, seed=2))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (probabilities.argmax(axis=1) == others).all()


def test_fewer_samples_than_features_give_the_same_classifier() -> None:
    # The solution in the space of the samples is that in the space of the features: 9 samples of
    # 10 features, and the same with three features that never change.
    labels = np.arange(9) % 3
    features = blobs(labels)
    few = fit_head(features, one_hot(labels), sizes=SIZES, labels="one", c=1)
    padded = np.concatenate((features, np.ones((9, 3), np.float32)), axis=1)
    many = fit_head(padded, one_hot(labels), sizes={**SIZES, "mbh_x": 5}, labels="one", c=1)
    assert not many.coefficients[:, -3:].round(9).any()
    assert few.coefficients.shape == (3, 10)


def test_plain_weights_take_features_as_they_are() -> None:
    labels = np.arange(12) % 3
    features = blobs(labels)
    head = fit_head(features, one_hot(labels), sizes=SIZES, labels="one", c=1)
    weights, biases = head.plain()
    np.testing.assert_allclose(features @ weights.T + biases, head.logits(features), atol=1e-3)


def test_a_class_without_an_example_cannot_win() -> None:
    labels = np.array([0, 2, 0, 2, 0, 2])
    targets = np.eye(4, dtype=bool)[labels]
    head = fit_head(blobs(labels), targets, sizes=SIZES, labels="one", c=1)
    found = head.probabilities(blobs(labels))
    assert not found[:, [1, 3]].any()
    assert (found.argmax(axis=1) == labels).all()
    alone = fit_head(blobs(labels)[::2], targets[::2], sizes=SIZES, labels="one", c=1)
    np.testing.assert_array_equal(alone.probabilities(blobs(labels))[:, 0], 1)


def test_several_labels_are_independent() -> None:
    labels = np.arange(40) % 4
    targets = np.stack([labels % 2 == 1, labels >= 2, labels < 9, labels > 9], axis=1)
    head = fit_head(blobs(labels), targets, sizes=SIZES, labels="several", c=10)
    found = head.probabilities(blobs(labels, seed=3))
    np.testing.assert_array_equal(found[:, :2] > 0.5, targets[:, :2])
    assert (found[:, 2] > 0.9).all()
    assert (found[:, 3] < 0.1).all()


def test_streams_weigh_the_same_whatever_their_size() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (400, 10)).astype(np.float32)
    labels = rng.integers(2, size=400)
    head = fit_head(features, one_hot(labels), sizes=SIZES, labels="one", c=1)
    variance = (features / head.scale).var(axis=0)
    np.testing.assert_allclose(
        [variance[:6].sum(), variance[6:].sum(), variance[6:8].sum()], [1, 1, 0.5], rtol=1e-3
    )


def test_other_features_are_refused() -> None:
    labels = np.arange(6) % 2
    head = fit_head(blobs(labels), one_hot(labels), sizes=SIZES, labels="one", c=1)
    with pytest.raises(ShapeError, match=r"takes \(N, 10\) features"):
        head.probabilities(np.zeros((2, 9)))


def test_folds_keep_groups_together() -> None:
    labels = np.repeat([0, 1, 0, 1, 0, 1], 3)
    groups = np.repeat(list("aabbcc"), 3)
    folds = folds_of(one_hot(labels), groups, folds=5)
    assert len(folds) == 3
    for held in folds:
        assert set(groups[held]).isdisjoint(groups[~held])
    assert np.sum(folds, axis=0).tolist() == [1] * 18
    assert folds_of(one_hot(labels), np.repeat("a", 18), folds=5) == []


def test_a_class_of_one_group_is_always_learnt_from() -> None:
    labels = np.array([0, 1, 0, 1, 0, 2])
    groups = np.array(list("aabbcc"))
    for held in folds_of(one_hot(labels), groups, folds=3):
        assert "c" not in groups[held]


def test_loss_counts_classes_alike() -> None:
    targets = np.eye(2, dtype=bool)[[0, 0, 0, 1, 0]]
    p = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.75, 0.25], [np.nan, np.nan]])
    expected = -(np.log(0.5) + np.log(0.25)) / 2
    assert mean_loss(p, targets, labels="one") == pytest.approx(expected)
    alone = np.array([[0.8], [0.4]])
    has = np.array([[True], [False]])
    expected = -(np.log(0.8) + np.log(0.6)) / 2
    assert mean_loss(alone, has, labels="several") == pytest.approx(expected)


def test_regularisation_is_chosen_within_the_samples() -> None:
    labels = np.arange(40) % 2
    groups = np.array([str(i // 4) for i in range(40)])
    targets = one_hot(labels)
    clear = choose_c(blobs(labels, spread=0.2), targets, groups, sizes=SIZES, labels="one")
    noise = np.random.default_rng(0).normal(0, 1, (40, 10)).astype(np.float32)
    vague = choose_c(noise, targets, groups, sizes=SIZES, labels="one")
    assert vague == min(CANDIDATES) < clear
    alone = np.repeat("a", 40)
    assert choose_c(noise, targets, alone, sizes=SIZES, labels="one") == USUAL_C


def test_held_out_probabilities_are_of_classifiers_that_did_not_see_the_group() -> None:
    # Labels that only the group tells: who has seen the group is right, others cannot be.
    rng = np.random.default_rng(4)
    groups = np.repeat([f"g{i}" for i in range(10)], 6)
    labels = np.repeat(np.arange(10) % 2, 6)
    features = np.repeat(rng.normal(0, 1, (10, 10)), 6, axis=0).astype(np.float32)
    *_, found = held_out_probabilities(features, one_hot(labels), groups, sizes=SIZES, labels="one")
    assert not np.isnan(found).any()
    seen = fit_head(features, one_hot(labels), sizes=SIZES, labels="one", c=100)
    assert (seen.probabilities(features).argmax(axis=1) == labels).all()
    assert (found.argmax(axis=1) == labels).mean() < 0.85


def test_columns_of_blocks() -> None:
    assert columns_of(SIZES, ["hof"]).tolist() == [6, 7]
    assert columns_of(SIZES, ["rgb", "mbh_x"]).tolist() == [0, 1, 2, 3, 4, 5, 8, 9]
