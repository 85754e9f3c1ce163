"""How well a project's classifier does on what it was not taught."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.engine.teach.samples import Samples
from dualstream.types import BACKGROUND, Labels

MeasuredOver = Literal["videos", "intervals", "nothing"]
"""Whether what is measured comes from other videos than what was taught, or from other marks."""


@dataclass(frozen=True)
class ClassReport:
    """One class, measured on held-out windows; None where nothing of it could be held out."""

    examples: int
    """Marks."""
    windows: int
    """That it is taught from."""
    precision: float | None
    """Share of the windows given this class that have it."""
    recall: float | None
    """Share of the windows of this class that are given it."""
    f1: float | None
    """2 * right / (given + true)."""


@dataclass(frozen=True)
class TeachReport:
    """What came of a training."""

    classes: tuple[str, ...]
    labels: Labels
    streams: tuple[str, ...]
    """What was seen: RGB, and the network or the histograms of motion."""
    c: float
    """Inverse strength of regularisation of the classifier."""
    measured_over: MeasuredOver
    accuracy: float | None
    """Share of the held-out windows that are right; with several labels, in all of them."""
    chance: float | None
    """The same for always saying what is most frequent."""
    interval_accuracy: float | None
    """Share of the held-out marks whose windows together give their label."""
    per_class: Mapping[str, ClassReport]
    confusion: tuple[tuple[int, ...], ...] | None
    """Held-out windows, a row for each true class, a column for each given one; None with several
    labels."""
    notes: tuple[str, ...] = ()
    """What to know about the figures, and what to mark next."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Phase -> time that it took."""

    def entry(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return asdict(self)

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> TeachReport:
        """Return the report that `entry` gave."""
        values = dict(entry)
        values["per_class"] = {n: ClassReport(**v) for n, v in values["per_class"].items()}
        for name in ("classes", "streams", "notes"):
            values[name] = tuple(values[name])
        if values["confusion"] is not None:
            values["confusion"] = tuple(map(tuple, values["confusion"]))
        return cls(**values)


def given_classes(probabilities: NDArray[np.floating], *, labels: Labels) -> NDArray[np.bool_]:
    """Return (N, K) the classes that probabilities give: the best one, or all from .5 on."""
    if labels == "several":
        return np.asarray(probabilities >= 0.5)
    best: NDArray[np.bool_] = np.zeros(probabilities.shape, np.bool_)
    best[np.arange(len(best)), probabilities.argmax(axis=1)] = True
    return best


def measure(
    samples: Samples,
    classes: tuple[str, ...],
    held_out: NDArray[np.float64],
    *,
    labels: Labels,
    streams: Iterable[str],
    c: float,
    measured_over: MeasuredOver,
    notes: Iterable[str] = (),
    seconds: Mapping[str, float] | None = None,
) -> TeachReport:
    """Return the report of a training.

    Args:
        samples: N windows.
        classes: K names.
        held_out: (N, K) probabilities by classifiers that did not see a window's group, rows of NaN
            where there are none.
        labels, streams, c, measured_over, notes, seconds: see `TeachReport`.
    """
    measured = ~np.isnan(held_out).any(axis=1)
    truth, given = samples.targets[measured], given_classes(held_out[measured], labels=labels)
    per_class = {
        name: _class_report(samples, label, name, truth, given)
        for label, name in enumerate(classes)
    }
    rows, counts = np.unique(truth, axis=0, return_counts=True)
    return TeachReport(
        classes=classes,
        labels=labels,
        streams=tuple(streams),
        c=c,
        measured_over=measured_over if measured.any() else "nothing",
        accuracy=float((truth == given).all(axis=1).mean()) if measured.any() else None,
        chance=float(counts.max() / counts.sum()) if len(rows) else None,
        interval_accuracy=_interval_accuracy(samples, classes, held_out, labels),
        per_class=per_class,
        confusion=_confusion(truth, given) if labels == "one" else None,
        notes=(*notes, *_advice(per_class, classes, samples, labels)),
        seconds=dict(seconds or {}),
    )


def _class_report(
    samples: Samples,
    label: int,
    name: str,
    truth: NDArray[np.bool_],
    given: NDArray[np.bool_],
) -> ClassReport:
    has, says = truth[:, label], given[:, label]
    right = int((has & says).sum())
    is_measured = bool(has.any())
    return ClassReport(
        examples=sum(mark.label == name for mark in samples.of_marks),
        windows=int(samples.targets[:, label].sum()),
        precision=right / int(says.sum()) if is_measured and says.any() else None,
        recall=right / int(has.sum()) if is_measured else None,
        f1=2 * right / int(has.sum() + says.sum()) if is_measured else None,
    )


def _confusion(truth: NDArray[np.bool_], given: NDArray[np.bool_]) -> tuple[tuple[int, ...], ...]:
    table = truth.astype(np.int64).T @ given.astype(np.int64)
    return tuple(tuple(int(value) for value in row) for row in table)


def _interval_accuracy(
    samples: Samples, classes: tuple[str, ...], held_out: NDArray[np.float64], labels: Labels
) -> float | None:
    """Share of marks that the mean over their windows tells."""
    right = []
    for mark, places in samples.of_marks.items():
        if mark.label not in classes or not len(places) or np.isnan(held_out[places]).any():
            continue
        mean = held_out[places].mean(axis=0, keepdims=True)
        right.append(given_classes(mean, labels=labels)[0, classes.index(mark.label)])
    return float(np.mean(right)) if right else None


def _advice(
    per_class: Mapping[str, ClassReport],
    classes: tuple[str, ...],
    samples: Samples,
    labels: Labels,
) -> list[str]:
    """Say which classes have too little to be taught or measured, and what to mark next."""
    notes = []
    for name, found in per_class.items():
        if name == BACKGROUND:
            continue
        if found.examples == 1:
            notes.append(
                f"{name!r} has one example: it is taught from that alone and cannot be measured. "
                "Mark more."
            )
        elif found.recall is None:
            notes.append(
                f"{name!r} is marked in one video only, so how well it is told in others is not "
                "known. Mark it in a second video."
            )
    if labels == "one" and BACKGROUND not in classes:
        notes.append(
            "Nothing says what is none of the actions, so every moment gets the likeliest of them. "
            f"Mark some {BACKGROUND!r}, or say which videos are marked completely."
        )
    if labels == "several" and samples.targets.any(axis=1).all():
        notes.append(
            "No time without any action is known. Say which videos are marked completely, or mark "
            f"some {BACKGROUND!r}."
        )
    return notes
