"""Convolutions: with their norm, with border frames repeated; what their weights start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, WeightsError

Triple = tuple[int, int, int]
"""Time, height, width."""

Activation = Literal["relu", "swish"]

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


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


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d | nn.Conv3d]:
    """First 2D or 3D convolution in the order of definition, and its name in the model.

    Raises:
        InputError: the model has none.
    """
    for name, module in model.named_modules():
        if isinstance(module, _CONVOLUTIONS):
            return name, module
    raise InputError(f"{type(model).__name__} has no 2D or 3D convolution that sees its input.")


def spread_channels(weight: torch.Tensor, *, in_channels: int) -> torch.Tensor:
    """Average a convolution over its input channels and copy the mean to each new channel.

    The sum over channels is not kept: n equal channels give n/3 times the RGB response, which the
    batch norm after the convolution takes up in training.

    Args:
        weight: (O, I, kh, kw) or (O, I, kt, kh, kw).
        in_channels: number of channels wanted.

    Returns:
        (O, in_channels, kh, kw) or (O, in_channels, kt, kh, kw).

    Source:
        Wang et al. 2016 (TSN), section 3.3, cross modality pre-training, and `models.py` of
        the authors' PyTorch code: mean over RGB, expanded, no rescaling.
    """
    repeats = [in_channels if dim == 1 else 1 for dim in range(weight.ndim)]
    return weight.mean(dim=1, keepdim=True).repeat(repeats)


def cross_modality_start(
    state: Mapping[str, torch.Tensor], model: nn.Module
) -> dict[str, torch.Tensor]:
    """State of a network whose first convolutions are made to fit `model` by `spread_channels`.

    A network of several pathways has several first convolutions; they are those that see as many
    channels as the first of all does.

    Args:
        state: state dict of the same network for other input channels, for instance RGB.
        model: the network that the state is to be loaded into, for instance for 2L flow channels.

    Returns:
        A new dict; `state` itself where the channels are the same already.

    Raises:
        WeightsError: `state` lacks the first convolution of `model`.
    """
    first, convolution = first_convolution(model)
    wanted = convolution.weight.shape[1]
    if f"{first}.weight" not in state:
        raise WeightsError(
            f"The weights have no '{first}.weight', the first convolution of "
            f"{type(model).__name__}: they are of another network."
        )
    started = dict(state)
    for name, module in model.named_modules():
        key = f"{name}.weight"
        if not isinstance(module, _CONVOLUTIONS) or key not in state:
            continue
        own, found = tuple(module.weight.shape), tuple(state[key].shape)
        fits_otherwise = (found[:1], found[2:]) == (own[:1], own[2:])
        if own[1] == wanted and found != own and fits_otherwise and state[key].is_floating_point():
            started[key] = spread_channels(state[key], in_channels=wanted)
    return started
