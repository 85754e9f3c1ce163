"""The views of one video through a network, so many at a time that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualstream.clips.transforms import Normalizer
from dualstream.models.network import Network
from dualstream.types import Clip

Run = Callable[[dict[str, Tensor]], Tensor]
"""From stream name -> normalised views (N, C, T, H, W) to logits (N, K)."""

VIEWS_AT_ONCE = 64
"""Views of one forward pass, or frames of them for a network whose memory grows with time (but one
view at least); bounds memory, changes no result."""


def view_logits(
    model: Network, clip: Clip, normalizer: Normalizer, *, segments: int, run: Run | None = None
) -> NDArray[np.float32]:
    """Return the logits of the views of one video.

    A network with a consensus other than the average sees the segments of a crop together, as
    in training; every other one sees each view by itself.

    Args:
        model: in evaluation mode.
        clip: (S x crops, C, T, H, W) uint8 a stream, the crops of a segment side by side.
        normalizer: of the network's input.
        segments: S.
        run: in place of the network itself.

    Returns:
        (S x crops, K), or (crops, K) where the network joins segments.
    """
    device = next(model.parameters()).device
    at_once = VIEWS_AT_ONCE
    # A network whose first layer joins the frames keeps no more of longer snippets.
    if model.conv_dims == 3 or any(accepts.length is None for accepts in model.inputs.values()):
        at_once = max(1, at_once // max(s.num_frames for s in normalizer.spec.streams.values()))
    views: Mapping[str, Tensor] = clip.data
    if model.joins_segments:
        # (S x crops, C, T, H, W) -> (crops, S, C, T, H, W)
        views = {
            name: value.reshape(segments, -1, *value.shape[1:]).transpose(0, 1)
            for name, value in views.items()
        }
        at_once = max(1, at_once // segments)
    count = len(next(iter(views.values())))
    parts = []
    with torch.inference_mode():
        for first in range(0, count, at_once):
            part = {
                name: value[first : first + at_once].to(device, non_blocking=True)
                for name, value in views.items()
            }
            parts.append((run or model)(normalizer(part)).float().cpu())
    return torch.cat(parts).numpy()
