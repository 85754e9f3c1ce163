"""What the classifier of a project sees: features of the steps of a video, of both streams.

A video is cut into steps that lie side by side. Of each step a frozen network sees some frames, and
another one their flow, or histograms of that flow are taken. A window is some neighbouring steps,
whose mean it has: windows that overlap share their steps, which are computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import check_shape
from dualstream.flow.histograms import root_normalized

RGB, MOTION = "rgb", "motion"
"""Names of the networks' blocks."""

HISTOGRAM_BLOCKS = ("hof", "mbh_x", "mbh_y")
"""Blocks of motion without a network."""


@dataclass(frozen=True, eq=False)
class StepFeatures:
    """Features of steps, or of windows, of one video."""

    seconds: NDArray[np.float64]
    """(M, 2) start and end of each, from the first frame."""
    blocks: Mapping[str, NDArray[np.float32]]
    """Name -> (M, D)."""

    def __post_init__(self) -> None:
        check_shape("StepFeatures.seconds", self.seconds, ("M", 2))
        for name, table in self.blocks.items():
            check_shape(
                f"StepFeatures.blocks[{name!r}]", table, (len(self.seconds), "D"), "float32"
            )

    def __len__(self) -> int:
        return len(self.seconds)


def joined(parts: Sequence[StepFeatures]) -> StepFeatures:
    """Return the features of parts of a video, at least one, one after the other."""
    return StepFeatures(
        np.concatenate([part.seconds for part in parts]),
        {name: np.concatenate([part.blocks[name] for part in parts]) for name in parts[0].blocks},
    )


def windows_of(steps: StepFeatures, *, count: int) -> StepFeatures:
    """Return the features of the windows of `count` neighbouring steps, one from each step on.

    They are means over the steps; histograms are then scaled (`root_normalized`). A video of fewer
    steps is one window. Of steps 0, 1, 2, 3 and a count of 2 the windows are 0-1, 1-2, 2-3.
    """
    count = min(count, len(steps))
    firsts = np.arange(len(steps) - count + 1)
    seconds = np.stack((steps.seconds[firsts, 0], steps.seconds[firsts + count - 1, 1]), axis=1)
    blocks = {}
    for name, table in steps.blocks.items():
        # (windows, count, D) -> (windows, D)
        means = table[firsts[:, None] + np.arange(count)].mean(axis=1)
        blocks[name] = root_normalized(means) if name in HISTOGRAM_BLOCKS else means
    return StepFeatures(seconds, blocks)
