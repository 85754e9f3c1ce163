"""From video to clip: `read_views` is the only door, for training, testing and prediction.

`read_clip` gives the same as tensors. Only that needs torch, and stacking along trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product

import numpy as np

from dualstream.clips.plan import ClipPlan
from dualstream.clips.transforms import Bytes, Indices, cut_flow, cut_frames, trajectory_stack
from dualstream.flow.compute import FlowSource
from dualstream.flow.quantize import dequantize, encoded, quantize
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
    """Return what `read_views` reads as tensors, with the class of the sample.

    Args:
        plan: as of `read_views`, whose errors are raised too.
        frames: as of `read_views`.
        flow: as of `read_views`.
        spec: as of `read_views`.
        label: class of the sample.
        name: of the sample, for instance its path in a manifest.
    """
    import torch

    views = read_views(plan, frames, flow, spec)
    data = {stream: torch.from_numpy(values) for stream, values in views.items()}
    return Clip(data=data, label=torch.tensor(label), name=(name,))


def read_views(
    plan: ClipPlan,
    frames: FrameSource | None,
    flow: Mapping[str, FlowSource],
    spec: ClipSpec,
) -> dict[str, Bytes]:
    """Read and cut all streams of one sample, from the same places.

    Args:
        plan: positions, boxes and colours (`plan_clip`).
        frames: of the video; None serves where no stream reads frames.
        flow: stream name -> flow of the video, for the streams that read it.
        spec: input of the network.

    Returns:
        Stream name -> bytes (V, C, T, size, size): V = snippets x boxes, snippet by snippet and
        inside a snippet box by box; T is num_frames, one more for rgb_diff.

    Raises:
        VideoError, FlowStoreError: frames or fields cannot be read.
    """
    data: dict[str, Bytes] = {}
    for stream_name, stream in spec.streams.items():
        cut: Callable[..., Bytes]
        if stream.is_flow:
            fields, places = _fields(flow[stream_name], plan, stream, spec)
            cut = partial(cut_flow, fields)
        else:
            assert frames is not None
            needed, places = _unique(plan.frame_steps(stream, spec.beyond_end))
            cut = partial(cut_frames, frames.read(needed).data, color=plan.color)
        shape = stream.channels, places.shape[1], spec.crop_size, spec.crop_size
        views = np.empty((places.shape[0] * len(plan.views), *shape), np.uint8)
        boxes = product(places, plan.views)
        for out, (snippet, view) in zip(views, boxes, strict=True):
            cut(view, reference=plan.reference, size=spec.crop_size, steps=snippet, out=out)
        data[stream_name] = views
    return data


def _fields(
    source: FlowSource, plan: ClipPlan, stream: StreamSpec, spec: ClipSpec
) -> tuple[Bytes, Indices]:
    """Fields (n, 2, H, W) as bytes, and which of them each snippet takes: (S, L)."""
    bound = stream.flow_bound_px
    forward, backward = plan.field_steps(stream, spec.beyond_end)
    needed, places = _unique(forward)
    fields = encoded(source.read(needed), bound_px=bound)
    if backward.size:
        needed, back_places = _unique(backward)
        others = encoded(source.read(needed, direction="backward"), bound_px=bound)
        places = np.concatenate((places, back_places + len(fields)), axis=1)
        fields = np.concatenate((fields, others))
    if stream.stacking == "trajectory":
        # Paths are in pixels of the flow's grid, so they are followed before cutting; the sampled
        # displacements are rounded back to bytes of the same encoding.
        import torch

        known = torch.from_numpy(dequantize(fields, bound_px=bound))
        followed = trajectory_stack(known[torch.from_numpy(places)])
        # (S, L, 2, H, W) -> (S * L, 2, H, W)
        fields = quantize(followed.flatten(0, 1).numpy(), bound_px=bound)
        places = np.arange(places.size).reshape(places.shape)
    return fields, places


def _unique(steps: Indices) -> tuple[list[int], Indices]:
    """The numbers in (S, T) steps, rising, and the place of each step among them."""
    needed, places = np.unique(steps, return_inverse=True)
    return needed.tolist(), places.reshape(steps.shape)
