"""The plan of a clip: which positions in time, which boxes, which colours, for all its streams.

Positions count frames for RGB and fields for flow, from the start of the video (of the resampled
video where `ClipSpec.fps` is set). Of the functions on integers below, `num_frames` are all
positions, `length` those of one snippet (`StreamSpec.span`). Starts are (S,), not falling and
within 0..num_frames - 1; in a video shorter than a snippet they are 0, and `snippet_indices` then
holds the last position or starts again. A count below 1 is an InputError.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dualstream.clips.geometry import (
    View,
    center_crop,
    multi_scale_crop,
    random_crop,
    reference_size,
    ten_crops,
    three_crops,
)
from dualstream.clips.transforms import ColorChange, ColorJitter, Indices
from dualstream.errors import InputError, check_choice, check_least
from dualstream.types import BeyondEnd, ClipSpec, StreamSpec

SamplingKind = Literal["random_segments", "segment_centers", "evenly_spaced"]
CroppingKind = Literal["center", "random", "multi_scale", "three", "ten"]


@dataclass(frozen=True)
class Sampling:
    """Which snippets of a video form a sample: one a segment, or evenly spaced ones."""

    kind: SamplingKind
    segments: int = 1
    """Number of snippets."""

    def __post_init__(self) -> None:
        check_choice("sampling", self.kind, SamplingKind)
        check_least(1, **{"Sampling.segments": self.segments})

    def starts(self, positions: int, *, length: int, rng: np.random.Generator) -> Indices:
        """Return the (S,) starts of the snippets in a video; one function a kind."""
        if self.kind == "random_segments":
            return segment_starts_random(positions, segments=self.segments, length=length, rng=rng)
        if self.kind == "segment_centers":
            return segment_starts_center(positions, segments=self.segments, length=length)
        return evenly_spaced_starts(positions, count=self.segments, length=length)


@dataclass(frozen=True)
class Cropping:
    """Which boxes of the picture form the views of each snippet."""

    kind: CroppingKind
    scales: tuple[float, ...] = (1, 0.875, 0.75, 0.66)
    """"multi_scale" only: sides as parts of the short side."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """"random" only: range of the factor by which the picture is enlarged before it is cut."""

    def __post_init__(self) -> None:
        check_choice("cropping", self.kind, CroppingKind)

    @property
    def num_views(self) -> int:
        """Boxes of each snippet."""
        return {"three": 3, "ten": 10}.get(self.kind, 1)

    @property
    def mirrored_views(self) -> tuple[bool, ...]:
        """Which of the boxes are mirrored left to right whatever is drawn: half of ten crops."""
        return (False,) * 5 + (True,) * 5 if self.kind == "ten" else (False,) * self.num_views

    def views(
        self, reference: tuple[int, int], *, size: int, rng: np.random.Generator
    ) -> tuple[View, ...]:
        """Return the boxes on a reference grid of (H, W); see `clips.geometry`."""
        if self.kind == "center":
            return (center_crop(*reference, size=size),)
        if self.kind == "random":
            return (random_crop(*reference, size=size, rng=rng, zoom=self.zoom),)
        if self.kind == "multi_scale":
            return (multi_scale_crop(*reference, size=size, rng=rng, scales=self.scales),)
        return (three_crops if self.kind == "three" else ten_crops)(*reference, size=size)


