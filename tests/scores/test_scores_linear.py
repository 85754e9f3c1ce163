"""The classifiers that join streams: features, folds, unseen classes, parity with scikit-learn."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict

import numpy as np
import pytest

from dualstream.errors import ScoresError
from dualstream.scores.linear import LinearClassifier, fit_linear, fold_numbers, stacked_features
from dualstream.types import Scores


def make(labels: np.ndarray, values: np.ndarray, kind: str = "logits") -> Scores:
    return Scores(
        tuple(f"v{i:03d}" for i in range(len(labels))),
        labels.astype(np.int64),
        values.astype(np.float32),
        tuple(f"class {i}" for i in range(values.shape[1])),
        kind,  # type: ignore[arg-type]
    )


def noisy(labels: np.ndarray, k: int, seed: int) -> Scores:
    values = np.random.default_rng(seed).normal(size=(len(labels), k))
    values[np.arange(len(labels)), labels] += 2.5
    return make(labels, values)


def test_stacked_features_of_a_table() -> None:
    first = make(np.array([0]), np.array([[0.6, 0.8]]), "probabilities")
    second = make(np.array([0]), np.array([[0.0, 0.5]]), "probabilities")
    np.testing.assert_allclose(stacked_features([first, second]), [[0.6, 0.8, 0.0, 1.0]], rtol=1e-6)


def test_features_of_logits_are_normalised_softmax_scores() -> None:
    stream = make(np.array([0]), np.log(np.array([[3.0, 4.0]])))  # softmax 3/7 4/7
    np.testing.assert_allclose(stacked_features([stream]), [[0.6, 0.8]], rtol=1e-6)


def test_features_of_all_zero_scores_stay_zero() -> None:
    stream = make(np.array([0]), np.zeros((1, 3)), "probabilities")
    assert stacked_features([stream]).tolist() == [[0.0, 0.0, 0.0]]


def test_folds_as_a_table() -> None:
    assert fold_numbers(np.array([0, 0, 0, 1, 1])).tolist() == [0, 1, 2, 1, 2]
    assert fold_numbers(np.array([0] * 7)).tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert fold_numbers(np.array([0, 1, 2])).tolist() == [0, 0, 0]


def test_svm_is_crammer_and_singers() -> None:
    svm = pytest.importorskip("sklearn.svm")
    labels = np.arange(60) % 4
    streams = [noisy(labels, 4, 0), noisy(labels, 4, 1)]
    fitted = fit_linear(streams, kind="svm")
    reference = svm.LinearSVC(
        C=fitted.c, multi_class="crammer_singer", random_state=0, max_iter=2000
    )
    features = stacked_features(streams)
    reference.fit(features, labels)
    np.testing.assert_allclose(
        fitted.apply(features, num_classes=4), reference.decision_function(features), atol=1e-6
    )


def test_logistic_gives_scikit_learns_probabilities() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    for k in (2, 5):  # scikit-learn keeps one row for two classes
        labels = np.arange(60) % k
        streams = [noisy(labels, k, 0), noisy(labels, k, 1)]
        fitted = fit_linear(streams, kind="logistic")
        reference = linear_model.LogisticRegression(C=fitted.c, max_iter=1000)
        features = stacked_features(streams)
        reference.fit(features, labels)
        np.testing.assert_allclose(
            fitted.apply(features, num_classes=k), reference.predict_proba(features), atol=1e-6
        )


@pytest.mark.parametrize("kind", ["svm", "logistic"])
@pytest.mark.parametrize("seen", [(1, 3), (0, 2, 4)])
def test_classes_that_did_not_occur_never_win(kind: str, seen: tuple[int, ...]) -> None:
    labels = np.array(seen * 12)
    streams = [noisy(labels, 5, 0), noisy(labels, 5, 1)]
    fitted = fit_linear(streams, kind=kind)  # type: ignore[arg-type]
    assert tuple(fitted.fitted_classes) == seen
    answers = fitted.apply(stacked_features(streams), num_classes=5)
    assert answers.shape == (len(labels), 5)
    assert np.isfinite(answers).all()
    assert set(answers.argmax(axis=1)) <= set(seen)
    assert (answers.argmax(axis=1) == labels).mean() > 0.9
    if kind == "logistic":
        np.testing.assert_allclose(answers.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_one_video_a_class_is_enough(kind: str) -> None:
    labels = np.arange(3)
    fitted = fit_linear([make(labels, 4.0 * np.eye(3))], kind=kind)  # type: ignore[arg-type]
    assert fitted.c == 1.0  # nothing to choose by
    answers = fitted.apply(stacked_features([make(labels, 4.0 * np.eye(3))]), num_classes=3)
    assert answers.argmax(axis=1).tolist() == [0, 1, 2]


def test_one_class_or_unknown_labels_are_refused() -> None:
    with pytest.raises(ScoresError, match="all of class 'class 1'"):
        fit_linear([make(np.ones(4, int), np.zeros((4, 2)))], kind="svm")
    with pytest.raises(ScoresError, match="label -1"):
        fit_linear([make(np.array([0, -1]), np.zeros((2, 2)))], kind="svm")


def test_json_is_exact_and_shapes_are_checked() -> None:
    labels = np.arange(20) % 3
    stream = noisy(labels, 3, 0)
    fitted = fit_linear([stream], kind="logistic")
    again = LinearClassifier(**json.loads(json.dumps(asdict(fitted), default=np.ndarray.tolist)))
    np.testing.assert_array_equal(again.coefficients, fitted.coefficients)
    np.testing.assert_array_equal(again.intercepts, fitted.intercepts)
    with pytest.raises(ValueError, match="coefficients"):
        dataclasses.replace(fitted, coefficients=[[1.0]])
    with pytest.raises(ValueError, match="intercepts"):
        dataclasses.replace(fitted, intercepts=[1.0])
    with pytest.raises(ValueError, match="kind of classifier"):
        dataclasses.replace(fitted, kind="tree")
    with pytest.raises(ScoresError, match="only 2 classes"):
        fitted.apply(stacked_features([stream]), num_classes=2)
