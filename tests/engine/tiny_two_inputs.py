"""The smallest network that sees frames and flow: a convolution each, and one classifier."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import ConvUnit
from dualstream.models.layers.pooling import global_mean
from dualstream.models.network import Network


class TinyTwoInputs(Network):
    """A convolution for each input; their means side by side go to the classifier."""

    def __init__(self, *, num_classes: int, in_channels: Mapping[str, int]) -> None:
        inputs = {name: Accepts(channels) for name, channels in in_channels.items()}
        super().__init__(num_classes=num_classes, inputs=inputs)
        self.convs = nn.ModuleDict(
            {name: ConvUnit(accepts.channels, 8, (1, 3, 3)) for name, accepts in inputs.items()}
        )
        self.add_classifier(8 * len(inputs), dropout=0.5)

    def encode(self, clips: Mapping[str, Tensor]) -> Tensor:
        """(N, C, T, H, W) of each input -> (N, 8 * inputs)."""
        return torch.cat(
            [global_mean(tower(clips[name])) for name, tower in self.convs.items()], dim=1
        )


tiny_two_inputs = TinyTwoInputs
