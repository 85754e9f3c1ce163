"""Where in a video the snippets start: pure functions on integers.

`num_frames` is the number of positions that exist: F frames for RGB, F - 1 fields for flow.
`length` is what one snippet covers of them, (T - 1) * stride + 1 (see `covered`). Starts are
always within 0..num_frames - 1; in a video shorter than a snippet they are 0, and
`snippet_indices` then holds the last position or starts again.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, UnknownNameError
from dualstream.types import BeyondEnd

Indices = NDArray[np.int64]


def covered(count: int, *, stride: int) -> int:
    """Positions that a snippet of `count` steps covers from its first to its last, both included.

    >>> covered(5, stride=1), covered(8, stride=4), covered(1, stride=9)
    (5, 29, 1)
    """
    _check_positive(count=count, stride=stride)
    return (count - 1) * stride + 1


def segment_starts_random(
    num_frames: int, *, segments: int, length: int, rng: np.random.Generator
) -> Indices:
    """One random snippet in each of `segments` equal parts (TSN, training).

    With num_frames 30, segments 3, length 5: a part is (30 - 5 + 1) // 3 = 8 starts long, so the
    starts lie in 0..7, 8..15 and 16..23. Where a part is empty but the video still has more
    frames than segments, the starts are drawn from all possible ones and sorted; in a shorter
    video they are 0.

    Args:
        num_frames: positions of the video, at least 1.
        segments: number of snippets S.
        length: positions that a snippet covers.
        rng: source of the random numbers.

    Returns:
        (S,) starts, not falling.

    Raises:
        InputError: a count is below 1.

    Source:
        Wang et al. 2016, section 3; the indices follow TSN's published code.
    """
    _check_positive(num_frames=num_frames, segments=segments, length=length)
    starts = num_frames - length + 1
    part = starts // segments
    if part > 0:
        return np.arange(segments, dtype=np.int64) * part + rng.integers(part, size=segments)
    if starts > 0 and num_frames > segments:
        return np.sort(rng.integers(starts, size=segments))
    return np.zeros(segments, np.int64)


def segment_starts_center(num_frames: int, *, segments: int, length: int) -> Indices:
    """The snippet in the middle of each of `segments` equal parts (TSN, validation and test).

    With tick = (num_frames - length + 1) / segments, start i is int(tick / 2 + tick * i):
    num_frames 30, segments 3, length 5 give tick 8.67 and starts 4, 13, 21. Halves and products
    are rounded as floating-point numbers are, as in the reference, which is one less than exact
    arithmetic now and then. A video shorter than one snippet gives zeros.

    Returns:
        (S,) starts, not falling.

    Raises:
        InputError: a count is below 1.

    Source:
        Wang et al. 2016; TSN's published code (its validation indices are zeros for videos of at
        most segments + length - 1 frames, its test indices are these).
    """
    _check_positive(num_frames=num_frames, segments=segments, length=length)
    tick = max(num_frames - length + 1, 0) / segments
    return (tick / 2 + tick * np.arange(segments)).astype(np.int64)


def evenly_spaced_starts(num_frames: int, *, count: int, length: int) -> Indices:
    """`count` snippets at equal distance, the first at the start and the last at the end.

    num_frames 100, count 5, length 10 give 0, 22, 45, 67, 90 (floors of multiples of 22.5). One
    snippet is put in the middle. A short video gives repeated starts.

    Returns:
        (count,) starts, not falling.

    Raises:
        InputError: a count is below 1.

    Source:
        Simonyan & Zisserman 2014, section 5, Testing: 25 frames with equal temporal spacing.
    """
    _check_positive(num_frames=num_frames, count=count, length=length)
    last = max(num_frames - length, 0)
    if count == 1:
        return np.array([last // 2], np.int64)
    return np.arange(count, dtype=np.int64) * last // (count - 1)


def dense_clip_starts(
    num_frames: int,
    *,
    segments: int,
    length: int,
    span: int = 64,
    windows: int = 1,
    rng: np.random.Generator | None = None,
) -> Indices:
    """Snippets spread over a window of `span` neighbouring frames, as 3D networks sample.

    Inside a window the snippets start span // segments apart. In training (`rng` given) the
    window lies anywhere; otherwise `windows` of them lie at equal distance, one of them in the
    middle. num_frames 100, segments 4, span 64, two windows: the windows start at 0 and 36, the
    snippets at 0, 16, 32, 48, 36, 52, 68, 84. In a video shorter than the window, starts that
    would leave no room for a whole snippet wrap around to the beginning.

    Returns:
        (windows * segments,) starts, window by window.

    Raises:
        InputError: a count is below 1, or several windows are to be drawn at random.

    Source:
        The dense sampling of TSM's published code, there attributed to I3D.
    """
    _check_positive(
        num_frames=num_frames, segments=segments, length=length, span=span, windows=windows
    )
    if rng is not None and windows > 1:
        raise InputError(f"One window is drawn at random, got windows={windows} together with rng.")
    if rng is None:
        first = evenly_spaced_starts(num_frames, count=windows, length=span)
    else:
        first = rng.integers(max(num_frames - span, 0) + 1, size=1)
    inside = np.arange(segments, dtype=np.int64) * max(span // segments, 1)
    room = max(num_frames - length + 1, 1)
    return ((first[:, None] + inside[None, :]) % room).reshape(-1)


def window_starts(num_frames: int, *, length: int, step: int) -> Indices:
    """All windows of a video: one every `step` positions, and one that ends with the last.

    num_frames 23, length 10, step 5 give 0, 5, 10 and 13. A video of at most one window gives 0.

    Returns:
        (M,) starts, rising; M depends on the video.

    Raises:
        InputError: a count is below 1.
    """
    _check_positive(num_frames=num_frames, length=length, step=step)
    last = max(num_frames - length, 0)
    starts = np.arange(0, last + 1, step, dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)


def snippet_indices(
    starts: Indices, *, count: int, stride: int, num_frames: int, beyond_end: BeyondEnd = "hold"
) -> Indices:
    """Positions of every step of every snippet.

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
        InputError: a count is below 1.
        UnknownNameError: `beyond_end` is neither.
    """
    _check_positive(count=count, stride=stride, num_frames=num_frames)
    if beyond_end not in get_args(BeyondEnd):
        raise UnknownNameError("beyond_end", beyond_end, get_args(BeyondEnd))
    steps = starts[:, None] + np.arange(count, dtype=np.int64)[None, :] * stride
    indices: Indices = (
        steps % num_frames if beyond_end == "loop" else np.minimum(steps, num_frames - 1)
    )
    return indices


def _check_positive(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
