"""2D windows repeated over time, and convolutions that see border frames again."""

from __future__ import annotations

import torch
from torch import nn

from dualstream.errors import ShapeError


def inflate_weight(weight: torch.Tensor, *, time_kernel: int) -> torch.Tensor:
    """Window of a 2D convolution over `time_kernel` frames.

    Args:
        weight: (O, I, kh, kw), or (O, I, 1, kh, kw).
        time_kernel: kt, at least 1.

    Returns:
        (O, I, kt, kh, kw), whose sum over time is `weight`.

    Raises:
        ShapeError: `weight` has another shape.

    Source:
        Carreira & Zisserman 2017, section 2.4.
    """
    if weight.ndim not in (4, 5) or (weight.ndim == 5 and weight.shape[2] != 1):
        raise ShapeError(
            f"A 2D window must be (O, I, kh, kw) or (O, I, 1, kh, kw), got {tuple(weight.shape)}."
        )
    flat = weight if weight.ndim == 5 else weight.unsqueeze(2)  # (O, I, 1, kh, kw)
    return flat.repeat(1, 1, time_kernel, 1, 1) / time_kernel


class RepeatingConv3d(nn.Conv3d):
    """Convolution that sees the first and the last frame again where others see zeros.

    Over height and width it pads zeros as usual.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        time, *space = (int(pad) for pad in self.padding)
        if time:
            x = nn.functional.pad(x, (0, 0, 0, 0, time, time), mode="replicate")
        return nn.functional.conv3d(
            x, self.weight, self.bias, self.stride, (0, *space), self.dilation, self.groups
        )
