"""Fusion of the scores of several streams into one.

    mean       average of the streams' probabilities
    weighted   weighted average; the weights are given, or searched on held-out training videos
    max        largest probability of any stream, scaled to sum to 1
    product    geometric mean of the probabilities, scaled to sum to 1
    svm        multi-class linear SVM on the stacked L2-normalised softmax scores
    logistic   logistic regression on the same features

The mean and the SVM are those of Simonyan & Zisserman 2014 (section 2). Whatever is learned is
learned from `fit_on`, the scores of training videos that the networks were not trained on; the
videos that are then measured must not be among them.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ScoresError, check_choice
from dualstream.files import read_json, write_text
from dualstream.scores.linear import LinearClassifier, fit_linear, stacked_features
from dualstream.scores.metrics import first_names, require_labels
from dualstream.scores.views import (
    SMALLEST_PROBABILITY,
    align,
    log_probabilities,
    log_softmax,
    probabilities,
)
from dualstream.types import ScoreKind, Scores

FusionMethod = Literal["mean", "weighted", "max", "product", "svm", "logistic"]
FITTED_METHODS = ("weighted", "svm", "logistic")
"""Methods that learn from held-out training videos (weighted: unless the weights are given)."""

FORMAT = "dualstream-fusion-1"
MOST_GRID_POINTS = 100_000


@dataclass(frozen=True, eq=False)
class Fusion:
    """Fusion method with all that it has learned."""

    method: FusionMethod
    num_streams: int
    weights: tuple[float, ...] = ()
    """One a stream, summing to 1; of "weighted" only."""
    classifier: LinearClassifier | None = None
    """Of "svm" and "logistic" only."""

    def __post_init__(self) -> None:
        check_choice("fusion method", self.method, FusionMethod)
        if self.num_streams < 1:
            raise InputError(f"A fusion needs at least one stream, got {self.num_streams}.")
        if (self.method == "weighted") != bool(self.weights):
            raise InputError("Weights belong to the fusion method 'weighted' and to no other.")
        if self.weights and len(self.weights) != self.num_streams:
            raise InputError(f"{self.num_streams} streams cannot have weights {self.weights}.")
        if (self.method in ("svm", "logistic")) != (self.classifier is not None):
            raise InputError(f"The fusion method {self.method!r} and its classifier do not fit.")

    def __str__(self) -> str:
        """'mean', 'weighted, 0.4 : 0.6' or 'svm, C = 0.1', for reports."""
        if self.weights:
            return f"weighted, {' : '.join(f'{weight:.3g}' for weight in self.weights)}"
        if self.classifier is not None:
            return f"{self.method}, C = {self.classifier.c:g}"
        return self.method

    def apply(self, streams: Sequence[Scores]) -> Scores:
        """Join streams, given in the order that the fusion was made for.

        Args:
            streams: `num_streams` of them, the same videos in any order, the same classes.

        Returns:
            Scores in the order of the first stream: probabilities, of "svm" the decision
            values (kind "logits"; their softmax is a ranking and no calibrated probability).

        Raises:
            ScoresError: another number of streams, or they cannot be aligned.
        """
        if len(streams) != self.num_streams:
            raise ScoresError(
                f"This fusion joins {self.num_streams} streams, got {len(streams)}; give them "
                f"in the order that it was made with."
            )
        aligned = align(streams)
        first = aligned[0]
        values = self._join(aligned).astype(np.float32)
        kind: ScoreKind = "logits" if self.method == "svm" else "probabilities"
        return Scores(first.names, first.labels, values, first.classes, kind)

    def _join(self, aligned: tuple[Scores, ...]) -> NDArray[np.floating]:
        if self.classifier is not None:
            features = stacked_features(aligned)
            return self.classifier.apply(features, num_classes=len(aligned[0].classes))
        if self.method == "product":
            return np.exp(log_softmax(np.mean([log_probabilities(s) for s in aligned], axis=0)))
        stacked = np.stack([probabilities(stream) for stream in aligned])  # (S, N, K)
        if self.method == "max":
            largest: NDArray[np.float64] = stacked.max(axis=0)
            sums = np.maximum(largest.sum(axis=1, keepdims=True), SMALLEST_PROBABILITY)
            return np.asarray(largest / sums)
        weights = self.weights or (1.0 / self.num_streams,) * self.num_streams
        return np.tensordot(np.asarray(weights), stacked, axes=1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fusion as JSON, to be read by `load`; the file appears whole or not at all.

        Raises:
            DiskError: the file cannot be written.
        """
        content = {"format": FORMAT, **asdict(self)}
        write_text(path, json.dumps(content, indent=1, default=np.ndarray.tolist) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Fusion:
        """Read a fusion that `save` wrote.

        Raises:
            ScoresError: the file is missing, is not JSON, or is no such fusion.
        """
        content = read_json(path, error=ScoresError)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ScoresError(f"{path}: is no fusion file ('format' is not {FORMAT!r}).")
        try:
            classifier = content["classifier"]
            return cls(
                method=content["method"],
                num_streams=int(content["num_streams"]),
                weights=tuple(float(weight) for weight in content["weights"]),
                classifier=None if classifier is None else LinearClassifier(**classifier),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ScoresError(f"{path}: the fusion is incomplete or broken ({error}).") from error


def fit_fusion(fit_on: Sequence[Scores], *, method: FusionMethod) -> Fusion:
    """Fit a fusion on the scores of held-out training videos, one item a stream.

    "mean", "max" and "product" learn nothing; "weighted" searches its weights (see
    `search_weights`), "svm" and "logistic" fit a classifier (see `linear.fit_linear`).

    Raises:
        UnknownNameError: no such method.
        ScoresError: `fit_on` cannot be aligned, or lacks labels where they are needed.
    """
    aligned = align(fit_on, what="fit_on")
    if method == "weighted":
        return Fusion(method, len(aligned), weights=search_weights(aligned))
    if method == "svm" or method == "logistic":
        return Fusion(method, len(aligned), classifier=fit_linear(aligned, kind=method))
    return Fusion(method, len(aligned))


def fuse(
    streams: Sequence[Scores],
    *,
    method: FusionMethod = "mean",
    weights: Sequence[float] | None = None,
    fit_on: Sequence[Scores] | None = None,
) -> Scores:
    """Join the scores of several streams.

    Args:
        streams: the same videos in any order, the same classes in the same order. Logits are
            turned into probabilities first.
        method: see the head of this module.
        weights: of "weighted": one a stream, not negative, not all zero; scaled to sum to 1.
        fit_on: scores of held-out training videos, one item a stream in the same order; needed
            by "svm", "logistic", and by "weighted" without `weights`. The methods that learn
            nothing only check it.

    Returns:
        Scores in the order of the first stream; see `Fusion.apply` for their kind.

    Raises:
        UnknownNameError: no such method.
        InputError: `weights` or `fit_on` is missing, wrong, or does not belong to the method.
        ScoresError: the streams cannot be aligned with each other, or with `fit_on`; or a video
            is in both.
    """
    return make_fusion(streams, method=method, weights=weights, fit_on=fit_on).apply(streams)


def make_fusion(
    streams: Sequence[Scores],
    *,
    method: FusionMethod = "mean",
    weights: Sequence[float] | None = None,
    fit_on: Sequence[Scores] | None = None,
) -> Fusion:
    """Return the fusion that `fuse` applies, fitted where it learns; arguments and errors there."""
    check_choice("fusion method", method, FusionMethod)
    streams = align(streams)
    if fit_on is not None:
        check_fit_on(streams, fit_on)
    if weights is not None:
        if method != "weighted":
            raise InputError(f"`weights` belong to the method 'weighted', not to {method!r}.")
        if fit_on is not None:
            raise InputError("Give `weights`, or `fit_on` to search them on, not both.")
        return weighted_fusion(weights, num_streams=len(streams))
    if fit_on is not None:
        return fit_fusion(fit_on, method=method)
    if method in FITTED_METHODS:
        raise InputError(
            f"The method {method!r} learns from `fit_on` (--fit): give the scores of held-out "
            "training videos, one item a stream"
            f"{', or `weights`' if method == 'weighted' else ''}. `dualstream test RUN --part "
            "held_out` writes them into a run folder."
        )
    return Fusion(method, len(streams))


def check_fit_on(streams: Sequence[Scores], fit_on: Sequence[Scores]) -> None:
    """Check that a fusion fitted on `fit_on` may be applied to `streams` and measured there.

    Raises:
        ScoresError: another number of streams, other classes, or a video is in both.
    """
    if len(fit_on) != len(streams):
        raise ScoresError(
            f"`fit_on` has {len(fit_on)} streams and {len(streams)} are to be joined: give one "
            f"item a stream, in the same order."
        )
    if streams[0].classes != fit_on[0].classes:
        raise ScoresError(
            "fit_on[0] has other classes than streams[0] "
            f"({len(fit_on[0].classes)} and {len(streams[0].classes)}), or in another order."
        )
    scored = {name for stream in streams for name in stream.names}
    shared = sorted({name for stream in fit_on for name in stream.names} & scored)
    if shared:
        raise ScoresError(
            f"{len(shared)} videos are both in `fit_on` and among the scored ones: "
            f"{first_names(shared)}. That would be fitting on the test set; give the scores of "
            f"held-out training videos (scores_held_out.npz of a run) as `fit_on`."
        )


def weighted_fusion(weights: Sequence[float], *, num_streams: int) -> Fusion:
    """Return the fusion by a weighted mean with given weights, scaled to sum to 1.

    Raises:
        InputError: another number of weights, one is negative or not finite, or all are zero.
    """
    if len(weights) != num_streams:
        raise InputError(f"{num_streams} streams need {num_streams} weights, got {len(weights)}.")
    values = np.asarray(weights, np.float64)
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise InputError(f"Weights must be 0 or above and not all 0, got {tuple(weights)}.")
    scaled = values / values.sum()
    return Fusion("weighted", num_streams, weights=tuple(float(value) for value in scaled))


def simplex_grid(num_streams: int, *, parts: int) -> NDArray[np.int64]:
    """Return every way to share `parts` equal parts among the streams.

    simplex_grid(2, parts=2) is [[0, 2], [1, 1], [2, 0]].

    Returns:
        (P, num_streams) whole numbers, each row summing to `parts`, in rising order.
    """
    # Bars between the parts, as in 'stars and bars': their distances are the shares.
    bars = itertools.combinations(range(parts + num_streams - 1), num_streams - 1)
    rows = [np.diff((-1, *places, parts + num_streams - 1)) - 1 for places in bars]
    return np.array(rows, np.int64).reshape(-1, num_streams)


def search_weights(fit_on: Sequence[Scores], *, step: float = 0.05) -> tuple[float, ...]:
    """Search the weights of the streams with the best top-1 accuracy on held-out training videos.

    Tries every point of a grid over the weights that sum to 1. Of weights that are equally
    accurate the ones with the higher mean log-likelihood of the true class win, then the ones
    closest to equal weights, then the first in rising order.

    Args:
        fit_on: one item a stream; every video's class known.
        step: distance of the grid's points; 1 / step must be a whole number.

    Returns:
        One weight a stream, summing to 1.

    Raises:
        InputError: an impossible step, or a grid of more than 100,000 points.
        ScoresError: the streams cannot be aligned, or a label is -1.
    """
    parts = round(1 / step) if step > 0 else 0
    if parts < 1 or abs(parts * step - 1) > 1e-9:
        raise InputError(f"`step` must divide 1 into equal parts (0.05, 0.1, ...), got {step}.")
    aligned = align(fit_on, what="fit_on")
    require_labels(aligned[0])
    count = math.comb(parts + len(aligned) - 1, parts)
    if count > MOST_GRID_POINTS:
        raise InputError(
            f"{len(aligned)} streams at step {step} make {count} combinations of weights, more "
            f"than {MOST_GRID_POINTS}: choose a larger step, or give the weights."
        )
    stacked = np.stack([probabilities(stream) for stream in aligned])  # (S, N, K)
    labels = aligned[0].labels

    def quality(shares: NDArray[np.int64]) -> tuple[int, float, float]:
        joined = np.tensordot(shares / parts, stacked, axes=1)  # (N, K)
        truth = joined[np.arange(len(labels)), labels]
        right = int((joined.argmax(axis=1) == labels).sum())
        likelihood = float(np.log(np.maximum(truth, SMALLEST_PROBABILITY)).mean())
        inequality = float(((shares / parts - 1 / len(aligned)) ** 2).sum())
        # Rounded, so that sums that differ in the last bit only still count as equal.
        return right, round(likelihood, 9), -round(inequality, 9)

    chosen = max(simplex_grid(len(aligned), parts=parts), key=quality)
    return tuple(float(share) / parts for share in chosen)
