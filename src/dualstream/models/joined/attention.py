"""Attention maps between two streams: their start, their prediction, where they enter."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualstream.errors import InputError, UnknownNameError
from dualstream.models.grad_cam import feature_maps
from dualstream.models.layers.backbone import ends_in_maps
from dualstream.models.layers.conv import first_convolution
from dualstream.models.layers.pooling import stack_time
from dualstream.models.network import Network

START = 0.1
"""Value that attention maps have everywhere before they are learnt; most of theirs are near 0."""


class AttentionNetwork(nn.Module):
    """Predict a stream's attention map from its features: conv, batch norm, ReLU, conv, sigmoid.

    The second convolution starts so that the map is `START` everywhere.

    Args:
        channels: C of the features.
        hidden: channels between the convolutions. The first is 1x1, as 3x3 over the channels of a
            last block would cost a fifth of a small backbone; the second is 3x3.

    Source:
        Park 2019, section 3.1 and figure 3.2, which leaves open the filters' size and number.
    """

    def __init__(self, channels: int, *, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
        )
        self.map = nn.Conv2d(hidden, 1, 3, padding=1)
        nn.init.zeros_(self.map.weight)
        nn.init.constant_(self.map.bias, math.log(START / (1 - START)))  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Features (N, C_i, H_i, W_i) of the target layers -> map (N, H, W) in 0..1, of `size`.

        Several layers are brought to the size of the first, bilinearly, and put side by side.
        """
        first, *others = features
        resized = [F.interpolate(f, first.shape[-2:], mode="bilinear") for f in others]
        found: Tensor = self.map(self.layers(torch.cat((first, *resized), dim=1))).sigmoid()
        return F.interpolate(found, size, mode="bilinear")[:, 0]


def check_targets(targets: Sequence[str] | None, tower: Network, clips: Tensor) -> dict[str, int]:
    """Return the layers that attention comes from, and their channels.

    Args:
        targets: names of layers of the tower; None is the last with several places.
        tower: a `tsn`.
        clips: (N, C, T, H, W) of the usual size; only its shape matters.

    Raises:
        InputError: the backbone does not end in feature maps.
        UnknownNameError: no such layer; lists the outermost of those that serve.
    """
    known = {n: shape for n, shape in feature_maps(tower, clips).items() if max(shape[2:]) > 1}
    backbone = tower.get_submodule("backbone")
    if not known or not ends_in_maps(backbone, stack_time(clips)):
        raise InputError(
            f"{tower.name} over this backbone ends in no feature maps that attention could come "
            "from: choose a convolutional backbone."
        )
    for target in targets or ():
        if target not in known:
            outermost = [name for name in known if name.rpartition(".")[0] not in known]
            raise UnknownNameError(f"target layer of {tower.name}", target, outermost)
    return {target: known[target][1] for target in targets or [*known][-1:]}


def map_filter(tower: nn.Module) -> nn.Module:
    """The first convolution of a tower for one channel, without bias, of zeros."""
    _, first = first_convolution(tower)
    filters = copy.deepcopy(first)
    filters.in_channels = 1
    shape = (first.out_channels, 1, *first.kernel_size)
    filters.weight = nn.Parameter(first.weight.new_zeros(shape))
    filters.bias = None
    return filters
