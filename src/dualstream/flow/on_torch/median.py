"""Median filter of flow planes, on the CPU by OpenCV and elsewhere by torch."""

from __future__ import annotations

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from dualstream.flow.on_torch.fused import Fused


def median_filter(planes: Tensor, size: int) -> Tensor:
    """Median of the size x size pixels around each pixel of (N, C, H, W) float32 planes.

    Edges are repeated; `size` is 1 (nothing changes), 3 or 5.
    """
    if size == 1:
        return planes
    if planes.device.type != "cpu":
        return _selection(planes, size)
    out = torch.empty_like(planes, memory_format=torch.contiguous_format)
    sources, targets = planes.contiguous().numpy(), out.numpy()
    for source, target in zip(
        sources.reshape(-1, *planes.shape[2:]), targets.reshape(-1, *planes.shape[2:]), strict=True
    ):
        cv2.medianBlur(source, size, dst=target)
    return out


def median_by_selection(planes: Tensor, size: int) -> Tensor:
    """`median_filter` by minima and maxima of whole planes.

    Of the size^2 shifted planes, just over half are kept. Their smallest and their largest
    cannot be the median, so both are dropped and the next plane joins, until one is left.
    """
    half = size // 2
    padded = F.pad(planes, (half, half, half, half), mode="replicate")
    height, width = planes.shape[2:]
    shifted = [padded[..., y : y + height, x : x + width] for y in range(size) for x in range(size)]
    keep = len(shifted) // 2 + 2
    kept, waiting = shifted[:keep], shifted[keep:]
    while len(kept) > 1:
        kept = _without_extremes(kept)
        if waiting:
            kept.append(waiting.pop())
    return kept[0]


def _without_extremes(planes: list[Tensor]) -> list[Tensor]:
    """n >= 3 planes -> n - 2 that hold, at each pixel, all values but a smallest and a largest."""
    low = [torch.minimum(a, b) for a, b in zip(planes[::2], planes[1::2], strict=False)]
    high = [torch.maximum(a, b) for a, b in zip(planes[::2], planes[1::2], strict=False)]
    kept: list[Tensor] = []
    if len(planes) % 2:  # the one without a partner: no smaller than low[0], no larger than high[0]
        odd = planes[-1]
        low[0], odd = torch.minimum(low[0], odd), torch.maximum(low[0], odd)
        high[0], odd = torch.maximum(high[0], odd), torch.minimum(high[0], odd)
        kept.append(odd)
    smallest, largest = low[0], high[0]
    for plane in low[1:]:
        kept.append(torch.maximum(smallest, plane))
        smallest = torch.minimum(smallest, plane)
    for plane in high[1:]:
        kept.append(torch.minimum(largest, plane))
        largest = torch.maximum(largest, plane)
    return kept


def _example(device: torch.device) -> tuple[Tensor, int]:
    return torch.zeros((5, 2, 7, 11), device=device), 5


_selection = Fused(median_by_selection, example=_example)
