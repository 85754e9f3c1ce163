"""Which frames or fields of a video the snippets take: pure functions on integers.

`num_frames` is the number of positions that exist: F frames for RGB, F - 1 fields for flow.
`length` is the positions that one snippet covers, (T - 1) * stride + 1 (`StreamSpec.span`). Starts
are (S,), not falling and always within 0..num_frames - 1; in a video shorter than a snippet they
are 0, and `snippet_indices` then holds the last position or starts again. A count below 1 is an
InputError.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, check_choice, check_least
from dualstream.types import BeyondEnd

Indices = NDArray[np.int64]


def segment_starts_random(
    num_frames: int, *, segments: int, length: int, rng: np.random.Generator
) -> Indices:
    """Return the start of one random snippet in each of `segments` equal parts (TSN, training).

    With num_frames 30, segments 3, length 5: a part is (30 - 5 + 1) // 3 = 8 starts long, so the
    starts lie in 0..7, 8..15 and 16..23. Where a part is empty but the video still has more
    frames than segments, the starts are drawn from all possible ones and sorted; in a shorter
    video they are 0.

    Source:
        Wang et al. 2016, section 3; the indices follow TSN's published code.
    """
    check_least(1, num_frames=num_frames, segments=segments, length=length)
    starts = num_frames - length + 1
    part = starts // segments
    if part > 0:
        return np.arange(segments, dtype=np.int64) * part + rng.integers(part, size=segments)
    if starts > 0 and num_frames > segments:
        return np.sort(rng.integers(starts, size=segments))
    return np.zeros(segments, np.int64)


def segment_starts_center(num_frames: int, *, segments: int, length: int) -> Indices:
    """Return the start of the middle snippet of each of `segments` equal parts (TSN, testing).

    With tick = (num_frames - length + 1) / segments, start i is int(tick / 2 + tick * i):
    num_frames 30, segments 3, length 5 give tick 8.67 and starts 4, 13, 21. Halves and products
    are rounded as floating-point numbers are, as in the reference, which is one less than exact
    arithmetic now and then. A video shorter than one snippet gives zeros.

    Source:
        Wang et al. 2016; TSN's published code (its validation indices are zeros for videos of at
        most segments + length - 1 frames, its test indices are these).
    """
    check_least(1, num_frames=num_frames, segments=segments, length=length)
    tick = max(num_frames - length + 1, 0) / segments
    return (tick / 2 + tick * np.arange(segments)).astype(np.int64)


def evenly_spaced_starts(num_frames: int, *, count: int, length: int) -> Indices:
    """Return the starts of `count` snippets at equal distance, from the first to the last one.

    num_frames 100, count 5, length 10 give 0, 22, 45, 67, 90 (floors of multiples of 22.5). One
    snippet is put in the middle. A short video gives repeated starts.

    Source:
        Simonyan & Zisserman 2014, section 5, Testing: 25 frames with equal temporal spacing.
    """
    check_least(1, num_frames=num_frames, count=count, length=length)
    last = max(num_frames - length, 0)
    if count == 1:
        return np.array([last // 2], np.int64)
    return np.arange(count, dtype=np.int64) * last // (count - 1)


def snippet_indices(
    starts: Indices, *, count: int, stride: int, num_frames: int, beyond_end: BeyondEnd = "hold"
) -> Indices:
    """Return the positions of every step of every snippet.

    Starts 0 and 7, count 3, stride 2, num_frames 10 give [[0, 2, 4], [7, 9, 9]], looped
    [[0, 2, 4], [7, 9, 1]].

    Args:
        starts: (S,).
        count: steps T of a snippet.
        stride: positions between two steps.
        num_frames: positions of the video.
        beyond_end: what comes after the last position: it again, or the first ones.

    Returns:
        (S, T).

    Raises:
        UnknownNameError: `beyond_end` is neither.
    """
    check_least(1, count=count, stride=stride, num_frames=num_frames)
    check_choice("beyond_end", beyond_end, BeyondEnd)
    steps = starts[:, None] + np.arange(count, dtype=np.int64)[None, :] * stride
    looped = beyond_end == "loop"
    return np.asarray(steps % num_frames if looped else np.minimum(steps, num_frames - 1))


def bidirectional_indices(
    starts: Indices, *, count: int, stride: int, num_fields: int
) -> tuple[Indices, Indices]:
    """Return the fields of a bi-directional stack: the middle frame's future and its past.

    With L = count, the middle frame is tau = start + stride * L / 2. The L / 2 forward fields are
    those of tau, tau + stride, ... (field t goes from frame t to t + 1). The L / 2 backward
    fields lead from tau into the past, nearest first: backward field t goes from frame t + 1 to
    t, so the first is number tau - 1, then tau - 1 - stride, ...
    Start 10, count 6, stride 1: forward 13, 14, 15; backward 12, 11, 10.

    Args:
        starts, stride: as in `snippet_indices`.
        count: L, even; forward and backward fields together.
        num_fields: fields that the video has; indices beyond the end are the last one.

    Returns:
        Forward and backward indices, each (S, L / 2).

    Source:
        Simonyan & Zisserman 2014, section 3.1.
    """
    if count % 2:
        raise InputError(f"Bi-directional stacking needs an even count, got {count}.")
    half = count // 2
    middle = starts + half * stride
    forward = snippet_indices(middle, count=half, stride=stride, num_frames=num_fields)
    back = middle[:, None] - 1 - np.arange(half, dtype=np.int64)[None, :] * stride
    return forward, np.clip(back, 0, num_fields - 1)
