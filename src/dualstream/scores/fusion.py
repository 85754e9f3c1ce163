"""Fusion of the scores of several streams into one.

    mean       average of the streams' probabilities
    weighted   given weights: weighted average of the probabilities; fitted: weighted geometric
               mean of the probabilities, each stream with a temperature (see `fit_pool`)
    max        largest probability of any stream, scaled to sum to 1
    product    geometric mean of the probabilities, scaled to sum to 1
    svm        multi-class linear SVM on the stacked L2-normalised softmax scores
    logistic   logistic regression on the same features

Where a video may have several classes, probabilities are of each class by itself (sigmoids). Then
there are the mean, given weights, and the product, which is the geometric mean of the odds.

The mean and the SVM are those of Simonyan & Zisserman 2014 (section 2). Whatever is learned is
learned from `fit_on`, the scores of training videos that the networks were not trained on; the
videos that are then measured must not be among them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ScoresError, check_choice, first_names
from dualstream.files import read_json, write_text
from dualstream.scores.linear import LinearClassifier, fit_linear, stacked_features
from dualstream.scores.pool import fit_pool, pooled
from dualstream.scores.views import (
    SMALLEST_PROBABILITY,
    align,
    independent_probabilities,
    log_probabilities,
    log_softmax,
    probabilities,
    sigmoid,
)
from dualstream.types import Labels, ScoreKind, Scores

FusionMethod = Literal["mean", "weighted", "max", "product", "svm", "logistic"]
FITTED_METHODS = ("weighted", "svm", "logistic")
"""Methods that learn from held-out training videos (weighted: unless the weights are given)."""

SEVERAL_METHODS = ("mean", "weighted", "product")
"""Methods that join several labels (weighted: with given weights)."""

FORMAT, FORMAT_1 = "dualstream-fusion-2", "dualstream-fusion-1"
"""Written and read; files of version 1 know no temperatures and are read too."""


@dataclass(frozen=True, eq=False)
class Fusion:
    """Fusion method with all that it has learned."""

    method: FusionMethod
    num_streams: int
    weights: tuple[float, ...] = ()
    """One a stream, summing to 1; of "weighted" only."""
    temperatures: tuple[float, ...] = ()
    """One a stream, above 0, of a fitted "weighted" only: the probability of a class is
    proportional to the product of those of the streams, each to the power weight / temperature.
    (): the weighted average of the probabilities."""
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
        if self.temperatures and len(self.temperatures) != len(self.weights):
            raise InputError(f"Weights {self.weights} cannot have temperatures of another number.")
        if not all(0 < value < float("inf") for value in self.temperatures):
            raise InputError(f"Temperatures must be above 0, got {self.temperatures}.")
        if (self.method in ("svm", "logistic")) != (self.classifier is not None):
            raise InputError(f"The fusion method {self.method!r} and its classifier do not fit.")

    def __str__(self) -> str:
        """'mean', 'weighted, 0.4 : 0.6, temperatures 1.1 : 0.8' or 'svm, C = 0.1', for reports."""
        if self.weights:
            parts = {"weighted, ": self.weights, ", temperatures ": self.temperatures}
            return "".join(
                name + " : ".join(f"{value:.3g}" for value in values)
                for name, values in parts.items()
                if values
            )
        if self.classifier is not None:
            return f"{self.method}, C = {self.classifier.c:g}"
        return self.method

    def apply(self, streams: Sequence[Scores], *, labels: Labels | None = None) -> Scores:
        """Join streams, given in the order that the fusion was made for.

        Args:
            streams: `num_streams` of them, the same videos in any order, the same classes.
            labels: "several" where a video may have several classes; None tells it by `truth`.

        Returns:
            Scores in the order of the first stream: probabilities, of "svm" the decision
            values (kind "logits"; their softmax is a ranking and no calibrated probability).

        Raises:
            ScoresError: another number of streams, they cannot be aligned, or a method that does
                not join several labels.
        """
        if len(streams) != self.num_streams:
            raise ScoresError(
                f"This fusion joins {self.num_streams} streams, got {len(streams)}; give them "
                f"in the order that it was made with."
            )
        aligned = align(streams)
        first = aligned[0]
        if labels == "several" or (labels is None and first.truth is not None):
            self.check_several()
            values = self._join_independent(aligned).astype(np.float32)
        else:
            values = self._join(aligned).astype(np.float32)
        kind: ScoreKind = "logits" if self.method == "svm" else "probabilities"
        return Scores(first.names, first.labels, values, first.classes, kind, first.truth)

    def check_several(self) -> None:
        """Raise ScoresError unless several labels can be joined: each class by itself."""
        if self.method not in SEVERAL_METHODS or self.temperatures:
            raise ScoresError(
                f"Videos have several classes each, whose probabilities are independent: they are "
                f"joined by 'mean', 'product', or 'weighted' with given weights, not by "
                f"{str(self)!r}."
            )

    def _join_independent(self, aligned: tuple[Scores, ...]) -> NDArray[np.floating]:
        shares = np.stack([independent_probabilities(stream) for stream in aligned])  # (S, N, K)
        if self.method != "product":
            weights = self.weights or (1.0 / self.num_streams,) * self.num_streams
            return np.tensordot(np.asarray(weights), shares, axes=1)
        inside = np.clip(shares, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        return sigmoid((np.log(inside) - np.log1p(-inside)).mean(axis=0))

    def _join(self, aligned: tuple[Scores, ...]) -> NDArray[np.floating]:
        if self.classifier is not None:
            features = stacked_features(aligned)
            return self.classifier.apply(features, num_classes=len(aligned[0].classes))
        if self.method == "product":
            return np.exp(log_softmax(np.mean([log_probabilities(s) for s in aligned], axis=0)))
        if self.temperatures:
            log_probs = np.stack([log_probabilities(stream) for stream in aligned])  # (S, N, K)
            return np.exp(pooled(log_probs, np.divide(self.weights, self.temperatures)))
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
        write_text(path, json.dumps(self.values(), indent=1) + "\n")

    def values(self) -> dict[str, Any]:
        """Return the fusion as JSON holds it, to be read by `from_values`."""
        content = json.dumps({"format": FORMAT, **asdict(self)}, default=np.ndarray.tolist)
        values: dict[str, Any] = json.loads(content)
        return values

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Fusion:
        """Read a fusion that `save` wrote.

        Raises:
            ScoresError: the file is missing, is not JSON, or is no such fusion.
        """
        return cls.from_values(read_json(path, error=ScoresError), where=os.fspath(path))

    @classmethod
    def from_values(cls, content: object, *, where: str) -> Fusion:
        """Return the fusion that `values` describes.

        Args:
            content: what JSON holds.
            where: the file, for messages.

        Raises:
            ScoresError: it is no fusion, or an incomplete one.
        """
        if not isinstance(content, dict) or content.get("format") not in (FORMAT, FORMAT_1):
            raise ScoresError(f"{where}: is no fusion file ('format' is not {FORMAT!r}).")
        if content["format"] == FORMAT_1:
            content = {**content, "temperatures": ()}
        try:
            classifier = content["classifier"]
            return cls(
                method=content["method"],
                num_streams=int(content["num_streams"]),
                weights=tuple(float(weight) for weight in content["weights"]),
                temperatures=tuple(float(value) for value in content["temperatures"]),
                classifier=None if classifier is None else LinearClassifier(**classifier),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ScoresError(f"{where}: the fusion is incomplete or broken ({error}).") from error


def fit_fusion(fit_on: Sequence[Scores], *, method: FusionMethod) -> Fusion:
    """Fit a fusion on the scores of held-out training videos, one item a stream.

    "mean", "max" and "product" learn nothing; "weighted" fits weights and temperatures (see
    `fit_pool`), "svm" and "logistic" fit a classifier (see `linear.fit_linear`).

    Raises:
        UnknownNameError: no such method.
        ScoresError: `fit_on` cannot be aligned, or lacks labels where they are needed.
    """
    aligned = align(fit_on, what="fit_on")
    if method == "weighted":
        weights, temperatures = fit_pool(aligned)
        return Fusion(method, len(aligned), weights=weights, temperatures=temperatures)
    if method == "svm" or method == "logistic":
        return Fusion(method, len(aligned), classifier=fit_linear(aligned, kind=method))
    return Fusion(method, len(aligned))


def fuse(
    streams: Sequence[Scores],
    *,
    method: FusionMethod | None = None,
    weights: Sequence[float] | None = None,
    fit_on: Sequence[Scores] | None = None,
) -> Scores:
    """Join the scores of several streams.

    Args:
        streams: the same videos in any order, the same classes in the same order. Logits are
            turned into probabilities first.
        method: see the head of this module; None is "weighted" where `weights` or `fit_on` is
            given, else "mean".
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
    method: FusionMethod | None = None,
    weights: Sequence[float] | None = None,
    fit_on: Sequence[Scores] | None = None,
) -> Fusion:
    """Return the fusion that `fuse` applies, fitted where it learns; arguments and errors there."""
    if method is None:
        method = "mean" if weights is None and fit_on is None else "weighted"
    check_choice("fusion method", method, FusionMethod)
    streams = align(streams)
    if fit_on is not None:
        check_fit_on(streams, fit_on)
    if weights is not None:
        if method != "weighted":
            raise InputError(f"`weights` belong to the method 'weighted', not to {method!r}.")
        if fit_on is not None:
            raise InputError("Give `weights`, or `fit_on` to fit them on, not both.")
        return weighted_fusion(weights, num_streams=len(streams))
    if streams[0].truth is not None and (method in FITTED_METHODS or method == "max"):
        raise ScoresError(
            f"Videos have several classes each: their scores are joined by 'mean', 'product', or "
            f"'weighted' with given weights, not by {method!r}."
        )
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
