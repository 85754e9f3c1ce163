"""Bottleneck ResNets over clips: C2D, I3D, Slow and R(2+1)D, each with 50 layers.

They differ in where a window reaches over time, and in their strides. Layouts and strides are
those of pytorchvideo's hub, so that its weights load (`dualstream.models.convert`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice, pairwise
from typing import Unpack, cast

import torch
from torch import nn

from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import ConvUnit, Triple, start_as_he
from dualstream.models.layers.non_local import NonLocalKind, NonLocalOptions, Places, add_non_local
from dualstream.models.layers.pooling import MaxPool, window_mean
from dualstream.models.network import Network

BLOCKS_OF_DEPTH: dict[int, tuple[int, ...]] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Layers of a bottleneck ResNet -> blocks in res2, res3, res4, res5 (He et al. 2016, table 1)."""


class Bottleneck(nn.Module):
    """activation(shortcut(x) + conv3(conv2(conv1(x)))): reduce, 3x3, expand.

    The stride is in the 3x3, as in pytorchvideo and timm. `conv2_time` is an identity but in
    R(2+1)D, where the 3x3x3 is split into 3x1x1 and 1x3x3.

    Args:
        out_channels: four times those between the convolutions.
        time_kernel: window in time of conv1.
        stride: step in time, height, width of the block; a step in time needs `split`.
        split: put a 3x1x1 convolution with norm in front of the 1x3x3.

    Source:
        It starts as its shortcut, by a gain of zero after conv3: Goyal et al. 2017, section 5.1,
        which SlowFast and pytorchvideo follow.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time_kernel: int,
        stride: Triple = (1, 1, 1),
        split: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        inner_channels = out_channels // 4
        in_time, in_space = (stride[0], 1, 1), (1, *stride[1:])
        self.conv1 = ConvUnit(in_channels, inner_channels, (time_kernel, 1, 1))
        self.conv2_time: nn.Module = nn.Identity()
        if split:
            self.conv2_time = ConvUnit(inner_channels, inner_channels, (3, 1, 1), stride=in_time)
        self.conv2 = ConvUnit(inner_channels, inner_channels, (1, 3, 3), stride=in_space)
        self.conv3 = ConvUnit(inner_channels, out_channels, (1, 1, 1), activation=None)
        nn.init.zeros_(cast("nn.BatchNorm3d", self.conv3.norm).weight)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != (1, 1, 1):
            self.shortcut = ConvUnit(
                in_channels, out_channels, (1, 1, 1), stride=stride, activation=None
            )
        self.activation = nn.ReLU(inplace=True)
        self.non_local: nn.Module = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        y: torch.Tensor = self.conv3(self.conv2(self.conv2_time(self.conv1(x))))
        y += self.shortcut(x)
        y = self.activation(y)
        seen: torch.Tensor = self.non_local(y)
        return seen


def make_stage(
    in_channels: int,
    out_channels: int,
    *,
    num_blocks: int,
    time_kernels: Sequence[int],
    stride: Triple,
    split: bool = False,
) -> nn.Sequential:
    """Blocks of one stage; the first one has the stride.

    Args:
        time_kernels: window in time of conv1, block by block; repeated: (3, 1) is 3, 1, 3, 1, ...
    """
    blocks = []
    for kernel in islice(cycle(time_kernels), num_blocks):
        blocks.append(
            Bottleneck(in_channels, out_channels, time_kernel=kernel, stride=stride, split=split)
        )
        in_channels, stride = out_channels, (1, 1, 1)
    return nn.Sequential(*blocks)


def make_stem(
    in_channels: int, out_channels: int, *, time_kernel: int, pool: bool
) -> nn.Sequential:
    """7x7 convolution of stride 2, and a 3x3 max pool of stride 2."""
    conv = ConvUnit(in_channels, out_channels, (time_kernel, 7, 7), stride=(1, 2, 2))
    if not pool:
        return nn.Sequential(conv)
    return nn.Sequential(conv, MaxPool((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)))


class VideoResNet(Network):
    """Stem, res2 to res5, mean over time and space; see the variants below.

    Args:
        time_kernels: windows in time of conv1, stage by stage; see `make_stage`.
        window: of the last features, as the published weights have it; see `window_mean`. It
            matters for clips larger than those in training only: up to there it is the global
            mean.
        stem_time_kernel: window in time of the stem's convolution.
        strides: of the stages in time, height, width.
        stem_pool: the max pool after the stem's convolution.
        time_pool: halve T after res2 by a max pool.
        split: R(2+1)D's blocks.

    The others are `NonLocalOptions`; stages for non-local blocks are res2 to res5.
    """

    def __init__(
        self,
        *,
        time_kernels: tuple[tuple[int, ...], ...],
        window: Triple,
        stem_time_kernel: int = 1,
        strides: tuple[Triple, ...] = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2)),
        stem_pool: bool = True,
        time_pool: bool = False,
        split: bool = False,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.5,
        checkpointing: bool = False,
        non_local: Places | None = None,
        non_local_kind: NonLocalKind = "embedded_gaussian",
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            inputs=Accepts(in_channels, smallest=(2 if time_pool else 1, 1, 1)),
            checkpointing=checkpointing,
        )
        self.window = window
        self.stem = make_stem(in_channels, 64, time_kernel=stem_time_kernel, pool=stem_pool)
        channels = pairwise((64, 256, 512, 1024, 2048))
        numbers = zip(channels, BLOCKS_OF_DEPTH[50], time_kernels, strides, strict=True)
        stages = [
            make_stage(
                *widths, num_blocks=num_blocks, time_kernels=kernels, stride=stride, split=split
            )
            for widths, num_blocks, kernels, stride in numbers
        ]
        self.res2, self.res3, self.res4, self.res5 = stages
        self.time_pool = MaxPool((2, 1, 1)) if time_pool else nn.Identity()
        start_as_he(self, mode="fan_out")
        by_name = dict(zip(("res2", "res3", "res4", "res5"), stages, strict=True))
        add_non_local(by_name, non_local, kind=non_local_kind)
        self.add_classifier(2048, dropout=dropout)

    def parts(self) -> tuple[nn.Module, ...]:
        return self.stem, self.res2, self.time_pool, self.res3, self.res4, self.res5

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """(N, 2048, T, H, W) -> (N, 2048)."""
        return window_mean(features, self.window)


def c2d_r50(**options: Unpack[NonLocalOptions]) -> VideoResNet:
    """ResNet-50 frame by frame, with one max pool over time (C2D).

    Published at 8 frames, every 8th, of 224 pixels; takes any clip of at least 2 frames.

    Source:
        Wang et al. 2018, table 1; pytorchvideo's `c2d_r50`.
    """
    return VideoResNet(
        time_kernels=((1,), (1,), (1,), (1,)), time_pool=True, window=(4, 7, 7), **options
    )


def i3d_r50(**options: Unpack[NonLocalOptions]) -> VideoResNet:
    """ResNet-50 with windows of 3 frames in every second block and 5 in the stem (I3D).

    Published at 8 frames, every 8th, of 224 pixels; takes any clip of at least 2 frames. The
    reference of non-local networks is this one with
    `non_local={"res3": [1, 3], "res4": [1, 3, 5]}`.

    Source:
        Wang et al. 2018, section 4; pytorchvideo's `i3d_r50`.
    """
    return VideoResNet(
        stem_time_kernel=5,
        time_kernels=((3,), (3, 1), (3, 1), (1, 3)),
        time_pool=True,
        window=(4, 7, 7),
        **options,
    )


def slow_r50(**options: Unpack[NonLocalOptions]) -> VideoResNet:
    """SlowFast's slow pathway alone: ResNet-50 with windows over time in res4 and res5.

    Published at 8 frames, every 8th, of 224 pixels; takes any clip.

    Source:
        Feichtenhofer et al. 2019, table 1 ('Slow-only'); pytorchvideo's `slow_r50`.
    """
    return VideoResNet(time_kernels=((1,), (1,), (3,), (3,)), window=(8, 7, 7), **options)


def r2plus1d_r50(**options: Unpack[NonLocalOptions]) -> VideoResNet:
    """ResNet-50 whose 3x3x3 are split into 3x1x1 and 1x3x3 (R(2+1)D, bottlenecks).

    Published at 16 frames, every 4th, of 224 pixels; takes any clip. The split is in this order,
    time first, and without a wider middle.

    Source:
        Tran et al. 2018; pytorchvideo's `r2plus1d_r50`, but logits where that has softmax.
    """
    return VideoResNet(
        time_kernels=((1,), (1,), (1,), (1,)),
        strides=((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
        stem_pool=False,
        split=True,
        window=(4, 7, 7),
        **options,
    )
