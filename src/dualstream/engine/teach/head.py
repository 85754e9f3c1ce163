"""The classifier of a project: logistic regression on the joined features of both streams."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.data.groups import deal_groups
from dualstream.engine.teach.steps import RGB
from dualstream.errors import ShapeError
from dualstream.scores.views import softmax
from dualstream.types import Labels

CANDIDATES = (0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of regularisation C that cross-validation chooses from."""

USUAL_C = 1.0
"""Where there are too few examples to choose."""

OUTER_FOLDS, INNER_FOLDS = 5, 3

Rows = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(K, D) coefficients and (K,) intercepts."""

_SURE = 4.0
"""Logit of a class that all windows have; its opposite of one that none has."""


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier over standardised blocks of features."""

    labels: Labels
    """Whether probabilities are of one class of all (softmax) or of each by itself (sigmoid)."""
    sizes: Mapping[str, int]
    """Block -> its part of D, in their order."""
    mean: NDArray[np.float64]
    """(D,) subtracted."""
    scale: NDArray[np.float64]
    """(D,) divisor, above 0."""
    coefficients: NDArray[np.float64]
    """(K, D)."""
    intercepts: NDArray[np.float64]
    """(K,); -infinity for a class that nothing was an example of."""
    c: float
    """Inverse strength of regularisation."""

    def logits(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, D) -> (N, K); ShapeError where D is another."""
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise ShapeError(
                f"The classifier takes (N, {len(self.mean)}) features, got {vectors.shape}."
            )
        found: NDArray[np.float64] = self._standardized(vectors) @ self.coefficients.T
        return found + self.intercepts

    def probabilities(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, D) -> (N, K), summing to 1 with labels "one"."""
        logits = self.logits(vectors)
        if self.labels == "one":
            return np.asarray(softmax(logits), np.float32)
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-logits)), np.float32)

    def plain(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (K, D) weights and (K,) biases that take features as they are."""
        weights = self.coefficients / self.scale
        return weights, self.intercepts - weights @ self.mean

    def _standardized(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (vectors - self.mean) / self.scale
        return scaled


def fit_head(
    vectors: NDArray[np.floating],
    targets: NDArray[np.bool_],
    *,
    sizes: Mapping[str, int],
    labels: Labels,
    c: float,
) -> Head:
    """Fit the classifier, every class with the same weight.

    Features are standardised. Then both streams are brought to the same total variance, and so are
    the blocks within a stream: a thousand features of RGB do not drown a hundred of motion.

    Args:
        vectors: (N, D).
        targets: (N, K) which classes each has; one each with labels "one".
        sizes: block -> its part of D.
        labels: see `Head`.
        c: inverse strength of regularisation.
    """
    x = np.asarray(vectors, np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    num_motion = sum(name != RGB for name in sizes)
    shares = [(size, 1 if name == RGB else num_motion) for name, size in sizes.items()]
    weight = np.concatenate([np.full(size, (size * share) ** 0.5) for size, share in shares])
    scale = np.where(deviation > 1e-8, deviation, 1.0) * weight
    z = (x - mean) / scale
    # Weights of the least norm lie in the space of the samples: N numbers do instead of D.
    basis = None
    if z.shape[0] < z.shape[1]:
        u, s, basis = np.linalg.svd(z, full_matrices=False)
        z = u * s
    fit = _one_of_all if labels == "one" else _each_by_itself
    coefficients, intercepts = fit(z, targets, c)
    if basis is not None:
        coefficients = coefficients @ basis
    return Head(labels, dict(sizes), mean, scale, coefficients, intercepts, c)


def _one_of_all(z: NDArray[np.float64], targets: NDArray[np.bool_], c: float) -> Rows:
    """Multinomial logistic regression; a class that does not occur cannot win."""
    coefficients = np.zeros((targets.shape[1], z.shape[1]))
    intercepts = np.full(targets.shape[1], -np.inf)
    numbers = targets.argmax(axis=1)
    there = np.unique(numbers)
    if len(there) == 1:
        intercepts[there] = 0.0
        return coefficients, intercepts
    model = _regression(z, numbers, c)
    weights, biases = model.coef_, model.intercept_
    if len(there) == 2:
        # sklearn keeps one row, the second class against the first; halved and with both signs it
        # is the same softmax.
        weights, biases = (np.concatenate((-one, one)) / 2 for one in (weights, biases))
    coefficients[there], intercepts[there] = weights, biases
    return coefficients, intercepts


def _each_by_itself(z: NDArray[np.float64], targets: NDArray[np.bool_], c: float) -> Rows:
    """A logistic regression of each class against all that is without it."""
    rows = [_against_the_rest(z, has, c) for has in targets.T]
    return np.stack([weights for weights, _ in rows]), np.array([bias for _, bias in rows])


def _against_the_rest(
    z: NDArray[np.float64], has: NDArray[np.bool_], c: float
) -> tuple[NDArray[np.float64], float]:
    """Return (D,) weights and the bias of one class."""
    if has.all() or not has.any():
        return np.zeros(z.shape[1]), _SURE if has.all() else -_SURE
    model = _regression(z, has, c)
    return model.coef_[0], float(model.intercept_[0])


def _regression(z: NDArray[np.float64], numbers: NDArray[Any], c: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # Large C on few samples stops at max_iter: cross-validation judges the result anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=c, class_weight="balanced", max_iter=1000, tol=1e-5).fit(
            z, numbers
        )


def folds_of(
    targets: NDArray[np.bool_], groups: NDArray[np.str_], *, folds: int, seed: int = 0
) -> list[NDArray[np.bool_]]:
    """Return which samples are held out in each fold; groups stay together.

    A group with a class that nothing outside its fold could teach is in none (`deal_groups`).

    Args:
        targets: (N, K).
        groups: (N,).
        folds: at most so many.
        seed: another one deals otherwise.
    """
    nothing = targets.shape[1]
    pairs = [
        (label, str(group))
        for has, group in zip(targets, groups, strict=True)
        for label in (np.flatnonzero(has).tolist() or [nothing])
    ]
    folds = min(folds, len(set(groups.tolist())))
    if folds < 2:
        return []
    dealt = deal_groups(pairs, folds=folds, seed=seed)
    held = [np.isin(groups, sorted(fold)) for fold in dealt if fold]
    return [mask for mask in held if mask.any() and not mask.all()]


def choose_c(
    vectors: NDArray[np.floating],
    targets: NDArray[np.bool_],
    groups: NDArray[np.str_],
    *,
    sizes: Mapping[str, int],
    labels: Labels,
) -> float:
    """Return the C with the least loss in cross-validation over groups; of equals the smallest.

    The loss is the mean cross entropy of each class, so that it counts the same however often it
    is there. `USUAL_C` where nothing can be held out.
    """
    folds = folds_of(targets, groups, folds=INNER_FOLDS)
    if not folds:
        return USUAL_C

    def loss(c: float) -> float:
        found = np.full(targets.shape, np.nan)
        for held in folds:
            head = fit_head(vectors[~held], targets[~held], sizes=sizes, labels=labels, c=c)
            found[held] = head.probabilities(vectors[held])
        return mean_loss(found, targets, labels=labels)

    return min(CANDIDATES, key=loss)


def mean_loss(
    probabilities: NDArray[np.floating], targets: NDArray[np.bool_], *, labels: Labels
) -> float:
    """Return the cross entropy, the mean over classes of the mean over their samples.

    Args:
        probabilities: (N, K); rows of NaN were not held out and do not count.
        targets: (N, K).
        labels: "several" counts samples without a class too, as a second mean of each.
    """
    measured = ~np.isnan(probabilities).any(axis=1)
    p, has = np.clip(probabilities[measured], 1e-6, 1 - 1e-6), targets[measured]
    losses = [-np.log(p[has[:, k], k]).mean() for k in range(has.shape[1]) if has[:, k].any()]
    if labels == "several":
        lacks = ~has
        losses += [
            -np.log(1 - p[lacks[:, k], k]).mean() for k in range(has.shape[1]) if lacks[:, k].any()
        ]
    return float(np.mean(losses)) if losses else float("inf")


def held_out_probabilities(
    vectors: NDArray[np.floating],
    targets: NDArray[np.bool_],
    groups: NDArray[np.str_],
    *,
    sizes: Mapping[str, int],
    labels: Labels,
) -> Iterator[NDArray[np.float64]]:
    """Yield (N, K) what classifiers that did not see a sample's group say of it, fold by fold.

    C is chosen for each fold within what it is fitted on. Rows that are not measured, yet or at
    all, are NaN.
    """
    found = np.full(targets.shape, np.nan)
    for held in folds_of(targets, groups, folds=OUTER_FOLDS):
        x, y = vectors[~held], targets[~held]
        c = choose_c(x, y, groups[~held], sizes=sizes, labels=labels)
        head = fit_head(x, y, sizes=sizes, labels=labels, c=c)
        found[held] = head.probabilities(vectors[held])
        yield found


def columns_of(sizes: Mapping[str, int], blocks: Sequence[str]) -> NDArray[np.int64]:
    """Return the places in D of some blocks."""
    ends = np.cumsum([0, *sizes.values()])
    return np.concatenate(
        [
            np.arange(first, first + size)
            for first, (name, size) in zip(ends, sizes.items(), strict=False)
            if name in blocks
        ]
    )
