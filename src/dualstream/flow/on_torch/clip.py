"""The flow of a clip in torch, a bounded number of pairs at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Pixels of the pairs that are solved at once: on the CPU a batch that stays in the cache, on a
# GPU one that fills it.
_CPU_PIXELS = 2**17
_GPU_PIXELS = 2**24
# Pixels of the frames whose pyramids are kept, on the CPU.
_CPU_KEPT_PIXELS = 2**20


@dataclass(frozen=True, eq=False)
class Pyramid:
    """Frames at several sizes, the largest first."""

    images: list[Tensor]
    """(T, 3, H, W) at each size: brightness and gradient."""
    patches: list[Tensor] = field(default_factory=list)
    """(T, 3, H + border, W + border) at each size in which patches are searched."""

    def take(self, frames: slice) -> Pyramid:
        return Pyramid([i[frames] for i in self.images], [p[frames] for p in self.patches])


def clip_flow(
    frames: NDArray[np.uint8],
    *,
    prepare: Callable[[Tensor], Pyramid],
    solve: Callable[[Pyramid, Pyramid], Tensor],
    device: str,
    forward: bool,
    backward: bool,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Flow of neighbouring frames, in the directions that are wanted.

    Args:
        frames: (T, H, W) grey, T >= 2.
        prepare: (T', H, W) float32 brightness -> pyramid; computed once for both directions.
        solve: pyramids of N first and of N second images -> flow (N, 2, H, W) in pixels.
        device: torch device.
        forward, backward: which directions are wanted.

    Returns:
        Forward and backward flow, (T-1, 2, H, W) each; None for one that is not wanted.
    """
    pairs, (height, width) = len(frames) - 1, frames.shape[1:]
    on_cpu = torch.device(device).type == "cpu"
    batch = max(1, (_CPU_PIXELS if on_cpu else _GPU_PIXELS) // (height * width))
    kept = max(batch, _CPU_KEPT_PIXELS // (height * width)) if on_cpu else batch
    shape = (pairs, 2, height, width)
    there = np.empty(shape, np.float32) if forward else None
    back = np.empty(shape, np.float32) if backward else None
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
