"""C3D: eight 3x3x3 convolutions and two fully connected layers (Tran et al. 2015)."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from dualstream.errors import InputError
from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import start_as_he
from dualstream.models.layers.pooling import MaxPool
from dualstream.models.network import Network, check_dropout

SMALLEST = 16
"""Least `length` and `image_size` whose every layer has an output: four pools halve them."""


def feature_size(length: int, image_size: int) -> tuple[int, int]:
    """Length and side in cells of the last pooling layer's output for a square image.

    Length 16 -> 16 -> 8 -> 4 -> 2 -> 1. Side 112 -> 56 -> 28 -> 14 -> 7 -> 4: the last pool has
    zeros around in height and width.
    """
    return length // 16, (image_size // 16) // 2 + 1


class C3D(Network):
    """C3D: eight 3x3x3 convolutions, five pools, two fully connected layers of 4096.

    Weights start as in He et al. 2015 with zero biases, the classifier at a deviation of 0.01.
    The authors' start (deviation 0.01, biases of 1) is for pixels of 0..255 and lets the signal of
    normalised ones fade.

    Args:
        length: T, at least 16; the fully connected layers fix it.
        image_size: H and W in pixels, at least 16; the fully connected layers fix it.

    The others are `NetworkOptions`; dropout is after both fully connected layers.

    Raises:
        InputError: a number is out of range.

    Source:
        Tran et al. 2015, section 3.3; zeros around the last pool, which Caffe's rounding up needs
        there (7 -> 4 cells), as in the ports of the Sports-1M weights.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        length: int = 16,
        image_size: int = 112,
        dropout: float = 0.5,
        checkpointing: bool = False,
    ) -> None:
        for name, value in (("length", length), ("image_size", image_size)):
            if value < SMALLEST:
                raise InputError(f"{name} of c3d must be at least {SMALLEST}, got {value}.")
        check_dropout(dropout)
        super().__init__(
            num_classes=num_classes,
            inputs=Accepts(in_channels, length, side=image_size),
            checkpointing=checkpointing,
        )
        self.conv_1 = _group(in_channels, 64, pool=MaxPool((1, 2, 2)))
        self.conv_2 = _group(64, 128, pool=MaxPool((2, 2, 2)))
        self.conv_3 = _group(128, 256, 256, pool=MaxPool((2, 2, 2)))
        self.conv_4 = _group(256, 512, 512, pool=MaxPool((2, 2, 2)))
        self.conv_5 = _group(512, 512, 512, pool=MaxPool((2, 2, 2), padding=(0, 1, 1)))
        time, side = feature_size(length, image_size)
        self.full_6 = nn.Sequential(
            nn.Linear(512 * time * side * side, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )
        self.full_7 = nn.Sequential(nn.Linear(4096, 4096), nn.ReLU(inplace=True))
        start_as_he(self)
        self.add_classifier(4096, dropout=dropout, deviation=0.01)

    def parts(self) -> tuple[nn.Module, ...]:
        groups = self.conv_1, self.conv_2, self.conv_3, self.conv_4, self.conv_5
        return (*groups, nn.Flatten(), self.full_6, self.full_7)

    def units(self, part: nn.Module) -> tuple[nn.Module, ...]:
        """A group with its pool: its activations change each other in place."""
        return (part,)


def _group(*channels: int, pool: MaxPool) -> nn.Sequential:
    """3x3x3 convolutions with ReLU from each number of channels to the next, then the pool."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv3d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, pool)


c3d = C3D
"""The name in `MODELS`."""
