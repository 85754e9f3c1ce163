"""Batches of images in torch: their size, their gradient, their values between the pixels.

Source:
    Catmull & Rom 1974 (cubic interpolation with the neighbours' half difference as slope).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def with_gradient(images: Tensor) -> Tensor:
    """(N, H, W) float32 -> (N, 3, H, W): brightness, and its slopes along x and y.

    A slope is half the difference of the neighbours, edges repeated.
    """
    bordered = F.pad(images, (1, 1, 1, 1), mode="replicate")
    along_x = bordered[:, 1:-1, 2:] - bordered[:, 1:-1, :-2]
    along_y = bordered[:, 2:, 1:-1] - bordered[:, :-2, 1:-1]
    return torch.stack((images, along_x / 2, along_y / 2), 1)


def half_size(images: Tensor) -> Tensor:
    """(..., H, W) -> (..., H // 2, W // 2), means of four pixels; an odd last one is left out."""
    even = images[..., : images.shape[-2] // 2 * 2, : images.shape[-1] // 2 * 2]
    above, below = even[..., ::2, :], even[..., 1::2, :]
    pairs = (above[..., ::2] + above[..., 1::2]) + (below[..., ::2] + below[..., 1::2])
    return pairs / 4


def resize(
    planes: Tensor, size: tuple[int, int], *, ratio_y: float, ratio_x: float, factor: float = 1.0
) -> Tensor:
    """Bilinear resizing (..., H, W) -> (..., h, w), pixel centres at half-integers, edges repeated.

    Args:
        planes: (..., H, W) float32.
        size: (h, w).
        ratio_y, ratio_x: pixels of `planes` that one pixel of the result spans; H / h and W / w,
            or what they were before h and w were rounded.
        factor: what values are multiplied by.
    """
    low, high, weight = _taps(size[0], ratio_y, planes.shape[-2], planes.device)
    above = planes[..., low, :]
    rows = (above + weight[:, None] * (planes[..., high, :] - above)) * factor
    low, high, weight = _taps(size[1], ratio_x, planes.shape[-1], planes.device)
    left = rows[..., low]
    return left + weight * (rows[..., high] - left)


def _taps(
    size: int, ratio: float, source_size: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel of an axis: the two source pixels it lies between, and the second's weight.

    2 of 4 pixels, ratio 2: positions 0.5 and 2.5, so (0, 2), (1, 3), (0.5, 0.5).
    """
    centres = torch.arange(size, device=device, dtype=torch.float32) + 0.5
    position = (centres * float(np.float32(ratio)) - 0.5).clamp_(0, source_size - 1)
    low = position.long()
    return low, (low + 1).clamp_(max=source_size - 1), position - low


def sample(images: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness and slopes between the pixels.

    Args:
        images: (N, 3, H, W) of `with_gradient`.
        x, y: (N, h, w) places inside the images, 0 <= x <= W - 1 and 0 <= y <= H - 1.

    Returns:
        Brightness (N, h, w) by cubic interpolation with the slopes that the pixels carry, and
        slopes (N, 2, h, w) by linear interpolation.
    """
    height, width = images.shape[2:]
    left, top = x.floor(), y.floor()
    column, row = left.long(), top.long()
    # At the far edges the next pixel has weight 0.
    right, below = (column + 1).clamp(max=width - 1), (row + 1).clamp(max=height - 1)
    pixels = images.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        """(N, h, w) places -> (N, 3, h, w)."""
        places = (row * width + column).flatten(1)[:, None].expand(-1, 3, -1)
        return pixels.gather(2, places).view(-1, 3, *x.shape[1:])

    along_x, along_y = x - left, y - top
    near = _between_rows(at(row, column), at(below, column), along_y)
    far = _between_rows(at(row, right), at(below, right), along_y)
    brightness = _cubic(near[0], far[0], near[1][:, 0], far[1][:, 0], along_x)
    return brightness, torch.lerp(near[1], far[1], along_x[:, None])


def _between_rows(above: Tensor, below: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Two (N, 3, h, w) a row apart -> brightness (N, h, w), slopes (N, 2, h, w) between them."""
    brightness = _cubic(above[:, 0], below[:, 0], above[:, 2], below[:, 2], weight)
    return brightness, torch.lerp(above[:, 1:], below[:, 1:], weight[:, None])


def _cubic(a: Tensor, b: Tensor, slope_a: Tensor, slope_b: Tensor, weight: Tensor) -> Tensor:
    """Between a and b, which are 1 apart; weight 0 gives a, weight 1 gives b."""
    rise, rest = b - a, 1 - weight
    bend = rest * (slope_a - rise) - weight * (slope_b - rise)
    return a + weight * (rise + rest * bend)
