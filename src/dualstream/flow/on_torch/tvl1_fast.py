"""TV-L1 optical flow from a start by dense inverse search, in torch.

It gives the same flow as the compiled kernel (`kernel.kernel_flow`), to rounding and but for
single patches that rounding sends another way: the CPU uses it where the kernel was not built.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualstream.flow.methods.params import TVL1FastParams
from dualstream.flow.on_torch.clip import Pyramid, clip_flow
from dualstream.flow.on_torch.dis import PATCH_PX, Search, patch_images, search_flow
from dualstream.flow.on_torch.image import half_size, resize, with_gradient
from dualstream.flow.on_torch.iterate import Schedule
from dualstream.flow.on_torch.level import Energy, solve_level


def tvl1_fast_flow(
    frames: NDArray[np.uint8],
    *,
    params: TVL1FastParams,
    device: str = "cpu",
    forward: bool = True,
    backward: bool = False,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Flow of neighbouring frames.

    At halves of the full size patches are searched, and a few iterations of TV-L1 smooth what
    they found before the next size starts; at full size TV-L1 alone goes on from there.

    Args:
        frames: (T, H, W) grey, T >= 2.
        params: energy, schedules and search; the arithmetic is always exact.
        device: torch device.
        forward, backward: which directions are wanted.

    Returns:
        Flow from frame t to t + 1 and from frame t + 1 to t, (T-1, 2, H, W) pixels each; None
        for what is not wanted. The flow of a pair does not depend on the others.
    """
    halves = count_halves(*frames.shape[1:], smallest_px=params.smallest_px)
    search = Search(stride=params.patch_stride, steps=params.descent_steps, rounds=params.rounds)
    energy = Energy(tau=params.tau, lambda_=params.lambda_, theta=params.theta)
    coarse_energy = Energy(tau=params.tau, lambda_=params.coarse_lambda, theta=params.theta)
    schedule, coarse_schedule = _schedules(params)

    def doubled(planes: Tensor, factor: float) -> Tensor:
        """(..., H // 2, W // 2) -> (..., H, W)."""
        return resize(planes, frames.shape[1:], ratio_y=0.5, ratio_x=0.5, factor=factor)

    def prepare(images: Tensor) -> Pyramid:
        sizes = [images]
        for _ in range(halves):
            sizes.append(half_size(sizes[-1]))
        return Pyramid(
            [with_gradient(size) for size in sizes], [patch_images(size) for size in sizes[1:]]
        )

    def solve(first: Pyramid, second: Pyramid) -> Tensor:
        flow: Tensor | None = None
        brightening: Tensor | None = None
        for level in range(halves, 0, -1):
            patches = first.patches[level - 1], second.patches[level - 1]
            start, brightening = search_flow(*patches, flow, search)
            flow = solve_level(
                first.images[level],
                second.images[level],
                start,
                brightening=brightening,
                energy=coarse_energy,
                schedule=coarse_schedule,
            )
        return solve_level(
            first.images[0],
            second.images[0],
            torch.zeros_like(first.images[0][:, :2]) if flow is None else doubled(flow, 2),
            brightening=None if brightening is None else doubled(brightening, 1),
            energy=energy,
            schedule=schedule,
        )

    return clip_flow(
        frames, prepare=prepare, solve=solve, device=device, forward=forward, backward=backward
    )


def count_halves(height: int, width: int, *, smallest_px: int) -> int:
    """Number of times that the size is halved: the short side keeps `smallest_px`, and a patch.

    240x320 at 32: twice (60x80); 60x80 at 32: never.
    """
    smallest, side, halves = max(smallest_px, PATCH_PX), min(height, width), 0
    while side // 2 >= smallest:
        side //= 2
        halves += 1
    return halves


def _schedules(params: TVL1FastParams) -> tuple[Schedule, Schedule]:
    """At full size, and at the sizes that are searched."""
    full = Schedule(
        warps=params.warps,
        inner_iterations=params.iterations,
        outer_iterations=1,
        median_size=params.median_size,
        epsilon=params.epsilon,
    )
    coarse = Schedule(
        warps=params.coarse_warps,
        inner_iterations=params.coarse_iterations,
        outer_iterations=1,
        median_size=params.coarse_median_size,
        epsilon=0.0,
    )
    return full, coarse
