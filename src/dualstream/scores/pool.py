"""The fitted pool of streams: exponents by likelihood, streams only as far as they help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dualstream.scores.metrics import require_labels
from dualstream.scores.views import log_probabilities, log_softmax
from dualstream.types import Scores

SMALLEST_EXPONENT = 1e-3
"""Of a single stream: one that knows nothing still ranks the classes."""
SMALLEST_SPREAD = 1e-6
"""Of the logarithms of a video's probabilities."""


WAYS = tuple(tenths / 10 for tenths in range(10, 0, -1))
"""Parts of the way from the exponents without a stream to those of the highest likelihood with it
that are tried, the whole way first."""


class _Trial(NamedTuple):
    """Exponents, and what they make of the held-out videos."""

    exponents: NDArray[np.float64]
    """(S,)."""
    likelihoods: NDArray[np.float64]
    """(N,) logarithms of the true classes' probabilities."""
    num_right: int


def pooled(
    log_probs: NDArray[np.float64], exponents: NDArray[np.float64] | Sequence[float]
) -> NDArray[np.float64]:
    """Return log(p_1^e_1 * ... * p_S^e_S) scaled so that the probabilities sum to 1.

    Args:
        log_probs: (S, N, K) logarithms of the streams' probabilities.
        exponents: one a stream, 0 or above.

    Returns:
        (N, K).
    """
    return log_softmax(np.tensordot(np.asarray(exponents, np.float64), log_probs, axes=1))


def fit_pool(fit_on: Sequence[Scores]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fit weights and temperatures of `weighted` on the scores of held-out training videos.

    It starts with the stream that alone, its temperature fitted, has the highest mean
    log-likelihood of the true class. Another one joins, the one that helps most first, only where
    that raises the mean log-likelihood by more than one standard error of the difference (of the
    videos, paired) and gets no fewer videos right; all exponents are then fitted together. Where
    the highest likelihood gets fewer right, it goes only so far of the way there (`WAYS`) as gets
    none fewer: the log-likelihood is concave, so a part of the way is a part of the gain. So few
    held-out videos, or a stream of chance, leave the better stream as it is, bit for bit in its
    order of the classes, and what is worth joining is worth far more than a standard error.

    Args:
        fit_on: aligned, one item a stream, every class known.

    Returns:
        (weights, temperatures), one a stream. A stream's exponent is weight / temperature:
        temperatures bring the streams' log-probabilities to one spread over the classes, weights
        are the parts that the streams then have in the whole. They sum to 1; that of a stream
        that is left out is 0.

    Raises:
        ScoresError: there is no video, or a label is -1.

    Source:
        Product of experts with a power each: Hinton 2002, Training products of experts, and
        Genest & Zidek 1986 (logarithmic opinion pool). One temperature by likelihood: Guo et al.
        2017, On calibration of modern neural networks. One standard error towards the simpler
        choice: Breiman et al. 1984, Classification and regression trees, section 3.4.3.
    """
    require_labels(fit_on[0])
    labels = fit_on[0].labels
    log_probs = np.stack([log_probabilities(stream) for stream in fit_on])  # (S, N, K)

    def tried(exponents: NDArray[np.float64]) -> _Trial:
        values = pooled(log_probs, exponents)
        right = int((values.argmax(axis=1) == labels).sum())
        return _Trial(exponents, values[np.arange(len(labels)), labels], right)

    def fitted(chosen: tuple[int, ...]) -> _Trial:
        """The exponents of the highest likelihood of these streams."""
        exponents = np.zeros(len(fit_on))
        exponents[list(chosen)] = fit_exponents(log_probs[list(chosen)], labels)
        return tried(exponents)

    left = set(range(len(fit_on)))
    chosen: tuple[int, ...] = ()
    best: _Trial | None = None
    while left:
        trials = {place: fitted((*chosen, place)) for place in sorted(left)}
        joins = max(trials, key=lambda place: round(float(trials[place].likelihoods.mean()), 9))
        joined: _Trial | None = trials[joins]
        if best is not None:
            start, way = best.exponents, trials[joins].exponents - best.exponents
            on_the_way = (tried(start + part * way) for part in WAYS)
            joined = next((one for one in on_the_way if _is_better(one, best)), None)
        if joined is None:
            break
        best, chosen = joined, (*chosen, joins)
        left.remove(joins)
    assert best is not None
    # Streams differ in how far apart they put the classes; a weight counts what is left of that.
    spreads = np.maximum(log_probs.std(axis=2).mean(axis=1), SMALLEST_SPREAD)  # (S,)
    whole = float((best.exponents * spreads).sum())
    weights, temperatures = best.exponents * spreads / whole, spreads / whole
    return tuple(map(float, weights)), tuple(map(float, temperatures))


def _is_better(joined: _Trial, best: _Trial) -> bool:
    """Whether a stream more is clearly worth it."""
    gains = joined.likelihoods - best.likelihoods
    standard_error = gains.std() / np.sqrt(len(gains))
    return bool(gains.mean() > standard_error and joined.num_right >= best.num_right)


def fit_exponents(log_probs: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the exponents (S,) of the highest likelihood, each 0 or above; a convex problem.

    The true class counts as (N + 1) / (N + K) and every other one as 1 / (N + K), so that videos
    that are all right do not ask for an infinite exponent (Platt 1999, Probabilistic outputs for
    support vector machines, section 2.2).

    Args:
        log_probs: (S, N, K).
        labels: (N,) true classes.
    """
    from scipy.optimize import minimize

    num_streams, count, num_classes = log_probs.shape
    targets = np.full((count, num_classes), 1 / (count + num_classes))
    targets[np.arange(count), labels] = (count + 1) / (count + num_classes)

    def loss(exponents: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        values = pooled(log_probs, exponents)
        slopes = np.tensordot(log_probs, np.exp(values) - targets, axes=2)
        return -float((targets * values).sum()) / count, slopes / count

    lowest = SMALLEST_EXPONENT if num_streams == 1 else 0.0
    start = np.full(num_streams, 1 / num_streams)
    found = minimize(
        loss, start, jac=True, bounds=[(lowest, None)] * num_streams, options={"ftol": 1e-12}
    )
    exponents: NDArray[np.float64] = found.x
    return exponents
