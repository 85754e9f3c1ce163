"""Scores brought together: views of a video averaged, videos of several streams aligned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ScoresError, ShapeError, check_choice, first_names
from dualstream.types import ScoreKind, Scores

Average = Literal[ScoreKind, "independent"]

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


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-logits)) in float64, for logits of any size."""
    values: NDArray[np.float64] = 0.5 * (1 + np.tanh(np.asarray(logits, np.float64) / 2))
    return values


def average_views(
    logits: NDArray[np.floating], *, average: Average = "logits"
) -> NDArray[np.float32]:
    """Average the views (segments x crops) of each video.

    Args:
        logits: (N, V, K), or (V, K) of one video; what a network returned.
        average: "logits" takes the mean of the logits, as TSN's reference code does and
            MMAction2's `average_clips="score"`; "probabilities" takes the mean of their
            softmax, as `average_clips="prob"` does and Simonyan & Zisserman (2014, section 5)
            describe for the 250 views of a video; "independent" the mean of their sigmoid, for
            networks that tell several classes at once.

    Returns:
        (N, K) or (K,) float32: logits, or probabilities that sum to 1, or independent ones.

    Raises:
        ShapeError: another number of dimensions, or no view.
        InputError: a value is NaN or infinite.
        UnknownNameError: `average` is not one of the two.
    """
    check_choice("average of views", average, Average)
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
    elif average == "independent":
        values = sigmoid(values)
    mean: NDArray[np.float32] = values.mean(axis=-2).astype(np.float32)
    return mean


def probabilities(scores: Scores) -> NDArray[np.float64]:
    """Return (N, K) probabilities: the softmax of logits, or the scores themselves."""
    if scores.kind == "probabilities":
        return scores.scores.astype(np.float64)
    return np.exp(log_softmax(scores.scores))


def independent_probabilities(scores: Scores) -> NDArray[np.float64]:
    """Return (N, K) probabilities of each class by itself: the sigmoid of logits, or the scores."""
    if scores.kind == "probabilities":
        return scores.scores.astype(np.float64)
    return sigmoid(scores.scores)


def log_probabilities(scores: Scores) -> NDArray[np.float64]:
    """Return (N, K) logarithms of the probabilities; stored zeros count as 1e-12."""
    if scores.kind == "probabilities":
        clipped = np.maximum(scores.scores.astype(np.float64), SMALLEST_PROBABILITY)
        return np.log(clipped)
    return log_softmax(scores.scores)


def only_common(streams: Sequence[Scores]) -> list[Scores]:
    """Return each stream without the videos that some other stream has no scores of."""
    names = set.intersection(*(set(stream.names) for stream in streams))
    kept = []
    for stream in streams:
        rows = [row for row, name in enumerate(stream.names) if name in names]
        kept.append(stream.rows(rows))
    return kept


def align(streams: Sequence[Scores], *, what: str = "streams") -> tuple[Scores, ...]:
    """Put every stream's videos in the order of the first stream.

    A class that one stream does not know (label -1) is taken from a stream that does.

    Args:
        streams: one or more; the same videos in any order, the same classes in the same order.
        what: name of the argument, for messages.

    Returns:
        The streams with identical `names`, `labels` and `classes`.

    Raises:
        InputError: there is no stream.
        ScoresError: a name occurs twice, videos are missing from a stream, classes differ, or
            two streams disagree about the true class of a video.
    """
    if not streams:
        raise InputError(f"There must be at least one of `{what}`, got none.")
    first = streams[0]
    for number, stream in enumerate(streams):
        _require_same_videos(first, stream, what, number)
    ordered = []
    for stream in streams:
        place = {name: row for row, name in enumerate(stream.names)}
        ordered.append(stream.rows([place[name] for name in first.names]))
    labels = ordered[0].labels.copy()
    for number, stream in enumerate(ordered):
        both_known = (labels >= 0) & (stream.labels >= 0)
        differing = np.flatnonzero(both_known & (labels != stream.labels))
        if differing.size:
            at = int(differing[0])
            raise ScoresError(
                f"The true class of {differing.size} videos differs between {what}[0] and "
                f"{what}[{number}]: {first.names[at]!r} is {first.classes[labels[at]]!r} in one "
                f"and {first.classes[stream.labels[at]]!r} in the other. They come from "
                f"different annotations; score both streams with the same manifest."
            )
        labels = np.where(labels >= 0, labels, stream.labels)
    return tuple(replace(stream, labels=labels) for stream in ordered)


def _require_same_videos(first: Scores, stream: Scores, what: str, number: int) -> None:
    """Raise ScoresError unless a stream has the classes of the first, and its videos once each."""
    if twice := sorted(name for name, times in Counter(stream.names).items() if times > 1):
        raise ScoresError(
            f"{what}[{number}] has {len(twice)} names more than once: {first_names(twice)}. "
            f"Each video needs one row of scores."
        )
    if first.classes != stream.classes:
        only_first = sorted(set(first.classes) - set(stream.classes))
        only_this = sorted(set(stream.classes) - set(first.classes))
        raise ScoresError(
            f"{what}[0] and {what}[{number}] have different classes ({len(first.classes)} and "
            f"{len(stream.classes)}): only in the first {first_names(only_first) or 'none'}; only "
            f"in the other {first_names(only_this) or 'none'}."
            if only_first or only_this
            else f"{what}[0] and {what}[{number}] have the same {len(first.classes)} classes in "
            f"another order: train both streams with the same manifest."
        )
    for one, other, place, of in ((stream, first, number, 0), (first, stream, 0, number)):
        if missing := sorted(set(other.names) - set(one.names)):
            raise ScoresError(
                f"{what}[{place}] lacks {len(missing)} of the {len(other)} videos of {what}[{of}]: "
                f"{first_names(missing)}. Score the same list of videos with every stream."
            )
