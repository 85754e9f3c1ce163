"""TV-L1 optical flow in torch: all pairs of a batch at once, on the CPU or a GPU.

It gives the same flow as the compiled kernel (`kernel.kernel_flow`), to rounding: the CPU uses
it where the kernel was not built.

The energy of a pair is the total variation of the flow plus lambda times the absolute
difference between the first image and the second warped by the flow. On each level of an image
pyramid the second image is linearised around the flow so far (`warps` times), and the energy
is minimised by alternating a pointwise thresholding step with a step of the dual variables of
the total variation (`iterate`).

Source:
    Zach, Pock & Bischof 2007; pyramid, warping, median filter and stopping as in OpenCV's
    `DualTVL1OpticalFlow` (after Sanchez, Meinhardt-Llopis & Facciolo 2013). Three things differ:
    the gradient is the mean of both images', pixels whose flow leads out of the image have no
    data term (OpenCV warps in zeros, so that still edges can drift), and whether to stop is
    asked in every fifth iteration.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualstream.flow.methods.params import TVL1Params
from dualstream.flow.on_torch.clip import Pyramid, clip_flow
from dualstream.flow.on_torch.image import resize, with_gradient
from dualstream.flow.on_torch.iterate import Schedule
from dualstream.flow.on_torch.level import Energy, solve_level

_SMALLEST_LEVEL_PX = 16


def tvl1_flow(
    frames: NDArray[np.uint8],
    *,
    params: TVL1Params,
    device: str = "cpu",
    forward: bool = True,
    backward: bool = False,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Flow of neighbouring frames.

    Args:
        frames: (T, H, W) grey, T >= 2.
        params: energy and schedule; the arithmetic is always exact.
        device: torch device.
        forward, backward: which directions are wanted.

    Returns:
        Flow from frame t to t + 1 and from frame t + 1 to t, (T-1, 2, H, W) pixels each; None
        for what is not wanted. The flow of a pair does not depend on the others.
    """
    sizes = level_sizes(*frames.shape[1:], scales=params.scales, scale_step=params.scale_step)
    energy = Energy(tau=params.tau, lambda_=params.lambda_, theta=params.theta)
    schedule = Schedule(
        warps=params.warps,
        inner_iterations=params.inner_iterations,
        outer_iterations=params.outer_iterations,
        median_size=params.median_size,
        epsilon=params.epsilon,
    )

    def prepare(images: Tensor) -> Pyramid:
        ratio = 1 / params.scale_step  # not that of the rounded sizes: centres lie this far apart
        levels = [images]
        for size in sizes[1:]:
            levels.append(resize(levels[-1], size, ratio_y=ratio, ratio_x=ratio))
        return Pyramid([with_gradient(level) for level in levels])

    def solve(first: Pyramid, second: Pyramid) -> Tensor:
        coarsest = first.images[-1]
        flow = torch.zeros_like(coarsest[:, :2])
        for here, there in zip(reversed(first.images), reversed(second.images), strict=True):
            if here is not coarsest:
                flow = _enlarged(flow, here.shape[2:], 1 / params.scale_step)
            flow = solve_level(here, there, flow, energy=energy, schedule=schedule)
        return flow

    return clip_flow(
        frames, prepare=prepare, solve=solve, device=device, forward=forward, backward=backward
    )


def level_sizes(
    height: int, width: int, *, scales: int, scale_step: float
) -> list[tuple[int, int]]:
    """(H, W) of each pyramid level, largest first; levels below 16 px are left out.

    100x40, 5 scales of 0.5: 100x40, 50x20 (25x10 is too small).
    """
    sizes = [(height, width)]
    step = np.float32(scale_step)  # as in the kernel
    while len(sizes) < scales:
        height, width = (round(float(np.float32(side) * step)) for side in (height, width))
        if min(height, width) < _SMALLEST_LEVEL_PX:
            break
        sizes.append((height, width))
    return sizes


def _enlarged(flow: Tensor, size: torch.Size, factor: float) -> Tensor:
    """Flow of a level -> flow (N, 2, H, W) of the next larger one."""
    height, width = size
    ratio_y, ratio_x = flow.shape[2] / height, flow.shape[3] / width
    return resize(flow, (height, width), ratio_y=ratio_y, ratio_x=ratio_x, factor=factor)
