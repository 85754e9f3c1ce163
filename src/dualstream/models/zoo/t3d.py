"""T3D (Diba et al. 2017): a 3D DenseNet whose transitions look at several lengths of time."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import nn

from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import ConvUnit, Triple, start_as_he
from dualstream.models.layers.pooling import MaxPool
from dualstream.models.network import Network, NetworkOptions

GROWTH = 32
"""Channels that each dense layer adds."""

BOTTLENECK = 4 * GROWTH
"""Channels between the two convolutions of a dense layer."""

BRANCH_CHANNELS = 128
"""Channels of each branch of a temporal transition."""


class DenseLayer(nn.Module):
    """Adds `GROWTH` channels to its input, through a 1x1x1 and a 3x3x3 convolution.

    Norm and ReLU stand in front of each convolution. Those of the second directly follow the
    first, so `conv1` is a `ConvUnit`: norm1, ReLU, (conv1.conv, conv1.norm, ReLU), conv2.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm3d(in_channels)
        self.activation1 = nn.ReLU(inplace=True)
        self.conv1 = ConvUnit(in_channels, BOTTLENECK, (1, 1, 1))
        self.conv2 = nn.Conv3d(BOTTLENECK, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C + GROWTH, T, H, W)."""
        added = self.conv2(self.conv1(self.activation1(self.norm1(x))))
        return torch.cat([x, added], dim=1)


class TransitionBranch(nn.Module):
    """Norm, ReLU, and a convolution that keeps the size; even windows reach one frame further on.

    A window of 6 frames sees from 2 frames before to 3 after, one of 4 from 1 before to 2 after.
    """

    def __init__(self, in_channels: int, kernel: Triple) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(in_channels)
        self.activation = nn.ReLU(inplace=True)
        frames, height, width = kernel
        self.conv = nn.Conv3d(
            in_channels,
            BRANCH_CHANNELS,
            kernel,
            padding=((frames - 1) // 2, height // 2, width // 2),
            bias=False,
        )
        self.frames_after = 1 - frames % 2
        """Zeros that an even window needs after the clip on top of the convolution's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, BRANCH_CHANNELS, T, H, W)."""
        x = self.activation(self.norm(x))
        if self.frames_after:
            x = nn.functional.pad(x, (0, 0, 0, 0, 0, self.frames_after))  # (N, C, T + 1, H, W)
        y: torch.Tensor = self.conv(x)
        return y


class TemporalTransition(nn.Module):
    """Temporal transition layer: branches of several temporal lengths, joined and halved.

    Args:
        longest: frames that the longest branch's window spans; the others span 1 (1x1x1) and 3.
    """

    out_channels = 3 * BRANCH_CHANNELS

    def __init__(self, in_channels: int, *, longest: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            TransitionBranch(in_channels, kernel)
            for kernel in ((1, 1, 1), (3, 3, 3), (longest, 3, 3))
        )
        self.pool = nn.AvgPool3d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, 3 * BRANCH_CHANNELS, T / 2, H / 2, W / 2), rounded down."""
        y: torch.Tensor = self.pool(torch.cat([branch(x) for branch in self.branches], dim=1))
        return y


class T3D(Network):
    """Stem, four dense blocks with temporal transitions between them; see the variants below.

    Takes clips of at least 15 x 29 x 29: the last dense block needs one place, and 15 frames
    become 8, 4, 2, 1, and 29 pixels 15 (stem), 8 (its pooling), 4, 2, 1. Convolutions start as in
    He et al. 2015, like DenseNet's. The paper has no dropout.

    Args:
        layers: of each dense block.

    The others are `NetworkOptions`.
    """

    def __init__(
        self,
        *,
        layers: tuple[int, int, int, int],
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            inputs=Accepts(in_channels, smallest=(15, 29, 29)),
            checkpointing=checkpointing,
        )
        self.stem = nn.Sequential(
            ConvUnit(in_channels, 64, (3, 7, 7), stride=(2, 2, 2)),
            MaxPool((3, 3, 3), stride=(1, 2, 2), padding=(1, 1, 1)),
        )
        channels = 64
        for number, (count, longest) in enumerate(zip(layers, (6, 4, 4, None), strict=True), 1):
            dense = [DenseLayer(channels + GROWTH * index) for index in range(count)]
            self.add_module(f"dense{number}", nn.Sequential(*dense))
            channels += GROWTH * count
            if longest is not None:
                transition = TemporalTransition(channels, longest=longest)
                self.add_module(f"transition{number}", transition)
                channels = transition.out_channels
        self.ending = nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU(inplace=True))
        start_as_he(self)
        self.add_classifier(channels, dropout=dropout)

    def stages(self) -> tuple[nn.Module, ...]:
        *stages, dense4, ending = self.parts()
        return (*stages, nn.ModuleList([dense4, ending]))

    def parts(self) -> tuple[nn.Module, ...]:
        *parts, _dropout, _classifier = self.children()
        return tuple(parts)

    def units(self, part: nn.Module) -> tuple[nn.Module, ...]:
        """Each layer of a dense block; stem, transitions and ending as a whole."""
        is_dense = isinstance(part, nn.Sequential) and isinstance(part[0], DenseLayer)
        return tuple(part.children()) if is_dense else (part,)


def t3d_121(**options: Unpack[NetworkOptions]) -> T3D:
    """T3D-121: 3D DenseNet-121 with temporal transition layers.

    29,876,880 parameters with 400 classes, 244e9 multiply-adds at 32x224x224 (more than half
    in the first transition). What the paper's table leaves open is filled from the authors' code:
    each branch of a transition has 128 channels and its own norm, no convolution has a bias, and
    a norm stands in front of the last pooling. Where that code differs from the table, the table
    holds: the first pooling keeps the time (16 frames of 32), and no further 1x1x1 convolution
    stands between the joined branches and their pooling.

    Source:
        Diba et al. 2017, figure 1 and table 1; github.com/MohsenFayyaz89/T3D, models/T3D.py.
    """
    return T3D(layers=(6, 12, 24, 16), **options)


def t3d_169(**options: Unpack[NetworkOptions]) -> T3D:
    """T3D-169: 3D DenseNet-169 with temporal transition layers.

    As `t3d_121`, with 32 layers in the third and in the fourth dense block: 38,519,184 parameters
    with 400 classes, 248e9 multiply-adds at 32x224x224.
    """
    return T3D(layers=(6, 12, 32, 32), **options)
