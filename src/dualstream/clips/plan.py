"""The plan of a clip: which positions in time, which boxes, which colours, for all its streams.

Positions count frames for RGB and fields for flow, from the start of the video (of the resampled
video where `ClipSpec.fps` is set).
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
from dualstream.clips.samplers import (
    Indices,
    bidirectional_indices,
    evenly_spaced_starts,
    segment_starts_center,
    segment_starts_random,
    snippet_indices,
)
from dualstream.clips.transforms import ColorChange, ColorJitter
from dualstream.errors import check_choice, check_least
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
        """Return the (S,) starts of the snippets in a video; see `clips.samplers`."""
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

    @property
    def is_mirrored(self) -> bool:
        """Whether all views are mirrored left to right."""
        return all(view.flip for view in self.views)

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
