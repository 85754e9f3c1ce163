"""What was measured, and the tables made of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

REAL_GROUP = "real"


@dataclass
class PairResult:
    """Every contender on one pair."""

    name: str
    group: str
    """`real`, or a group of pairs with known flow."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Contender -> median of its calls."""
    error_px: dict[str, float] = field(default_factory=dict)
    """Contender -> mean end-point error; pairs with known flow only."""
    photometric: dict[str, float] = field(default_factory=dict)
    """Contender -> mean difference of the images along the flow; real pairs only."""
    energy: dict[str, float] = field(default_factory=dict)
    """Contender -> TV-L1 energy a pixel; real pairs only."""

    def rounded(self) -> dict[str, Any]:
        """For JSON, to the digits that mean something; measures without values are left out."""
        measures = {
            "milliseconds": {name: 1e3 * value for name, value in self.seconds.items()},
            "error_px": self.error_px,
            "photometric": self.photometric,
            "tvl1_energy": self.energy,
        }
        found = {
            measure: {name: _digits(values[name]) for name in self.seconds if name in values}
            for measure, values in measures.items()
            if values
        }
        return {"name": self.name, "group": self.group, **found}


@dataclass(frozen=True)
class Spread:
    """Median of numbers, and where the middle 80 % of them lie."""

    median: float
    decile_1: float
    decile_9: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Deciles are interpolated between neighbouring values."""
        low, middle, high = np.quantile(np.asarray(values, float), [0.1, 0.5, 0.9])
        return cls(float(middle), float(low), float(high))

    def text(self, digits: int) -> str:
        """'32.1 (30.0-35.2)' with so many digits after the point."""
        low, high = f"{self.decile_1:.{digits}f}", f"{self.decile_9:.{digits}f}"
        return f"{self.median:.{digits}f} ({low}-{high})"


@dataclass(frozen=True)
class Speed:
    """One contender's time on the timed pairs, beside the reference's."""

    milliseconds: Spread
    ratio_of_sums: float
    """Reference's time on all pairs / this one's: above 1 is faster."""
    ratio: Spread
    """The same for each pair alone."""


def speeds(pairs: Sequence[PairResult], reference: str) -> dict[str, Speed]:
    """Time of each contender over pairs that all of them computed; empty without pairs."""
    if not pairs:
        return {}
    base = [pair.seconds[reference] for pair in pairs]
    found = {}
    for name in pairs[0].seconds:
        own = [pair.seconds[name] for pair in pairs]
        found[name] = Speed(
            milliseconds=Spread.of([1e3 * value for value in own]),
            ratio_of_sums=sum(base) / sum(own),
            ratio=Spread.of([b / o for b, o in zip(base, own, strict=True)]),
        )
    return found


def group_means(pairs: Iterable[PairResult], measure: str) -> dict[str, dict[str, float]]:
    """Group -> contender -> mean of a measure (a field of PairResult) over the group's pairs."""
    values: dict[str, dict[str, list[float]]] = {}
    for pair in pairs:
        for name, value in getattr(pair, measure).items():
            values.setdefault(pair.group, {}).setdefault(name, []).append(value)
    return {
        group: {name: statistics.fmean(found) for name, found in by_name.items()}
        for group, by_name in values.items()
    }


def relative_errors(means: dict[str, dict[str, float]], reference: str) -> dict[str, float]:
    """Contender -> geometric mean over the groups of its mean error / the reference's."""
    contenders = next(iter(means.values()), {})
    return {
        name: math.exp(
            statistics.fmean(math.log(group[name] / group[reference]) for group in means.values())
        )
        for name in contenders
    }


def speed_table(found: dict[str, Speed], labels: dict[str, str]) -> list[list[str]]:
    """Rows of text, the first of them the heading."""
    rows = [["method", "ms a pair (10-90 %)", "x OpenCV, sums", "x OpenCV, each pair (10-90 %)"]]
    for name, speed in found.items():
        digits = 1 if speed.milliseconds.median >= 10 else 2
        rows.append(
            [
                labels[name],
                speed.milliseconds.text(digits),
                f"{speed.ratio_of_sums:.{2 if speed.ratio_of_sums < 10 else 0}f}",
                speed.ratio.text(2 if speed.ratio.median < 10 else 0),
            ]
        )
    return rows


def error_table(
    means: dict[str, dict[str, float]], labels: dict[str, str], reference: str
) -> list[list[str]]:
    """Rows of text: mean end-point error in px by group, and all groups relative to OpenCV's."""
    relative = relative_errors(means, reference)
    rows = [["method", *(f"{group} px" for group in means), "/ OpenCV"]]
    for name in (name for name in labels if name in relative):
        errors = (f"{group[name]:.3f}" for group in means.values())
        rows.append([labels[name], *errors, f"{relative[name]:.3f}"])
    return rows


def image_table(pairs: Sequence[PairResult], labels: dict[str, str]) -> list[list[str]]:
    """Rows of text: photometric error and TV-L1 energy of the real pairs."""
    differences = group_means(pairs, "photometric").get(REAL_GROUP, {})
    energies = group_means(pairs, "energy").get(REAL_GROUP, {})
    rows = [["method", "photometric error", "TV-L1 energy a pixel"]]
    for name in (name for name in labels if name in differences):
        rows.append([labels[name], f"{differences[name]:.3f}", f"{energies[name]:.4f}"])
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal and for a Markdown file alike."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
