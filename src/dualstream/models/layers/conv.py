"""Convolutions: with their norm, inflated over time, with border frames repeated; their start."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from dualstream.errors import ShapeError

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


def start_as_he(network: nn.Module, *, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    """Give convolutions and linear layers normal weights for ReLU, and zero biases.

    Args:
        mode: whether the deviation keeps the size of activations (fan_in) or gradients (fan_out).

    Source:
        He et al. 2015.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


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
