"""How L flow fields become one input: which fields are read, and along which paths.

Source of both: Simonyan & Zisserman 2014, section 3.1.
"""

from __future__ import annotations

import numpy as np
import torch

from dualstream.clips.samplers import Indices, snippet_indices
from dualstream.errors import InputError, ShapeError


def bidirectional_indices(
    starts: Indices, *, count: int, stride: int, num_fields: int
) -> tuple[Indices, Indices]:
    """Fields of a bi-directional stack: the middle frame's future and its past.

    With L = count, the middle frame is tau = start + stride * L / 2. The L / 2 forward fields are
    those of tau, tau + stride, ... (field t goes from frame t to t + 1). The L / 2 backward
    fields lead from tau into the past, nearest first: backward field t goes from frame t + 1 to
    t, so the first is number tau - 1, then tau - 1 - stride, ...
    Start 10, count 6, stride 1: forward 13, 14, 15; backward 12, 11, 10.

    Args:
        starts: (S,) first positions of the snippets.
        count: L, even; forward and backward fields together.
        stride: positions between two fields.
        num_fields: fields that the video has; indices beyond the end are the last one.

    Returns:
        Forward and backward indices, each (S, L / 2).

    Raises:
        InputError: `count` is odd, or a number is below 1.
    """
    if count % 2:
        raise InputError(f"Bi-directional stacking needs an even count, got {count}.")
    half = count // 2
    middle = starts + half * stride
    forward = snippet_indices(middle, count=half, stride=stride, num_frames=num_fields)
    back = middle[:, None] - 1 - np.arange(half, dtype=np.int64)[None, :] * stride
    return forward, np.clip(back, 0, num_fields - 1)


def trajectory_stack(flow: torch.Tensor) -> torch.Tensor:
    """Sample each field where the motion has carried the pixels of the first frame.

    p(1) = (u, v) and p(k) = p(k-1) + d(k-1)(p(k-1)); result k at (u, v) is d(k)(p(k)), read
    bilinearly. Paths that leave the picture go on along its border.

    Args:
        flow: (..., L, 2, H, W) floating point; displacements in pixels of this grid, x then y.

    Returns:
        (..., L, 2, H, W), the first field unchanged.

    Raises:
        ShapeError: `flow` has another shape or is not floating point.
    """
    if flow.ndim < 4 or flow.shape[-3] != 2 or not flow.is_floating_point():
        raise ShapeError(
            f"flow must be (..., L, 2, H, W) floating point, got {tuple(flow.shape)} {flow.dtype}."
        )
    length, _, height, width = flow.shape[-4:]
    fields = flow.reshape(-1, length, 2, height, width)
    limit = torch.tensor([width - 1.0, height - 1.0], dtype=flow.dtype, device=flow.device)
    rows = torch.arange(height, dtype=flow.dtype, device=flow.device)
    columns = torch.arange(width, dtype=flow.dtype, device=flow.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack((x, y), dim=-1).expand(len(fields), height, width, 2)
    result = torch.empty_like(fields)
    result[:, 0] = fields[:, 0]
    for k in range(1, length):
        step = result[:, k - 1].permute(0, 2, 3, 1)  # (B, 2, H, W) -> (B, H, W, 2)
        points = torch.minimum((points + step).clamp_min(0), limit)
        # grid_sample wants -1..1 from the first to the last pixel; a side of 1 pixel has one place.
        grid = points / limit.clamp_min(1) * 2 - 1
        result[:, k] = torch.nn.functional.grid_sample(
            fields[:, k], grid, mode="bilinear", padding_mode="border", align_corners=True
        )
    return result.reshape(flow.shape)
