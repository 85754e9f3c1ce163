"""Weights of an RGB network as the start of a network with other input channels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from dualstream.errors import InputError, WeightsError

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


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
