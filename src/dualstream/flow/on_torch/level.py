"""TV-L1 on one image size, in torch: warping, linearising, minimising."""

from __future__ import annotations

import torch
from torch import Tensor

from dualstream.flow.methods.params import Energy, Schedule
from dualstream.flow.on_torch.fused import Fused
from dualstream.flow.on_torch.image import sample
from dualstream.flow.on_torch.iterate import Linearised, Variables, minimise

_FLAT = 1e-10
"""Squared gradient up to which a pixel says nothing about the flow."""


def solve_level(
    first: Tensor,
    second: Tensor,
    flow: Tensor,
    *,
    brightening: Tensor | None = None,
    energy: Energy,
    schedule: Schedule,
) -> Tensor:
    """Improve the flow of each pair.

    Args:
        first: (N, 3, H, W) images with gradient.
        second: (N, 3, H, W).
        flow: (N, 2, H, W) pixels to start from.
        brightening: (N, H, W) how much brighter the second image is expected to be along the
            flow; None for not at all.
        energy: what is minimised.
        schedule: how.

    Returns:
        (N, 2, H, W) pixels. The flow of a pair does not depend on the others.
    """
    scale = energy.tau / energy.theta
    flow = flow * scale
    variables = Variables(flow, torch.zeros_like(flow), torch.zeros_like(flow))
    if brightening is None:
        brightening = flow.new_zeros(flow[:, 0].shape)
    for _ in range(schedule.warps):
        normal, offset, limit = linearise(
            first, second, variables.flow, brightening, scale, energy.tau * energy.lambda_
        )
        problem = Linearised(normal, offset, limit)
        minimise(variables, problem, schedule, tau=energy.tau, scale=scale)
    return variables.flow / scale


def _linearise(
    first: Tensor, second: Tensor, flow: Tensor, brightening: Tensor, scale: float, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Linearise the difference of the images around a flow.

    The gradient is the mean of the first image's and the warped second's. Where the flow leads
    out of the second image nothing is known of it but its smoothness.

    `flow` (N, 2, H, W) is U = scale times pixels, `scale` c, `limit` tau lambda; the others are
    as in `solve_level`.

    Returns:
        normal (N, 2, H, W), offset (N, H, W) and limit (N, H, W) of `Linearised`.
    """
    height, width = first.shape[2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0] * (1 / scale)
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1] * (1 / scale)
    x_inside, y_inside = x.clamp(0, width - 1), y.clamp(0, height - 1)
    there, slopes = sample(second, x_inside, y_inside)
    gradient = 0.5 * (first[:, 1:] + slopes)
    squared = gradient[:, 0].square() + gradient[:, 1].square()
    known = (squared > _FLAT) & (x == x_inside) & (y == y_inside)
    inverse = torch.where(known, squared.rsqrt(), 0)
    normal = gradient * inverse[:, None]
    difference = (there - first[:, 0] - brightening) * (scale * inverse)
    offset = difference - (normal[:, 0] * flow[:, 0] + normal[:, 1] * flow[:, 1])
    return normal, offset, limit * (squared * inverse)


def _example(device: torch.device) -> tuple[Tensor | float, ...]:
    def ones(*shape: int) -> Tensor:
        return torch.ones(shape, device=device)

    images = ones(5, 3, 7, 11), ones(5, 3, 7, 11)
    return *images, ones(5, 2, 7, 11), ones(5, 7, 11), 0.8, 0.04


linearise = Fused(_linearise, example=_example)
