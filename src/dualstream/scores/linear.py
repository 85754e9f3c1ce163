"""Linear classifiers that learn to join streams: a multi-class SVM and logistic regression."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import ScoresError, check_choice, check_shape
from dualstream.scores.metrics import require_labels
from dualstream.scores.views import probabilities, softmax
from dualstream.types import Scores

LinearKind = Literal["svm", "logistic"]
CANDIDATES = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of regularisation C that cross-validation chooses from."""
MOST_FOLDS = 5


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """Weights of a multi-class linear classifier over stacked features."""

    kind: LinearKind
    c: float
    """Inverse strength of regularisation that cross-validation chose."""
    fitted_classes: NDArray[np.int64]
    """(R,) the classes that occurred among the fitted videos, rising."""
    coefficients: NDArray[np.float64]
    """(R, D)."""
    intercepts: NDArray[np.float64]
    """(R,)."""

    def __post_init__(self) -> None:
        check_choice("kind of classifier", self.kind, LinearKind)
        for name in ("fitted_classes", "coefficients", "intercepts"):  # of JSON: lists
            dtype = np.int64 if name == "fitted_classes" else np.float64
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        rows = len(self.fitted_classes)
        check_shape(f"The coefficients of {rows} classes", self.coefficients, (rows, "D"))
        check_shape(f"The intercepts of {rows} classes", self.intercepts, (rows,))

    def apply(self, features: NDArray[np.float64], *, num_classes: int) -> NDArray[np.float64]:
        """Score features for every class.

        A class that did not occur when fitting can never win: an SVM scores it 1 below the
        lowest of the other classes, logistic regression gives it probability 0.

        Args:
            features: (N, D) of `stacked_features`.
            num_classes: K.

        Returns:
            (N, K) decision values of an SVM, probabilities of logistic regression.

        Raises:
            ScoresError: the classifier was fitted on features of another size or other classes.
        """
        if features.shape[1] != self.coefficients.shape[1]:
            raise ScoresError(
                f"This fusion was fitted on {self.coefficients.shape[1]} scores a video and now "
                f"gets {features.shape[1]}: the number of streams or classes has changed."
            )
        if self.fitted_classes.max() >= num_classes:
            raise ScoresError(
                f"This fusion knows class {int(self.fitted_classes.max())} and the scores have "
                f"only {num_classes} classes."
            )
        decisions = features @ self.coefficients.T + self.intercepts  # (N, R)
        if self.kind == "logistic":
            result = np.zeros((len(features), num_classes))
            result[:, self.fitted_classes] = softmax(decisions)
            return result
        lowest = decisions.min(axis=1, keepdims=True) - 1.0
        result = np.repeat(lowest, num_classes, axis=1)
        result[:, self.fitted_classes] = decisions
        return result


def stacked_features(aligned: Sequence[Scores]) -> NDArray[np.float64]:
    """Stack the softmax scores of each stream, scaled to Euclidean length 1, side by side.

    Args:
        aligned: S streams with the same N videos in the same order and K classes.

    Returns:
        (N, S * K); the features of Simonyan & Zisserman 2014, section 2.
    """
    parts = []
    for stream in aligned:
        values = probabilities(stream)
        length = np.linalg.norm(values, axis=1, keepdims=True)
        parts.append(values / np.where(length > 0, length, 1.0))
    return np.concatenate(parts, axis=1)


def fit_linear(aligned: Sequence[Scores], *, kind: LinearKind) -> LinearClassifier:
    """Fit a classifier on the stacked scores of held-out training videos.

    The SVM is Crammer & Singer's multi-class one, as in Simonyan & Zisserman 2014. C is the value
    with the most right videos in cross-validation within these videos (up to 5 folds,
    stratified by class); of equals the one closest to 1 wins.

    Args:
        aligned: one item a stream, the same videos in the same order, every class known.
        kind: "svm" or "logistic".

    Raises:
        ScoresError: a label is -1, or fewer than two classes occur.
    """
    require_labels(aligned[0])
    by_name = np.argsort(np.array(aligned[0].names), kind="stable")
    features = stacked_features(aligned)[by_name]
    labels = aligned[0].labels[by_name]
    if len(np.unique(labels)) < 2:
        raise ScoresError(
            f"The held-out videos are all of class {aligned[0].classes[labels[0]]!r}: the fusion "
            f"method {kind!r} needs videos of two classes or more."
        )
    folds = fold_numbers(labels)

    def num_right(c: float) -> int:
        """Videos that are right when the other folds are learnt from."""
        right = 0
        for fold in np.unique(folds):
            rest, part = folds != fold, folds == fold
            if len(np.unique(labels[rest])) < 2:
                continue
            fitted = _fit(features[rest], labels[rest], kind=kind, c=c)
            decisions = fitted.apply(features[part], num_classes=int(labels.max()) + 1)
            right += int((decisions.argmax(axis=1) == labels[part]).sum())
        return right

    nearest_1_first = sorted(CANDIDATES, key=lambda c: abs(math.log(c)))
    return _fit(features, labels, kind=kind, c=max(nearest_1_first, key=num_right))


def fold_numbers(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (N,) the fold of each video from 0: the videos of each class are dealt out in turn.

    There are as many folds as the largest class has videos, at most 5. For instance labels
    0 0 0 1 1 go to folds 0 1 2 1 2: class 1 begins one fold later, which keeps folds equal.
    """
    counts = np.bincount(labels)
    folds = min(MOST_FOLDS, int(counts.max()))
    result = np.zeros(len(labels), np.int64)
    for label in np.flatnonzero(counts):
        members = np.flatnonzero(labels == label)
        result[members] = (np.arange(len(members)) + label) % folds
    return result


def _fit(
    features: NDArray[np.float64], labels: NDArray[np.int64], *, kind: LinearKind, c: float
) -> LinearClassifier:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    if kind == "svm":
        model = LinearSVC(C=c, multi_class="crammer_singer", random_state=0, max_iter=2000)
    else:
        model = LogisticRegression(C=c, max_iter=1000)
    with warnings.catch_warnings():
        # Large C on few videos stops at max_iter: cross-validation judges the result anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)
    coefficients, intercepts = model.coef_, np.asarray(model.intercept_).reshape(-1)
    if len(model.classes_) == 2:
        # sklearn keeps one row, the second class against the first: two rows of opposite sign
        # give the same winner, and halved the same softmax as its sigmoid.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.array([-intercepts[0], intercepts[0]]) / 2
    return LinearClassifier(kind, c, model.classes_, coefficients, intercepts)
