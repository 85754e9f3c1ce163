"""Residual networks over space and time with basic blocks: R3D, MC3, rMC3 and R(2+1)D."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, Unpack

import torch
from torch import nn

from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import Activation, ConvUnit, Triple, make_activation, start_as_he
from dualstream.models.layers.non_local import NonLocalKind, NonLocalOptions, Places, add_non_local
from dualstream.models.network import Network

Kind = Literal["3d", "2d", "2plus1d"]
"""A convolution over space and time, over space alone, or over space and then over time."""

_DEPTH_18 = (2, 2, 2, 2)
_DEPTH_34 = (3, 4, 6, 3)
_ALL_3D: tuple[Kind, Kind, Kind, Kind] = ("3d", "3d", "3d", "3d")
_ALL_2PLUS1D: tuple[Kind, Kind, Kind, Kind] = ("2plus1d", "2plus1d", "2plus1d", "2plus1d")
_WIDTHS = (64, 128, 256, 512)


def middle_planes(in_channels: int, out_channels: int) -> int:
    """Planes between the two parts of a (2+1)D convolution, so that it has the 3D one's size.

    27 i o weights of a 3x3x3 convolution against 9 i m + 3 m o: (64, 64) -> 144,
    (64, 128) -> 230.

    Source:
        Tran et al. 2018, section 3.5.
    """
    weights = 27 * in_channels * out_channels
    return weights // (9 * in_channels + 3 * out_channels)


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut around them.

    Args:
        kind: of both convolutions. Where the block has more channels after it the first has a
            step of 2, in height and width, and in time unless the kind is 2d.
        middle: middle planes of the first and the second convolution, for 2plus1d.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kind: Kind, middle: tuple[int, int]
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        is_wider = in_channels != out_channels
        stride = (1 if kind == "2d" else 2, 2, 2) if is_wider else (1, 1, 1)
        self.first = _convolution(kind, in_channels, out_channels, stride=stride, middle=middle[0])
        self.second = _convolution(
            kind, out_channels, out_channels, middle=middle[1], activation=None
        )
        self.shortcut: nn.Module = nn.Identity()
        if is_wider:
            self.shortcut = ConvUnit(
                in_channels, out_channels, (1, 1, 1), stride=stride, activation=None
            )
        self.activation = make_activation("relu")
        self.non_local: nn.Module = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        y: torch.Tensor = self.second(self.first(x))
        y += self.shortcut(x)
        z: torch.Tensor = self.non_local(self.activation(y))
        return z


def _convolution(
    kind: Kind,
    in_channels: int,
    out_channels: int,
    *,
    middle: int,
    side: int = 3,
    stride: Triple = (1, 1, 1),
    activation: Activation | None = "relu",
) -> nn.Module:
    """Window of `side` in space and of 3 in time, where the kind has them, norm and activation."""
    if kind == "2plus1d":
        spatial = ConvUnit(in_channels, middle, (1, side, side), stride=(1, *stride[1:]))
        temporal = ConvUnit(
            middle, out_channels, (3, 1, 1), stride=(stride[0], 1, 1), activation=activation
        )
        return nn.Sequential(OrderedDict(spatial=spatial, temporal=temporal))
    kernel = (3 if kind == "3d" else 1, side, side)
    return ConvUnit(in_channels, out_channels, kernel, stride=stride, activation=activation)


class ResNet3D(Network):
    """Stem, four stages of basic blocks, mean over all places; see the variants below.

    Takes clips of any size. Convolutions start as in He et al. 2015 (by outgoing connections), the
    classifier at a deviation of 0.01. The published networks have no dropout.

    Args:
        stem: kind of the first convolution.
        stages: kind of the convolutions of res2 to res5.
        depths: blocks of res2 to res5.
        own_middle: each (2+1)D convolution of a block has its own middle planes; else both have
            those that the block's input asks for.
        eps: of the batch norms.

    The others are `NonLocalOptions`; stages for non-local blocks are res2 to res5.

    Raises:
        InputError: a number is out of range.
        UnknownNameError: an unknown stage or kind of non-local block.
    """

    def __init__(
        self,
        *,
        stem: Kind,
        stages: tuple[Kind, Kind, Kind, Kind],
        depths: tuple[int, int, int, int],
        own_middle: bool = False,
        eps: float = 1e-5,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.0,
        checkpointing: bool = False,
        non_local: Places | None = None,
        non_local_kind: NonLocalKind = "embedded_gaussian",
    ) -> None:
        super().__init__(
            num_classes=num_classes, inputs=Accepts(in_channels), checkpointing=checkpointing
        )
        self.stem = _convolution(stem, in_channels, _WIDTHS[0], middle=45, side=7, stride=(1, 2, 2))
        made: list[nn.Sequential] = []
        width = _WIDTHS[0]
        for kind, depth, out in zip(stages, depths, _WIDTHS, strict=True):
            blocks = []
            for _ in range(depth):
                first = middle_planes(width, out)
                middle = first, middle_planes(out, out) if own_middle else first
                blocks.append(BasicBlock(width, out, kind=kind, middle=middle))
                width = out
            made.append(nn.Sequential(*blocks))
        self.res2, self.res3, self.res4, self.res5 = made
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = eps
        start_as_he(self, mode="fan_out")
        by_name = dict(zip(("res2", "res3", "res4", "res5"), made, strict=True))
        add_non_local(by_name, non_local, kind=non_local_kind)
        self.add_classifier(width, dropout=dropout, deviation=0.01)

    def parts(self) -> tuple[nn.Module, ...]:
        return self.stem, self.res2, self.res3, self.res4, self.res5


def r3d_18(**options: Unpack[NonLocalOptions]) -> ResNet3D:
    """R3D-18: a ResNet-18 whose convolutions are all 3x3x3.

    T is divided by 8, H and W by 16 (rounded up).

    Source:
        Tran et al. 2018; layers, their order and their start as torchvision has them.
    """
    return ResNet3D(stem="3d", stages=_ALL_3D, depths=_DEPTH_18, **options)


def r3d_34(**options: Unpack[NonLocalOptions]) -> ResNet3D:
    """R3D-34: a ResNet-34 whose convolutions are all 3x3x3.

    Blocks: 3, 4, 6, 3.

    Source:
        Tran et al. 2018; layers as in torchvision's 18-layer network.
    """
    return ResNet3D(stem="3d", stages=_ALL_3D, depths=_DEPTH_34, **options)


def mc3_18(**options: Unpack[NonLocalOptions]) -> ResNet3D:
    """MC3-18: a ResNet-18, 3D in the stem and the first stage, 2D above.

    The 2D stages keep T.

    Source:
        Tran et al. 2018, section 3.4 (mixed convolutions, 2D from group 3 on, where group 1 is
        the stem); layers as in torchvision.
    """
    return ResNet3D(stem="3d", stages=("3d", "2d", "2d", "2d"), depths=_DEPTH_18, **options)


def rmc3_18(**options: Unpack[NonLocalOptions]) -> ResNet3D:
    """rMC3-18: the reverse of MC3-18, 2D in the stem and the first stage, 3D above.

    The stem is 1x7x7; T is divided by 8 in the 3D stages.

    Source:
        Tran et al. 2018, section 3.4 (reversed mixed convolutions: 2D in groups 1 and 2, 3D from
        group 3 on), and the authors' Caffe2 code, whose stem is 2D too.
    """
    return ResNet3D(stem="2d", stages=("2d", "3d", "3d", "3d"), depths=_DEPTH_18, **options)


def r2plus1d_18(**options: Unpack[NonLocalOptions]) -> ResNet3D:
    """R(2+1)D-18: a ResNet-18 whose convolutions are each one over space, then one over time.

    Both convolutions of a block have the middle planes that the block's input asks for, as in
    torchvision, whose weights need it so.

    Source:
        Tran et al. 2018, section 3.5; stem and middle planes as in torchvision.
    """
    return ResNet3D(stem="2plus1d", stages=_ALL_2PLUS1D, depths=_DEPTH_18, **options)


def r2plus1d_34(**options: Unpack[NonLocalOptions]) -> ResNet3D:
    """R(2+1)D-34: a ResNet-34 whose convolutions are each one over space, then one over time.

    Unlike the 18-layer network this is the authors' own: each convolution has its own middle
    planes and batch norms have an eps of 1e-3, as their published weights (Kinetics, IG-65M)
    need it.

    Source:
        Tran et al. 2018, section 3.5; the authors' code (VMZ), Caffe2 and PyTorch.
    """
    return ResNet3D(
        stem="2plus1d",
        stages=_ALL_2PLUS1D,
        depths=_DEPTH_34,
        own_middle=True,
        eps=1e-3,
        **options,
    )
