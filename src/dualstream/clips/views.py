"""Reading the views of one sample: which positions, which boxes, from which file.

Positions are frames for RGB and fields for flow, counted from the start of the video (of the
resampled video where `InputSpec.fps` is set).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import torch

from dualstream.clips.geometry import View
from dualstream.clips.samplers import Indices, snippet_indices
from dualstream.clips.stacking import bidirectional_indices, trajectory_stack
from dualstream.clips.transforms import Bytes, ColorChange, cut_flow, cut_frames
from dualstream.flow.quantize import dequantize, quantize
from dualstream.types import InputSpec
from dualstream.video import VideoReader


class FlowFields(Protocol):
    """Flow of one video as bytes: a stored file, a folder, or fields computed when read."""

    @property
    def num_fields(self) -> int:
        """Fields of the video, one less than its frames."""

    def read(self, indices: Sequence[int]) -> Bytes:
        """(n, 2, H, W) fields in the order asked for."""


@dataclass(frozen=True, eq=False)
class ViewPlan:
    """What to read and cut for one sample, the same for all its modalities."""

    starts: Indices
    """(S,) first position of each snippet."""
    views: tuple[View, ...]
    """Boxes on the reference grid, the same for every snippet."""
    reference: tuple[int, int]
    """(H, W) of that grid."""
    color: ColorChange | None


def frame_views(
    video: VideoReader, shown: Indices, plan: ViewPlan, spec: InputSpec
) -> torch.Tensor:
    """Views (V, 3, T, size, size) of the frames; `shown` is the frame of each position."""
    steps = snippet_indices(
        plan.starts,
        count=steps_read(spec),
        stride=spec.frame_stride,
        num_frames=len(shown),
        beyond_end=spec.beyond_end,
    )
    needed, places = np.unique(shown[steps], return_inverse=True)
    frames = video.read(needed.tolist()).data
    out, views = _empty_views(plan, spec, steps.shape[1])
    for i, (snippet, view) in enumerate(product(places.reshape(steps.shape), plan.views)):
        cut_frames(
            frames,
            view,
            reference=plan.reference,
            size=spec.crop_size,
            steps=snippet,
            color=plan.color,
            out=views[i],
        )
    return out


def flow_views(file: FlowFields, plan: ViewPlan, spec: InputSpec) -> torch.Tensor:
    """Views (V, 2, L, size, size) of neighbouring fields, or of fields along trajectories."""
    steps = snippet_indices(
        plan.starts,
        count=spec.num_frames,
        stride=spec.frame_stride,
        num_frames=file.num_fields,
        beyond_end=spec.beyond_end,
    )
    needed, places = np.unique(steps, return_inverse=True)
    fields = file.read(needed.tolist())
    places = places.reshape(steps.shape)
    if spec.stacking == "trajectory":
        # Paths are in pixels of the stored grid, so they are followed before cutting; the
        # sampled displacements are rounded back to bytes of the same mapping.
        bound = spec.flow_bound_px
        known = torch.from_numpy(dequantize(fields, bound_px=bound))
        followed = trajectory_stack(known[torch.from_numpy(places)])
        # (S, L, 2, H, W) -> (S * L, 2, H, W)
        fields = quantize(followed.flatten(0, 1).numpy(), bound_px=bound)
        places = np.arange(places.size).reshape(steps.shape)
    return _cut_fields(fields, places, plan, spec)


def bidirectional_views(
    forward: FlowFields, backward: FlowFields, plan: ViewPlan, spec: InputSpec
) -> torch.Tensor:
    """Views (V, 2, L, size, size): forward fields from the middle on, then backward ones."""
    ahead, behind = bidirectional_indices(
        plan.starts, count=spec.num_frames, stride=spec.frame_stride, num_fields=forward.num_fields
    )
    needed_ahead, places_ahead = np.unique(ahead, return_inverse=True)
    needed_behind, places_behind = np.unique(behind, return_inverse=True)
    fields = np.concatenate(
        (forward.read(needed_ahead.tolist()), backward.read(needed_behind.tolist()))
    )
    places = np.concatenate(
        (
            places_ahead.reshape(ahead.shape),
            places_behind.reshape(behind.shape) + len(needed_ahead),
        ),
        axis=1,
    )
    return _cut_fields(fields, places, plan, spec)


def _cut_fields(fields: Bytes, places: Indices, plan: ViewPlan, spec: InputSpec) -> torch.Tensor:
    """Cut fields (n, 2, H, W) at `places` (S, L) into views (V, 2, L, size, size)."""
    out, views = _empty_views(plan, spec, places.shape[1])
    for i, (snippet, view) in enumerate(product(places, plan.views)):
        cut_flow(
            fields,
            view,
            reference=plan.reference,
            size=spec.crop_size,
            steps=snippet,
            out=views[i],
        )
    return out


def _empty_views(plan: ViewPlan, spec: InputSpec, steps: int) -> tuple[torch.Tensor, Bytes]:
    """A tensor (V, C, T, size, size) and the array that shares its memory."""
    count = len(plan.starts) * len(plan.views)
    out = torch.empty(
        (count, spec.channels, steps, spec.crop_size, spec.crop_size), dtype=torch.uint8
    )
    return out, out.numpy()


def steps_read(spec: InputSpec) -> int:
    """Positions that a snippet reads: a difference needs one frame more."""
    return spec.num_frames + (spec.modality == "rgb_diff")
