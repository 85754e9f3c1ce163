"""Both TV-L1 methods in torch: all pairs of a batch at once, on the CPU or a GPU.

They give the same flow as the compiled kernel (`kernel.kernel_flow`), to rounding (and but for
single patches that rounding sends another way): the CPU uses them where the kernel was not built.

The energy of a pair is the total variation of the flow plus lambda times the absolute
difference between the first image and the second warped by the flow. On each level of an image
pyramid the second image is linearised around the flow so far (`warps` times), and the energy
is minimised by alternating a pointwise thresholding step with a step of the dual variables of
the total variation (`iterate`). `tvl1-fast` searches patches at halves of the full size, and a
few iterations of TV-L1 smooth what they found before the next size starts; at full size TV-L1
alone goes on from there.

Source:
    Zach, Pock & Bischof 2007; pyramid, warping, median filter and stopping as in OpenCV's
    `DualTVL1OpticalFlow` (after Sanchez, Meinhardt-Llopis & Facciolo 2013). Three things differ:
    the gradient is the mean of both images', pixels whose flow leads out of the image have no
    data term (OpenCV warps in zeros, so that still edges can drift), and whether to stop is
    asked in every fifth iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualstream.flow.methods.params import PATCH_PX, TVL1FastParams, TVL1Params
from dualstream.flow.on_torch.dis import patch_images, search_flow
from dualstream.flow.on_torch.image import half_size, resize, with_gradient
from dualstream.flow.on_torch.iterate import solve_level

_SMALLEST_LEVEL_PX = 16
# Pixels of the pairs that are solved at once: on the CPU a batch that stays in the cache, on a
# GPU one that fills it.
_CPU_PIXELS = 2**17
_GPU_PIXELS = 2**24
# Pixels of the frames whose pyramids are kept, on the CPU.
_CPU_KEPT_PIXELS = 2**20


class _Pyramid(NamedTuple):
    """Frames at several sizes, the largest first."""

    images: list[Tensor]
    """(T, 3, H, W) at each size: brightness and gradient."""
    patches: list[Tensor]
    """(T, 3, H + border, W + border) at each size in which patches are searched."""

    def take(self, frames: slice) -> _Pyramid:
        return _Pyramid(*([level[frames] for level in levels] for levels in self))


# Makes the pyramid of (T, H, W) float32 brightness.
_Prepare = Callable[[Tensor], _Pyramid]
# Gives the flow (N, 2, H, W) in pixels of N pairs.
_Solve = Callable[[_Pyramid, _Pyramid], Tensor]


def tvl1_flow(
    frames: NDArray[np.uint8],
    *,
    params: TVL1Params | TVL1FastParams,
    device: str = "cpu",
    forward: bool = True,
    backward: bool = False,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Flow of neighbouring frames, a bounded number of pairs at a time.

    Args:
        frames: (T, H, W) grey, T >= 2.
        params: the method and its settings; the arithmetic is always exact.
        device: torch device.
        forward, backward: which directions are wanted.

    Returns:
        Flow from frame t to t + 1 and from frame t + 1 to t, (T-1, 2, H, W) pixels each; None
        for what is not wanted. The flow of a pair does not depend on the others.
    """
    pairs, (height, width) = len(frames) - 1, frames.shape[1:]
    functions = _plain if isinstance(params, TVL1Params) else _fast
    prepare, solve = functions(params, height, width)  # type: ignore[arg-type]
    on_cpu = torch.device(device).type == "cpu"
    batch = max(1, (_CPU_PIXELS if on_cpu else _GPU_PIXELS) // (height * width))
    kept = max(batch, _CPU_KEPT_PIXELS // (height * width)) if on_cpu else batch
    shape = (pairs, 2, height, width)
    there, back = (np.empty(shape, np.float32) if w else None for w in (forward, backward))
    with torch.inference_mode():
        for start in range(0, pairs, kept):
            some = frames[start : start + kept + 1].copy()  # torch warns of read-only arrays
            pyramid = prepare(torch.from_numpy(some).to(device).float())
            for at in range(0, len(some) - 1, batch):
                end = min(at + batch, len(some) - 1)
                first, second = pyramid.take(slice(at, end)), pyramid.take(slice(at + 1, end + 1))
                out = slice(start + at, start + end)
                if there is not None:
                    there[out] = solve(first, second).cpu().numpy()
                if back is not None:
                    back[out] = solve(second, first).cpu().numpy()
    return there, back


def _plain(params: TVL1Params, height: int, width: int) -> tuple[_Prepare, _Solve]:
    sizes = level_sizes(height, width, scales=params.scales, scale_step=params.scale_step)
    ratio = 1 / params.scale_step

    def prepare(images: Tensor) -> _Pyramid:
        levels = [images]
        for size in sizes[1:]:  # not the ratio of the rounded sizes: centres lie this far apart
            levels.append(resize(levels[-1], size, ratio_y=ratio, ratio_x=ratio))
        return _Pyramid([with_gradient(level) for level in levels], [])

    def solve(first: _Pyramid, second: _Pyramid) -> Tensor:
        coarsest = first.images[-1]
        flow = torch.zeros_like(coarsest[:, :2])
        for here, there in zip(reversed(first.images), reversed(second.images), strict=True):
            if here is not coarsest:
                size = here.shape[2], here.shape[3]
                y, x = flow.shape[2] / size[0], flow.shape[3] / size[1]
                flow = resize(flow, size, ratio_y=y, ratio_x=x, factor=ratio)
            flow = solve_level(here, there, flow, energy=params.energy, schedule=params.schedule)
        return flow

    return prepare, solve


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


def _fast(params: TVL1FastParams, height: int, width: int) -> tuple[_Prepare, _Solve]:
    halves = count_halves(height, width, smallest_px=params.smallest_px)
    coarse_energy = replace(params.energy, lambda_=params.coarse_lambda)

    def doubled(planes: Tensor, factor: float) -> Tensor:
        """(..., H // 2, W // 2) -> (..., H, W)."""
        return resize(planes, (height, width), ratio_y=0.5, ratio_x=0.5, factor=factor)

    def prepare(images: Tensor) -> _Pyramid:
        sizes = [images]
        for _ in range(halves):
            sizes.append(half_size(sizes[-1]))
        return _Pyramid([with_gradient(s) for s in sizes], [patch_images(s) for s in sizes[1:]])

    def solve(first: _Pyramid, second: _Pyramid) -> Tensor:
        flow: Tensor | None = None
        brightening: Tensor | None = None
        for level in range(halves, 0, -1):
            patches = first.patches[level - 1], second.patches[level - 1]
            start, brightening = search_flow(*patches, flow, params)
            flow = solve_level(
                first.images[level],
                second.images[level],
                start,
                brightening=brightening,
                energy=coarse_energy,
                schedule=params.coarse_schedule,
            )
        return solve_level(
            first.images[0],
            second.images[0],
            torch.zeros_like(first.images[0][:, :2]) if flow is None else doubled(flow, 2),
            brightening=None if brightening is None else doubled(brightening, 1),
            energy=params.energy,
            schedule=params.schedule,
        )

    return prepare, solve


def count_halves(height: int, width: int, *, smallest_px: int) -> int:
    """Number of times that the size is halved: the short side keeps `smallest_px`, and a patch.

    240x320 at 32: twice (60x80); 60x80 at 32: never.
    """
    smallest, side, halves = max(smallest_px, PATCH_PX), min(height, width), 0
    while side // 2 >= smallest:
        side //= 2
        halves += 1
    return halves
