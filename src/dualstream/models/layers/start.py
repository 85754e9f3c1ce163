"""Values that weights start from."""

from __future__ import annotations

from typing import Literal

from torch import nn


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