@dataclass(frozen=True, eq=False)
class ClipPlan:
    """Positions, boxes and colours of one sample, the same for all its streams."""

    timeline: Indices
    """(P,) number of the frame at each position; field i leads from position i to i + 1."""
    num_fields: int
    """Flow fields of the video, P - 1 unless a store was extracted at another rate."""
    starts: Indices
    """(S,) first position of each snippet."""
    views: tuple[View, ...]
    """Boxes on the reference grid, the same for every snippet."""
    reference: tuple[int, int]
    """(H, W) of that grid."""
    color: ColorChange | None = None
    """Change of the colours of all frames, if any."""

    def parts(self, snippets: int) -> Iterator[ClipPlan]:
        """Yield the plan in parts of at most so many snippets, in their order."""
        for first in range(0, len(self.starts), snippets):
            yield replace(self, starts=self.starts[first : first + snippets])

    def frame_steps(self, stream: StreamSpec, beyond_end: BeyondEnd) -> Indices:
        """Return the (S, T) frame numbers of a stream that reads frames."""
        return self.timeline[self._steps(stream, len(self.timeline), beyond_end)]

    def field_steps(self, stream: StreamSpec, beyond_end: BeyondEnd) -> tuple[Indices, Indices]:
        """Return the (S, L) forward fields of a flow stream and its (S, L') backward ones.

        L' is 0 but for bi-directional stacking, where half of the fields are backward.
        """
        if stream.stacking == "bidirectional":
            count, stride = stream.num_frames, stream.frame_stride
            return bidirectional_indices(
                self.starts, count=count, stride=stride, num_fields=self.num_fields
            )
        forward = self._steps(stream, self.num_fields, beyond_end)
        return forward, forward[:, :0]

    def _steps(self, stream: StreamSpec, positions: int, beyond_end: BeyondEnd) -> Indices:
        return snippet_indices(
            self.starts,
            count=stream.steps,
            stride=stream.frame_stride,
            num_frames=positions,
            beyond_end=beyond_end,
        )

    def frames_needed(self, spec: ClipSpec) -> Indices:
        """Return the frames, rising, that all streams need where flow is computed from them."""
        needed = [
            self.frame_steps(stream, spec.beyond_end).ravel()
            for stream in spec.frame_streams.values()
        ]
        for stream in spec.flow_streams.values():
            fields = np.concatenate(self.field_steps(stream, spec.beyond_end), axis=1).ravel()
            needed += [self.timeline[fields], self.timeline[fields + 1]]
        return np.unique(np.concatenate(needed))


def plan_clip(
    spec: ClipSpec,
    *,
    timeline: Indices,
    size: tuple[int, int],
    sampling: Sampling,
    cropping: Cropping,
    num_fields: int | None = None,
    flip: bool = False,
    jitter: ColorJitter | None = None,
    rng: np.random.Generator | None = None,
) -> ClipPlan:
    """Choose the positions, boxes and colours of a clip.

    Args:
        spec: input of the network.
        timeline: (P,) number of the frame at each position.
        size: (H, W) of the video in pixels, as displayed.
        sampling: which snippets.
        cropping: which boxes.
        num_fields: flow fields that there are; None is P - 1.
        flip: mirror half of the samples left to right, at random.
        jitter: random change of colours of the streams that read frames.
        rng: source of all that is drawn; None serves where nothing is.

    Raises:
        InputError: crops larger than the reference grid.
    """
    generator = rng or np.random.default_rng(0)
    fields = len(timeline) - 1 if num_fields is None else num_fields
    positions = [len(timeline)] if spec.frame_streams else []
    positions += [fields] if spec.flow_streams else []
    starts = sampling.starts(min(positions), length=spec.span, rng=generator)
    reference = reference_size(*size, short_side=spec.short_side)
    views = cropping.views(reference, size=spec.crop_size, rng=generator)
    if flip:
        mirrored = bool(generator.integers(2))
        views = tuple(view.mirrored(mirrored) for view in views)
    color = None if jitter is None else jitter.draw(generator)
    return ClipPlan(timeline, fields, starts, views, reference, color)


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
    num_frames 30, segments 3, length 5 give tick 8.67 and starts 4, 13, 21. Numbers are rounded as
    in the reference, which is one less than exact arithmetic now and then.

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
        starts: as in `snippet_indices`.
        stride: as in `snippet_indices`.
        count: L, even; forward and backward fields together.
        num_fields: fields of the video; indices beyond the end are the last one.

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
