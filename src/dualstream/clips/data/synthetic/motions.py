"""Motions: orders in which the places of a circle are visited. Integers only."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import UnknownNameError

STEPS: dict[str, tuple[int, ...]] = {
    "fast": (3,),
    "shuttle": (5, -3),
    "slow": (1,),
    "stutter": (3, -1),
}
"""Steps between the places of consecutive frames, repeated to the end of the video.

Pairs are odd and add up to 2: from place 0, even frames are at the even places and odd frames at
the odd ones.
"""


def place_order(
    motion: str, *, num_frames: int, first: int = 0, direction: Literal[-1, 1] = 1
) -> NDArray[np.int64]:
    """Place in each frame: a permutation of 0..num_frames-1.

    Eight frames of stutter: 0 3 2 5 4 7 6 1 (steps +3 -1 +3 -1 ..., modulo 8).

    Args:
        motion: one of `MOTIONS`.
        num_frames: T, even and no multiple of 3 (else places are left out).
        first: place in frame 0.
        direction: 1 goes up the places, -1 down.

    Raises:
        UnknownNameError: another motion.
    """
    if motion not in STEPS:
        raise UnknownNameError("motion", motion, STEPS)
    steps = np.resize(np.array(STEPS[motion], np.int64), num_frames - 1)
    walked = np.concatenate([np.zeros(1, np.int64), np.cumsum(steps)])
    order: NDArray[np.int64] = (first + direction * walked) % num_frames
    return order
