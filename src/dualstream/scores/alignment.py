"""Alignment: the scores of several streams for the same videos in the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dualstream.errors import InputError, ScoresError
from dualstream.scores.metrics import first_names
from dualstream.types import Scores


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
        rows = np.array([place[name] for name in first.names], np.int64)
        ordered.append(
            replace(
                stream, names=first.names, labels=stream.labels[rows], scores=stream.scores[rows]
            )
        )
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
