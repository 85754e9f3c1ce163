"""From video to clip: `read_clip` is the only door, for training, testing and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch

from dualstream.clips.plan import ClipPlan
from dualstream.clips.samplers import Indices
from dualstream.clips.stacking import trajectory_stack
from dualstream.clips.transforms import Bytes, cut_flow, cut_frames
from dualstream.flow.quantize import dequantize, encoded, quantize
from dualstream.flow.source import FlowSource
from dualstream.types import Clip, ClipSpec, StreamSpec
from dualstream.video.source import FrameSource


def read_clip(
    plan: ClipPlan,
    frames: FrameSource | None,
    flow: Mapping[str, FlowSource],
    spec: ClipSpec,
    *,
    label: int = -1,
    name: str = "",
) -> Clip:
    """Read and cut all streams of one sample, from the same places.

    Args:
        plan: positions, boxes and colours (`plan_clip`).
        frames: of the video; None serves where no stream reads frames.
        flow: stream name -> flow of the video, for the streams that read it.
        spec: input of the network.
        label: class of the sample, -1 where unknown.
        name: of the sample, for instance its path in a manifest.

    Returns:
        Clip with (V, C, T, size, size) bytes a stream: V = snippets x boxes, snippet by snippet
        and inside a snippet box by box; T is num_frames, one more for rgb_diff.

    Raises:
        VideoError, FlowStoreError: frames or fields cannot be read.
    """
    data: dict[str, torch.Tensor] = {}
    for stream_name, stream in spec.streams.items():
        if stream.is_flow:
            data[stream_name] = _flow_views(flow[stream_name], plan, stream, spec)
        else:
            assert frames is not None
            data[stream_name] = _frame_views(frames, plan, stream, spec)
    return Clip(data=data, label=torch.tensor(label), name=(name,))


def _frame_views(
    source: FrameSource, plan: ClipPlan, stream: StreamSpec, spec: ClipSpec
) -> torch.Tensor:
    """Views (V, 3, T, size, size) of frames."""
    steps = plan.frame_steps(stream, spec.beyond_end)
    needed, places = np.unique(steps, return_inverse=True)
    frames = source.read(needed.tolist()).data
    out, views = _empty_views(plan, stream, spec, steps.shape[1])
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


def _flow_views(
    source: FlowSource, plan: ClipPlan, stream: StreamSpec, spec: ClipSpec
) -> torch.Tensor:
    """Views (V, 2, L, size, size) of neighbouring fields, or of fields along trajectories."""
    fields, places = _fields(source, plan, stream, spec)
    if stream.stacking == "trajectory":
        # Paths are in pixels of the flow's grid, so they are followed before cutting; the sampled
        # displacements are rounded back to bytes of the same encoding.
        bound = stream.flow_bound_px
        known = torch.from_numpy(dequantize(fields, bound_px=bound))
        followed = trajectory_stack(known[torch.from_numpy(places)])
        # (S, L, 2, H, W) -> (S * L, 2, H, W)
        fields = quantize(followed.flatten(0, 1).numpy(), bound_px=bound)
        places = np.arange(places.size).reshape(places.shape)
    out, views = _empty_views(plan, stream, spec, places.shape[1])
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


def _fields(
    source: FlowSource, plan: ClipPlan, stream: StreamSpec, spec: ClipSpec
) -> tuple[Bytes, Indices]:
    """Fields (n, 2, H, W) as bytes, and which of them each snippet takes: (S, L)."""
    forward, backward = plan.field_steps(stream, spec.beyond_end)
    needed, places = np.unique(forward, return_inverse=True)
    places = places.reshape(forward.shape)
    fields = encoded(source.read(needed.tolist()), bound_px=stream.flow_bound_px)
    if not backward.size:
        return fields, places
    back, back_places = np.unique(backward, return_inverse=True)
    others = encoded(
        source.read(back.tolist(), direction="backward"), bound_px=stream.flow_bound_px
    )
    places = np.concatenate((places, back_places.reshape(backward.shape) + len(needed)), axis=1)
    return np.concatenate((fields, others)), places


def _empty_views(
    plan: ClipPlan, stream: StreamSpec, spec: ClipSpec, steps: int
) -> tuple[torch.Tensor, Bytes]:
    """Return a tensor (V, C, T, size, size) and the array that shares its memory."""
    count = len(plan.starts) * len(plan.views)
    shape = (count, stream.channels, steps, spec.crop_size, spec.crop_size)
    out = torch.empty(shape, dtype=torch.uint8)
    return out, out.numpy()
