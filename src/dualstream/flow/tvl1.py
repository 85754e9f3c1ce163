"""TV-L1 optical flow in torch: all pairs of a batch at once, on the CPU or a GPU.

The energy of a pair is the total variation of the flow plus lambda times the absolute
difference between the first image and the second warped by the flow. On each level of an image
pyramid the second image is linearised around the flow so far (`warps` times), and the energy
is minimised by alternating a pointwise thresholding step with a step of the dual variables p of
the total variation:

    v = u - clamp((rho_0 + g.u) / |g|^2, -lambda theta, lambda theta) g
    u = v + theta div p
    p = (p + tau / theta grad u) / (1 + tau / theta |grad u|)

Source:
    Zach, Pock & Bischof 2007, equations 10 to 15; pyramid, warping, median filter and stopping
    as in OpenCV's `DualTVL1OpticalFlow` (after Sanchez, Meinhardt-Llopis & Facciolo 2013). One
    thing differs: where the flow leads out of the image OpenCV warps in zeros, so that still
    edges can drift; here the data term is silent there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualstream.flow.median import median_filter
from dualstream.flow.params import TVL1Params

_SMALLEST_LEVEL_PX = 16
# Pixels solved at once: on the CPU a batch that stays in the cache, on a GPU one that fills it.
_CPU_PIXELS = 2**17
_GPU_PIXELS = 2**24


def tvl1_flow(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    *,
    params: TVL1Params,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Flow from each image of `first` to its partner in `second`.

    Args:
        first: (N, H, W) grey images.
        second: (N, H, W).
        params: energy and schedule.
        device: torch device.

    Returns:
        (N, 2, H, W) pixels. The flow of a pair does not depend on the others.
    """
    count, height, width = first.shape
    pixels = _CPU_PIXELS if device == "cpu" else _GPU_PIXELS
    batch = max(1, pixels // (height * width))
    out = np.empty((count, 2, height, width), np.float32)
    with torch.inference_mode():
        for start in range(0, count, batch):
            part = slice(start, start + batch)
            out[part] = _solve(first[part], second[part], params, device)
    return out


def level_sizes(
    height: int, width: int, *, scales: int, scale_step: float
) -> list[tuple[int, int]]:
    """(H, W) of each pyramid level, largest first; levels below 16 px are left out.

    100x40, 5 scales of 0.5: 100x40, 50x20 (25x10 is too small).
    """
    sizes = [(height, width)]
    while len(sizes) < scales:
        height, width = round(height * scale_step), round(width * scale_step)
        if min(height, width) < _SMALLEST_LEVEL_PX:
            break
        sizes.append((height, width))
    return sizes


def _solve(
    first: NDArray[np.uint8], second: NDArray[np.uint8], params: TVL1Params, device: str
) -> NDArray[np.float32]:
    """(B, H, W) pairs -> (B, 2, H, W), coarse to fine."""
    sizes = level_sizes(*first.shape[1:], scales=params.scales, scale_step=params.scale_step)
    levels = list(zip(_pyramid(first, sizes, params), _pyramid(second, sizes, params), strict=True))
    flow = torch.zeros((len(first), 2, *sizes[-1]), device=device)
    for level in range(len(sizes) - 1, -1, -1):
        images = [torch.from_numpy(image).to(device) for image in levels[level]]
        flow = _solve_level(images[0], images[1], flow, params)
        if level:
            flow = F.interpolate(flow, sizes[level - 1], mode="bilinear") / params.scale_step
    return flow.cpu().numpy()


def _pyramid(
    images: NDArray[np.uint8], sizes: list[tuple[int, int]], params: TVL1Params
) -> list[NDArray[np.float32]]:
    """(B, H, W) bytes -> one (B, h, w) float32 for each size, each shrunk from the one before."""
    levels = [images.astype(np.float32)]
    step = params.scale_step
    for size in sizes[1:]:
        level = np.empty((len(images), *size), np.float32)
        for image, small in zip(levels[-1], level, strict=True):
            # The scale is given, not the size: pixel centres are then 1 / step apart exactly.
            cv2.resize(image, None, dst=small, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        levels.append(level)
    return levels


@dataclass
class _Batch:
    """Tensors of several pairs, first dimension B, from which finished pairs are taken out."""

    def take(self, rows: Tensor) -> Self:
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: Tensor, values: Self) -> None:
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(values, f.name)


@dataclass
class _Variables(_Batch):
    flow: Tensor
    """(B, 2, H, W)."""
    dual_x: Tensor
    """(B, 2, H, W + 1): p along x behind a column of zeros, so that div p is a difference."""
    dual_y: Tensor
    """(B, 2, H + 1, W)."""


@dataclass
class _Linearised(_Batch):
    """Difference of the images at flow u, over |g|^2: offset + slope . u."""

    offset: Tensor
    """(B, H, W)."""
    slope: Tensor
    """(B, 2, H, W)."""
    gradient: Tensor
    """(B, 2, H, W): g."""


def _solve_level(first: Tensor, second: Tensor, flow: Tensor, params: TVL1Params) -> Tensor:
    """(B, H, W) images and (B, 2, H, W) start -> flow of one pyramid level."""
    count, height, width = first.shape
    variables = _Variables(
        flow,
        flow.new_zeros((count, 2, height, width + 1)),
        flow.new_zeros((count, 2, height + 1, width)),
    )
    gradient = _centred_gradient(second)
    for _ in range(params.warps):
        problem = _linearise(first, second, gradient, variables.flow)
        _minimise(variables, problem, params)
    return variables.flow


def _centred_gradient(image: Tensor) -> Tensor:
    """(B, H, W) -> (B, 2, H, W) half differences of the neighbours, edges repeated."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    along_x = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    along_y = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return torch.stack((along_x, along_y), 1) / 2


def _linearise(first: Tensor, second: Tensor, gradient: Tensor, flow: Tensor) -> _Linearised:
    height, width = first.shape[1:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    grid = torch.stack((x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1), -1)
    warped = F.grid_sample(
        torch.cat((second[:, None], gradient), 1),
        grid,
        mode="bicubic",
        padding_mode="border",
        align_corners=True,
    )
    image, gradient = warped[:, 0], warped[:, 1:]
    inverse = 1 / gradient.square().sum(1).clamp_(min=torch.finfo(torch.float32).eps)
    slope = gradient * inverse[:, None]
    offset = (image - first) * inverse - (slope * flow).sum(1)
    # Where the flow leaves the image nothing is known of it but its smoothness.
    inside = (grid.abs() <= 1 + 1e-6).all(-1)
    return _Linearised(offset * inside, slope * inside[:, None], gradient * inside[:, None])


def _minimise(variables: _Variables, problem: _Linearised, params: TVL1Params) -> None:
    """Iterate each pair until its flow stands still; `variables` change in place."""
    rows = torch.arange(len(variables.flow), device=variables.flow.device)
    active = variables.take(rows)
    for _ in range(params.outer_iterations):
        active.flow = median_filter(active.flow, params.median_size)
        for _ in range(params.inner_iterations):
            change = _iterate(active, problem, params)
            if not params.epsilon:
                continue
            going = change > params.epsilon**2
            if bool(going.all()):
                continue
            variables.put(rows[~going], active.take(~going))
            rows, active, problem = rows[going], active.take(going), problem.take(going)
            if not len(rows):
                return
    variables.put(rows, active)


def _iterate(variables: _Variables, problem: _Linearised, params: TVL1Params) -> Tensor:
    """One step of u and p in place; returns (B,) mean squared change of u in px."""
    flow, dual_x, dual_y = variables.flow, variables.dual_x, variables.dual_y
    limit, step = params.lambda_ * params.theta, params.tau / params.theta
    excess = torch.addcmul(problem.offset, problem.slope[:, 0], flow[:, 0])
    excess.addcmul_(problem.slope[:, 1], flow[:, 1]).clamp_(-limit, limit)
    new = torch.addcmul(flow, problem.gradient, excess[:, None], value=-1)
    new.add_(dual_x[..., 1:], alpha=params.theta).sub_(dual_x[..., :-1], alpha=params.theta)
    new.add_(dual_y[..., 1:, :], alpha=params.theta).sub_(dual_y[..., :-1, :], alpha=params.theta)
    change = flow.sub_(new).square_().sum((1, 2, 3)) / (flow.shape[2] * flow.shape[3])
    along_x, along_y = torch.zeros_like(new), torch.zeros_like(new)
    torch.sub(new[..., 1:], new[..., :-1], out=along_x[..., :-1])
    torch.sub(new[..., 1:, :], new[..., :-1, :], out=along_y[..., :-1, :])
    shrink = (along_x * along_x).addcmul_(along_y, along_y).sqrt_().mul_(step).add_(1).reciprocal_()
    dual_x[..., 1:].add_(along_x, alpha=step).mul_(shrink)
    dual_y[..., 1:, :].add_(along_y, alpha=step).mul_(shrink)
    variables.flow = new
    return change
