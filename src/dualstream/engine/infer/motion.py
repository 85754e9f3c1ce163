"""Optical flow of frames by a trained MotionNet."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dualstream.clips.transforms import normalize
from dualstream.engine.run.checkpoint import Checkpoint, load_checkpoint
from dualstream.errors import InputError, ShapeError
from dualstream.flow.images import resize_short_side
from dualstream.models.zoo.motionnet import MotionNetwork, flow_pixels
from dualstream.types import Flow, Frames


@torch.inference_mode()
def motion_flow(
    run: Checkpoint | str | os.PathLike[str],
    frames: Frames | NDArray[np.uint8],
    *,
    short_side: int | None = None,
    device: str = "cpu",
) -> Flow:
    """Displacement of every pixel between neighbouring frames, as a trained network sees it.

    The network sees as many frames at once as it was trained on, from each T-1 th on; the last ones
    are filled up with the last frame. Beside `optical_flow(frames, method="tvl1")` it tells what
    MotionNet has learnt.

    Args:
        run: folder of a run of `motionnet` or `hidden_two_stream`, trained with or without labels,
            or its checkpoint (`load_checkpoint(run, with_classes=False)`).
        frames: T >= 2 frames, as in `optical_flow`: `Frames` or (T, H, W, 3) uint8 RGB.
        short_side: of the grid that the network sees; None takes the recipe's `clip.short_side`,
            which is the grid that it was trained on.
        device: where the network runs.

    Returns:
        Flow of (T-1, 2, H, W) pixels of the frames that came in, whatever the grid.

    Raises:
        CheckpointError: not a trained run.
        InputError: a network that estimates no motion.
        ShapeError: fewer than two frames, or another shape.
    """
    checkpoint = (
        run
        if isinstance(run, Checkpoint)
        else load_checkpoint(run, device=device, with_classes=False)
    )
    network = checkpoint.model
    if "motion" not in network.own_losses:
        raise InputError(
            f"{checkpoint.folder} is a run of {network.name}, which estimates no motion. Give one "
            "of motionnet or hidden_two_stream."
        )
    assert isinstance(network, MotionNetwork)
    source = frames.source if isinstance(frames, Frames) else ""
    pixels = frames.data if isinstance(frames, Frames) else frames
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or len(pixels) < 2 or pixels.dtype != np.uint8:
        raise ShapeError(
            f"frames must be (T, H, W, 3) uint8 with T from 2, got {pixels.shape} {pixels.dtype}."
        )
    height, width = pixels.shape[1:3]
    seen = resize_short_side(pixels, short_side or checkpoint.recipe.clip.short_side)
    (stream,) = checkpoint.spec.streams.values()
    steps, fields = stream.num_frames, []
    for first in range(0, len(seen) - 1, steps - 1):
        window = seen[np.minimum(np.arange(first, first + steps), len(seen) - 1)]
        clip = torch.from_numpy(window).permute(3, 0, 1, 2)[None].to(device)  # (1, 3, T, h, w)
        finest = network.motion(normalize(clip, stream))[-1]
        on_grid = flow_pixels(finest, (seen.shape[1], seen.shape[2]))[0]  # (T-1, 2, h, w)
        fields.append(_on_frames(on_grid, (height, width)))
    data = torch.cat(fields)[: len(pixels) - 1].cpu().numpy()
    return Flow(data, method=network.name, source=source)


def _on_frames(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, 2, h, w) pixels of its grid -> (T, 2, H, W) pixels of frames of another size."""
    if tuple(flow.shape[-2:]) == size:
        return flow
    scale = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]]).view(2, 1, 1)
    return scale * F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
