"""Losses of estimated motion that need no labels: the next frame, warped back, must be this one.

Source:
    Zhu et al. 2017 (Hidden Two-Stream), section 3.1; every number from the authors'
    `train.prototxt` and their layers CharbonnierLoss and SSIMLoss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dualstream.errors import ShapeError

UNIT_PX = 20.0
"""Pixels of the frames that a value of 1 of the network's flow stands for.

The authors scale flow by 10, 5, 2.5, 1.25 and .625 before warping frames of a half, a quarter, ...
of the side: that is 20 pixels of the frames themselves.
"""

SSIM_WEIGHTS = (0.16, 0.08, 0.04, 0.02, 0.01)
"""Weight of the structural similarity of a level, from the coarsest to the finest; they belong to
sums over blocks and channels. (DeepEthogram has these numbers for smoothness.)"""

SSIM_TERMS = (30, 120, 480, 1470, 5880)
"""Terms of those sums at the authors' size: 10 frames of 3 channels, and 1, 4, 16, 49 and 196
blocks of the levels of 7, 14, 28, 56 and 112 pixels. So many times the mean, whatever the size."""

BLOCK = 8
"""Side and distance of the blocks of structural similarity, in pixels of a level."""

BORDER = 0.1
"""Part of the shorter side that photometric and smoothness loss leave out along each border."""


@dataclass(frozen=True, eq=False)
class MotionLosses:
    """The three losses, weighted and summed over levels, and how well the finest level warps."""

    photometric: Tensor
    smoothness: Tensor
    ssim: Tensor
    similarity: Tensor
    """Mean structural similarity at the finest level, 1 for frames that are warped perfectly."""

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.photometric + self.smoothness + self.ssim


def motion_losses(frames: Tensor, levels: Sequence[Tensor]) -> MotionLosses:
    """Losses of flow at five levels.

    Frames are normalised by local response and averaged down to each level's size. There the
    photometric loss (weight 1), the smoothness of the flow in pixels of the level (weight 1) and
    the structural similarity (`SSIM_WEIGHTS`) are added. The losses are means, so that neither the
    size of the batch nor of the frames changes their balance; the authors' layer divides the first
    two by the size of the batch (16) once more.

    Args:
        frames: (N, C, T, H, W) in units of the full range of bytes, T from 2.
        levels: from the coarsest to the finest, each (N, T-1, 2, h, w) in units of `UNIT_PX`; x
            right, y down.

    Raises:
        ShapeError: another number of levels, or levels that are not of these frames.
    """
    count, _, length, *_ = frames.shape
    if len(levels) != len(SSIM_WEIGHTS):
        raise ShapeError(f"There must be {len(SSIM_WEIGHTS)} levels, got {len(levels)}.")
    for level in levels:
        if level.shape[:3] != (count, length - 1, 2):
            raise ShapeError(
                f"A level must be (N, T-1, 2, h, w) with N = {count} and T = {length}, got "
                f"{tuple(level.shape)}."
            )
    # Variances are differences of squares, which half precision would lose.
    with torch.autocast(frames.device.type, enabled=False):
        return _in_full_precision(frames.float(), [level.float() for level in levels])


def _in_full_precision(frames: Tensor, levels: Sequence[Tensor]) -> MotionLosses:
    count, channels, length, *size = frames.shape
    images = local_response(frames.transpose(1, 2).flatten(0, 1))  # (N*T, C, H, W)
    photometric = smoothness = ssim = similarity = frames.new_zeros(())
    for level, weight, terms in zip(levels, SSIM_WEIGHTS, SSIM_TERMS, strict=True):
        small = F.interpolate(images, size=level.shape[-2:], mode="area")
        small = small.reshape(count, length, channels, *level.shape[-2:])
        # (N*(T-1), C, h, w) twice, and (N*(T-1), 2, h, w)
        first, second = small[:, :-1].flatten(0, 1), small[:, 1:].flatten(0, 1)
        flow = in_pixels(level.flatten(0, 1), size)
        warped = warp(second, flow)
        photometric = photometric + inside(charbonnier(255 * (first - warped), 0.4)).mean()
        smoothness = smoothness + smoothness_loss(flow)
        similarity = ssim_of_blocks(warped, first).mean()
        ssim = ssim + weight * terms * (1 - similarity)
    return MotionLosses(photometric, smoothness, ssim, similarity)


def in_pixels(level: Tensor, size: Sequence[int]) -> Tensor:
    """Flow of a level in pixels of that level.

    Args:
        level: (..., 2, h, w) in units of `UNIT_PX` of frames of (H, W) `size`.
    """
    height, width = level.shape[-2:]
    scale = level.new_tensor([width / size[1], height / size[0]]).view(2, 1, 1)
    return level * (UNIT_PX * scale)


def local_response(images: Tensor) -> Tensor:
    """Images (N, C, H, W) divided by (1 + sum over channels of squares / 9) ** .7.

    The window of 9 channels holds all of up to five: brightness counts less, structure more.
    """
    return F.local_response_norm(images, 9, alpha=1.0, beta=0.7, k=1.0)


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """Read images where flow leads to, bilinearly; outside they are 0.

    Args:
        images: (N, C, H, W), the later frames.
        flow: (N, 2, H, W) pixels from each pixel of the earlier frame to its place in the later.

    Returns:
        (N, C, H, W), the earlier frames as far as nothing is hidden.

    Raises:
        ShapeError: flow that is not of these images.
    """
    count, _, height, width = images.shape
    if flow.shape != (count, 2, height, width):
        raise ShapeError(
            f"flow must be {(count, 2, height, width)} for images {tuple(images.shape)}, got "
            f"{tuple(flow.shape)}."
        )
    rows = torch.arange(height, dtype=flow.dtype, device=flow.device)
    columns = torch.arange(width, dtype=flow.dtype, device=flow.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    # -1..1 from the first to the last pixel; a side of 1 pixel has one place.
    place_x = (x + flow[:, 0]) / max(width - 1, 1) * 2 - 1
    place_y = (y + flow[:, 1]) / max(height - 1, 1) * 2 - 1
    grid = torch.stack((place_x, place_y), dim=-1)  # (N, H, W, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def charbonnier(difference: Tensor, exponent: float, *, epsilon: float = 1e-3) -> Tensor:
    """Return (difference ** 2 + epsilon ** 2) ** exponent, which outliers pull at little.

    At no difference it is least, epsilon ** (2 * exponent).
    """
    return (difference.square() + epsilon**2).pow(exponent)


def inside(values: Tensor) -> Tensor:
    """Values (..., H, W) without a border of a tenth of the shorter side, rounded."""
    height, width = values.shape[-2:]
    # Python rounds a half to the even number, C's round, which the authors' layer has, upwards.
    border = min(int(BORDER * min(height, width) + 0.5), (min(height, width) - 1) // 2)
    return values[..., border : height - border, border : width - border]


def smoothness_loss(flow: Tensor) -> Tensor:
    """Mean Charbonnier loss, exponent .3, of the steps of a flow to the right and down.

    Where there is no neighbour to the right or below, the step is 0.

    Args:
        flow: (N, 2, H, W) pixels.

    Returns:
        Scalar: the sum of the two directions, mean over the two components and over all pixels but
        the border's.
    """
    right = F.pad(flow[..., :, 1:] - flow[..., :, :-1], (0, 1))
    down = F.pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1))
    return sum(
        (inside(charbonnier(step, 0.3)).mean() for step in (right, down)), flow.new_zeros(())
    )


def ssim_of_blocks(images: Tensor, others: Tensor, *, c1: float = 1e-4, c2: float = 1e-3) -> Tensor:
    """Structural similarity of the blocks of two images, 1 where they are equal.

    Blocks are 8x8, side by side, weighted by a Gaussian of deviation 4/3 pixels around (4, 4).
    Those that reach over the right or lower edge are weighted by what they have inside; the
    authors' weights there do not sum to 1.

    Args:
        images, others: (N, C, H, W).

    Returns:
        (N, C, ceil(H / 8), ceil(W / 8)).

    Source:
        Wang et al. 2004.
    """
    offsets = torch.arange(BLOCK, dtype=images.dtype, device=images.device) - BLOCK / 2
    profile = torch.exp(-offsets.square() / (2 * (BLOCK / 6) ** 2))
    window = (profile[:, None] * profile[None, :])[None, None]
    height, width = images.shape[-2:]
    missing = (0, -width % BLOCK, 0, -height % BLOCK)

    def sums(values: Tensor) -> Tensor:
        """(N, C, H, W) -> weighted sums of the blocks, (N, C, h, w)."""
        padded = F.pad(values, missing).flatten(0, 1).unsqueeze(1)  # (N*C, 1, H', W')
        return F.conv2d(padded, window, stride=BLOCK).reshape(*values.shape[:2], -1)

    weights = sums(torch.ones_like(images[:1, :1]))
    mean_a, mean_b, square_a, square_b, product = (
        sums(values) / weights
        for values in (images, others, images.square(), others.square(), images * others)
    )
    variances = square_a + square_b - mean_a.square() - mean_b.square()
    covariance = product - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    blocks = -(-height // BLOCK), -(-width // BLOCK)
    return (luminance * structure).reshape(*images.shape[:2], *blocks)
