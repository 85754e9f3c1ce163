"""Parts that the 3D networks share: a convolution with its norm, and sizes of windows."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Triple = tuple[int, int, int]
"""Time, height, width."""

Activation = Literal["relu", "swish"]


def half(kernel: Triple) -> Triple:
    """Padding that keeps the size at stride 1: (3, 7, 1) -> (1, 3, 0)."""
    return kernel[0] // 2, kernel[1] // 2, kernel[2] // 2


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, activation: `conv`, `norm`, `activation`.

    All convolutions with a norm after them are these, but for the projection of non-local blocks,
    so that merging the two (`dualstream.models.fastest`) needs to know nothing else about a
    network.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        kernel: window in time, height, width.
        stride: step in time, height, width.
        padding: zeros on both sides; None keeps the size at stride 1 (`half`).
        groups: of the convolution; `in_channels` makes it channel-wise.
        activation: None leaves it out.
        eps: of the batch norm.
        momentum: of the batch norm's running statistics.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple,
        *,
        stride: Triple = (1, 1, 1),
        padding: Triple | None = None,
        groups: int = 1,
        activation: Activation | None = "relu",
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=half(kernel) if padding is None else padding,
            groups=groups,
            bias=False,
        )
        self.norm: nn.Module = nn.BatchNorm3d(out_channels, eps=eps, momentum=momentum)
        self.activation = make_activation(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        y: torch.Tensor = self.activation(self.norm(self.conv(x)))
        return y


def make_activation(name: Activation | None) -> nn.Module:
    """ReLU or swish in place, or the identity."""
    if name is None:
        return nn.Identity()
    return nn.SiLU(inplace=True) if name == "swish" else nn.ReLU(inplace=True)
