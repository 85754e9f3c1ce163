"""Classes that exchange their places when a picture is mirrored: `push left` and `push right`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dualstream.clips.data.annotations.entries import normalize_class

_OPPOSITE = {"left": "right", "clockwise": "counterclockwise"}
_OPPOSITE |= {other: name for name, other in _OPPOSITE.items()}
_COUNTER = re.compile(r"\b(?:anti|counter)[- ]?clockwise\b")
_SIDE = re.compile(rf"\b({'|'.join(_OPPOSITE)})(?=wards?\b|\b)")


def mirrored_classes(classes: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of classes of which a mirrored picture of one shows the other.

    They are those whose names differ by left and right, or by clockwise and counterclockwise:
    `Pushing something from left to right` and `Pushing something from right to left`,
    `swipe_left` and `SwipeRight`. `bright` and `leftover` name no side.

    Args:
        classes: names in the order of their labels.

    Returns:
        (label, label of the mirrored class), each pair once and its smaller label first.
    """
    names = [_words(name) for name in classes]
    labels = {name: label for label, name in enumerate(names)}
    mirrored = [_SIDE.sub(lambda match: _OPPOSITE[match[1]], name) for name in names]
    pairs = [(label, labels.get(name, label)) for label, name in enumerate(mirrored)]
    return tuple((label, other) for label, other in pairs if label < other)


def mirrored_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the label that each class has in a mirrored picture; its own unless it has a pair.

    (walk, turn left, turn right) -> (0, 2, 1).
    """
    labels = list(range(len(classes)))
    for label, other in mirrored_classes(classes):
        labels[label], labels[other] = other, label
    return tuple(labels)


def _words(name: str) -> str:
    """`TurnLeft`, `turn_left` and `Turn left` -> `turn left`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return _COUNTER.sub("counterclockwise", normalize_class(apart))
