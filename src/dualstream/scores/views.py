"""Average of the scores of many views of a video; softmax and its logarithm."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError, check_choice
from dualstream.types import Scores

ViewAverage = Literal["logits", "probabilities"]
"""Quantity that is averaged over the views of a video."""

SMALLEST_PROBABILITY = 1e-12
"""Stands for zero where a logarithm of a stored probability is needed."""


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the logarithm of the softmax over the last axis, for logits of any size.

    Args:
        logits: (..., K), finite.

    Returns:
        (..., K) in float64; exp of it sums to 1.

    Raises:
        ShapeError: there is no last axis, or it is empty.
    """
    values = np.asarray(logits, np.float64)
    if values.ndim < 1 or values.shape[-1] < 1:
        raise ShapeError(f"Logits must be (..., K) with K at least 1, got {values.shape}.")
    shifted = values - values.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the softmax over the last axis as float32, computed in float64; see `log_softmax`."""
    return np.exp(log_softmax(logits)).astype(np.float32)


def average_views(
    logits: NDArray[np.floating], *, average: ViewAverage = "logits"
) -> NDArray[np.float32]:
    """Average the views (segments x crops) of each video.

    Args:
        logits: (N, V, K), or (V, K) of one video; what a network returned.
        average: "logits" takes the mean of the logits, as TSN's reference code does and
            MMAction2's `average_clips="score"`; "probabilities" takes the mean of their
            softmax, as `average_clips="prob"` does and Simonyan & Zisserman (2014, section 5)
            describe for the 250 views of a video.

    Returns:
        (N, K) or (K,) float32: logits, or probabilities that sum to 1.

    Raises:
        ShapeError: another number of dimensions, or no view.
        InputError: a value is NaN or infinite.
        UnknownNameError: `average` is not one of the two.
    """
    check_choice("average of views", average, ViewAverage)
    values = np.asarray(logits, np.float64)
    if values.ndim not in (2, 3) or 0 in values.shape[-2:]:
        raise ShapeError(
            f"Logits of views must be (N, V, K) or (V, K) with at least one view and class, "
            f"got {values.shape}."
        )
    if not np.isfinite(values).all():
        raise InputError("Logits of views hold a NaN or an infinity: the network has diverged.")
    if average == "probabilities":
        values = np.exp(log_softmax(values))
    mean: NDArray[np.float32] = values.mean(axis=-2).astype(np.float32)
    return mean


def probabilities(scores: Scores) -> NDArray[np.float64]:
    """Return (N, K) probabilities: the softmax of logits, or the scores themselves."""
    if scores.kind == "probabilities":
        return scores.scores.astype(np.float64)
    return np.exp(log_softmax(scores.scores))


def log_probabilities(scores: Scores) -> NDArray[np.float64]:
    """Return (N, K) logarithms of the probabilities; stored zeros count as 1e-12."""
    if scores.kind == "probabilities":
        clipped = np.maximum(scores.scores.astype(np.float64), SMALLEST_PROBABILITY)
        return np.log(clipped)
    return log_softmax(scores.scores)
