"""Accuracy of scores against the true classes.

The predicted class is the one with the highest score; of equal scores the class that comes first
in `Scores.classes` wins. A class is among the first k when fewer than k classes stand before it
under that rule, so every number here is the same on every machine.

Each measure raises ScoresError where there is no video, or a label is -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import ScoresError, check_least, first_names
from dualstream.types import Scores


@dataclass(frozen=True)
class Accuracy:
    """Top-1, top-5 and mean class accuracy, as fractions."""

    num_videos: int
    top_1: float
    top_5: float | None
    """None for five classes or fewer, where it would be 1 whatever the scores."""
    mean_class: float
    """Mean of the per-class recalls."""

    def as_dict(self) -> dict[str, float | None]:
        """The fractions under their names in files and JSON."""
        return {"top1": self.top_1, "top5": self.top_5, "mean_class": self.mean_class}


@dataclass(frozen=True)
class ConfusedPair:
    """One class taken for another."""

    truth: str
    predicted: str
    count: int
    share: float
    """Of the videos of the true class."""


@dataclass(frozen=True)
class SeveralAccuracy:
    """Accuracy where a video may have several classes, as fractions."""

    num_videos: int
    mean_ap: float
    """Mean of the average precisions of the classes that occur."""
    hit_1: float
    """Share of the videos that have the class which is scored highest."""

    def as_dict(self) -> dict[str, float | None]:
        """The fractions under their names in files and JSON."""
        return {"map": self.mean_ap, "hit1": self.hit_1}


def require_labels(scores: Scores) -> None:
    """Raise ScoresError unless there is a video and every video's one class is known."""
    if len(scores) == 0:
        raise ScoresError("There are no videos in these scores: nothing to measure.")
    if scores.truth is not None:
        raise ScoresError(
            "The videos of these scores have several classes each; top-1 and the like are of one. "
            "Measure them with `measure_several`."
        )
    unknown = [name for name, label in zip(scores.names, scores.labels, strict=True) if label < 0]
    if unknown:
        raise ScoresError(
            f"The true class of {len(unknown)} of {len(scores)} videos is unknown (label -1): "
            f"{first_names(unknown)}. Measure only videos with a class."
        )


def true_class_rank(scores: Scores) -> NDArray[np.int64]:
    """Return (N,) the number of classes before the true one of each video: 0 (right) to K - 1."""
    require_labels(scores)
    truth = np.take_along_axis(scores.scores, scores.labels[:, None], axis=1)  # (N, 1)
    above = (scores.scores > truth).sum(axis=1)
    earlier = np.arange(len(scores.classes)) < scores.labels[:, None]  # (N, K)
    ties_before = ((scores.scores == truth) & earlier).sum(axis=1)
    rank: NDArray[np.int64] = (above + ties_before).astype(np.int64)
    return rank


def predicted_classes(scores: Scores) -> NDArray[np.int64]:
    """Return (N,) the class with the highest score; of equal ones the first."""
    best: NDArray[np.int64] = scores.scores.argmax(axis=1).astype(np.int64)
    return best


def top_k_accuracy(scores: Scores, k: int = 1) -> float:
    """Return the share of the videos whose true class is among the k best scored.

    Raises:
        InputError: k is below 1.
    """
    check_least(1, k=k)
    return float((true_class_rank(scores) < k).mean())


def confusion_matrix(scores: Scores) -> NDArray[np.int64]:
    """Return (K, K) counts: row the true class, column the predicted one."""
    require_labels(scores)
    k = len(scores.classes)
    cells = scores.labels * k + predicted_classes(scores)
    return np.bincount(cells, minlength=k * k).reshape(k, k).astype(np.int64)


def per_class_accuracy(scores: Scores) -> NDArray[np.float64]:
    """Return (K,) the share of each class's videos that are recognised; NaN without a video."""
    matrix = confusion_matrix(scores)
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = np.diag(matrix) / matrix.sum(axis=1)
    return shares


def per_class_precision(scores: Scores) -> NDArray[np.float64]:
    """Return (K,) the share of the videos taken for each class that are of it; NaN without one."""
    matrix = confusion_matrix(scores)
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = np.diag(matrix) / matrix.sum(axis=0)
    return shares


def mean_class_accuracy(scores: Scores) -> float:
    """Return the mean of `per_class_accuracy` over the classes that occur."""
    return float(np.nanmean(per_class_accuracy(scores)))


def measure(scores: Scores) -> Accuracy:
    """Return top-1, top-5 and mean class accuracy together."""
    return Accuracy(
        num_videos=len(scores),
        top_1=top_k_accuracy(scores, 1),
        top_5=top_k_accuracy(scores, 5) if len(scores.classes) > 5 else None,
        mean_class=mean_class_accuracy(scores),
    )


def measure_several(scores: Scores) -> SeveralAccuracy:
    """Return mean average precision and hit@1 together.

    Raises:
        ScoresError: there is no video, or it is not known which classes each has.
    """
    found = average_precisions(scores)
    truth = _truth(scores)
    best = predicted_classes(scores)
    return SeveralAccuracy(
        num_videos=len(scores),
        mean_ap=float(np.nanmean(found)),
        hit_1=float(truth[np.arange(len(scores)), best].mean()),
    )


def accuracy_of(scores: Scores) -> Accuracy | SeveralAccuracy:
    """Return what `measure_several` finds where videos may have several classes, else `measure`."""
    return measure(scores) if scores.truth is None else measure_several(scores)


def average_precisions(scores: Scores) -> NDArray[np.float64]:
    """Return (K,) the average precision of each class over the videos; NaN of one without any.

    Videos are ranked by the class's score; it is the mean, over the videos that have the class, of
    the precision down to their rank. Equal scores share a rank.

    Raises:
        ScoresError: there is no video, or it is not known which classes each has.

    Source:
        scikit-learn's `average_precision_score`, without interpolation.
    """
    from sklearn.metrics import average_precision_score

    truth = _truth(scores)
    return np.array(
        [
            average_precision_score(own, values) if own.any() else np.nan
            for own, values in zip(truth.T, scores.scores.T, strict=True)
        ]
    )


def _truth(scores: Scores) -> NDArray[np.bool_]:
    if scores.truth is None or not len(scores):
        raise ScoresError("There is no video of which all classes are known: nothing to measure.")
    return scores.truth


def most_confused_pairs(scores: Scores, count: int = 10) -> tuple[ConfusedPair, ...]:
    """Return the wrong cells of the confusion matrix with the most videos.

    Args:
        scores: with a known class for every video.
        count: at most this many pairs; cells without a video are never listed.

    Returns:
        Pairs by falling count, then by falling share of the true class, then in class order.

    Raises:
        InputError: count is below 1.
    """
    check_least(1, count=count)
    matrix = confusion_matrix(scores)
    totals = matrix.sum(axis=1)
    wrong = matrix - np.diag(np.diag(matrix))
    pairs = [
        ConfusedPair(
            scores.classes[row],
            scores.classes[column],
            int(wrong[row, column]),
            float(wrong[row, column] / totals[row]),
        )
        for row, column in np.argwhere(wrong > 0)
    ]
    # sorted() is stable and argwhere goes row by row, so equal pairs stay in class order.
    return tuple(sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:count])
