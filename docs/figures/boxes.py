"""Figures as data: boxes on a grid, and arrows between them.

Shapes are channels x frames x height x width of one clip, without the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["input", "layer", "join", "motion", "output"]


@dataclass(frozen=True)
class Box:
    """A step of the data's way."""

    name: str
    column: float
    row: float
    text: str
    shape: str = ""
    kind: Kind = "layer"
    layer: str = ""
    """`RECIPE:LAYER` whose output has the shape; a test asks `dualstream inspect`."""


@dataclass(frozen=True)
class Arrow:
    """From one box to another."""

    start: str
    end: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """One SVG file."""

    name: str
    title: str
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    note: str = ""


def chain(*names: str) -> list[Arrow]:
    """Arrows from each box to the next."""
    return [Arrow(first, second) for first, second in itertools.pairwise(names)]


def lane(
    prefix: str, row: float, recipe: str, *steps: tuple[str, str, str], column: float = 0
) -> list[Box]:
    """Boxes side by side, each (text, shape, layer); the first is the input, the last the logits.

    They are named prefix0, prefix1, ...
    """
    boxes = []
    for number, (text, shape, layer) in enumerate(steps):
        kind: Kind = "layer"
        if number == 0:
            kind = "input"
        elif shape == "400":
            kind = "output"
        boxes.append(
            Box(
                name=f"{prefix}{number}",
                column=column + number,
                row=row,
                text=text,
                shape=shape,
                kind=kind,
                layer=f"{recipe}:{layer}" if layer else "",
            )
        )
    return boxes


def along(boxes: Sequence[Box]) -> list[Arrow]:
    """Arrows along a lane."""
    return chain(*(box.name for box in boxes))
