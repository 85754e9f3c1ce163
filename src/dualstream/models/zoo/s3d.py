"""S3D and S3D-G: Inception over time with separable convolutions (Xie et al. 2018)."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Literal, Unpack, get_args

import torch
from torch import nn

from dualstream.errors import InputError, check_choice
from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import ConvUnit, Triple
from dualstream.models.layers.non_local import NonLocalKind, NonLocalOptions, Places, add_non_local
from dualstream.models.layers.pooling import MaxPool, window_mean
from dualstream.models.network import Network
from dualstream.models.zoo.i3d import WIDTHS, InceptionBlock, inception_stages

Layout = Literal["full", "top_heavy", "bottom_heavy"]
"""Layers whose convolutions see time: all, the upper ones, or the lower ones."""

Layer = Literal[
    "conv_1a",
    "conv_2c",
    "mixed_3b",
    "mixed_3c",
    "mixed_4b",
    "mixed_4c",
    "mixed_4d",
    "mixed_4e",
    "mixed_4f",
    "mixed_5b",
    "mixed_5c",
]
"""Layers that can see time, from input to output, by the names of Inception-v1."""

ALL_LAYERS: tuple[Layer, ...] = get_args(Layer)


def layers_in_time(layout: Layout, switch_at: Layer | None) -> tuple[Layer, ...]:
    """Return the layers that have a convolution over time.

    top_heavy at mixed_5c -> (mixed_5c,); bottom_heavy at mixed_3b -> (conv_1a, conv_2c).

    Args:
        layout: see `Layout`.
        switch_at: first layer of the upper part; None for full, and only there.

    Raises:
        UnknownNameError: an unknown layout or layer.
        InputError: `switch_at` is missing, or given for full.
    """
    check_choice("layout", layout, Layout)
    if (switch_at is None) != (layout == "full"):
        raise InputError(
            f"switch_at is the first layer of the upper part, for the layouts top_heavy and "
            f"bottom_heavy only; got layout={layout!r} and switch_at={switch_at!r}."
        )
    if switch_at is None:
        return ALL_LAYERS
    check_choice("layer", switch_at, Layer)
    index = ALL_LAYERS.index(switch_at)
    return ALL_LAYERS[index:] if layout == "top_heavy" else ALL_LAYERS[:index]


class Gating(nn.Module):
    """Every channel times a number of 0..1 that depends on the means of all channels.

    sigmoid(W mean(x) + b) x, the mean being over time, height and width.

    Source:
        Xie et al. 2018; the deviation of W's start (0.01) from the authors' code, which leaves out
        the paper's bias b.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.weigh.weight, std=0.01)
        nn.init.zeros_(self.weigh.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> the same shape."""
        gates: torch.Tensor = self.weigh(x.mean(dim=(2, 3, 4))).sigmoid()  # (N, C)
        return x * gates[:, :, None, None, None]


def _unit(
    in_channels: int, out_channels: int, kernel: Triple = (1, 1, 1), stride: Triple = (1, 1, 1)
) -> ConvUnit:
    """With the batch norm of the TensorFlow original: eps 1e-3, statistics kept at .999."""
    return ConvUnit(in_channels, out_channels, kernel, stride=stride, eps=1e-3, momentum=1e-3)


class FirstOverTime(nn.Conv3d):
    """The first layer's convolution over time: 7 frames at a step of 2, right for short clips too.

    For clips of 5 to 7 frames oneDNN 3.13 (torch 2.15 on CPUs) gives a wrong gradient of these
    weights, or a segmentation fault. Zeros after the clip that make it 8 frames long change
    nothing but that.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            in_channels, out_channels, (7, 1, 1), stride=(2, 1, 1), padding=(3, 0, 0), bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C', T / 2 rounded up, H, W)."""
        length = x.shape[2]
        if length >= 8:
            return super().forward(x)
        y: torch.Tensor = super().forward(nn.functional.pad(x, (0, 0, 0, 0, 0, 8 - length)))
        return y[:, :, : (length + 1) // 2]


def _separable(
    in_channels: int, out_channels: int, *, in_time: bool, size: int = 3, step: int = 1
) -> nn.Module:
    """1x3x3, then 3x1x1 if `in_time`; or the first layer, of size 7 at a step of 2."""
    if not in_time:
        return _unit(in_channels, out_channels, (1, size, size), (step, step, step))
    spatial = _unit(in_channels, out_channels, (1, size, size), (1, step, step))
    temporal = _unit(out_channels, out_channels, (size, 1, 1), (step, 1, 1))
    if step == 2:
        temporal.conv = FirstOverTime(out_channels, out_channels)
    return nn.Sequential(OrderedDict(spatial=spatial, temporal=temporal))


class S3DOptions(NonLocalOptions, total=False):
    """Options of `s3d` and `s3d_g`; stages for non-local blocks are mixed_3, mixed_4, mixed_5."""

    layout: Layout
    """full sees time in every layer; top_heavy from `switch_at` on; bottom_heavy up to (not
    including) `switch_at`. The other layers have 1x3x3 convolutions alone; steps and pools over
    time stay. bottom_heavy at conv_1a has no convolution over time at all."""
    switch_at: Layer | None
    """First layer of the upper part; for top_heavy and bottom_heavy."""


class S3D(Network):
    """Stem, nine Inception blocks in three stages, mean; see `s3d` and `s3d_g`.

    Takes clips of at least 5 x 17 x 17. T is divided by 8, H and W by 32.

    Args:
        gated: gate the ends of the branches of every Inception block, and conv_2c.

    The others are `S3DOptions`.

    Raises:
        InputError: a number is out of range, or `switch_at` does not fit `layout`.
        UnknownNameError: a choice, a layer or a stage is unknown.
    """

    def __init__(
        self,
        *,
        gated: bool,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.2,
        layout: Layout = "full",
        switch_at: Layer | None = None,
        checkpointing: bool = False,
        non_local: Places | None = None,
        non_local_kind: NonLocalKind = "embedded_gaussian",
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            inputs=Accepts(in_channels, smallest=(5, 17, 17)),
            checkpointing=checkpointing,
        )
        self.in_time = in_time = layers_in_time(layout, switch_at)
        self.gated = gated
        self.stem = nn.Sequential(
            OrderedDict(
                conv_1a=_separable(in_channels, 64, in_time="conv_1a" in in_time, size=7, step=2),
                pool_2a=MaxPool((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
                conv_2b=_unit(64, 64),
                conv_2c=_separable(64, 192, in_time="conv_2c" in self.in_time),
                gate_2c=Gating(192) if gated else nn.Identity(),
                pool_3a=MaxPool((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            )
        )
        stages = inception_stages(self._block)
        self.mixed_3 = stages["mixed_3"]
        self.pool_4a = MaxPool((3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1))
        self.mixed_4 = stages["mixed_4"]
        self.pool_5a = MaxPool((2, 2, 2))
        self.mixed_5 = stages["mixed_5"]
        for module in self.modules():
            if isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1:
                nn.init.dirac_(module.weight)
            elif isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        add_non_local(stages, non_local, kind=non_local_kind)
        self.add_classifier(1024, dropout=dropout)

    def parts(self) -> tuple[nn.Module, ...]:
        return self.stem, self.mixed_3, self.pool_4a, self.mixed_4, self.pool_5a, self.mixed_5

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """(N, 1024, T, H, W) -> (N, 1024)."""
        return window_mean(features, (2, 7, 7))

    def _block(self, in_channels: int, name: str) -> InceptionBlock:
        return InceptionBlock(
            in_channels,
            WIDTHS[name],
            narrow=_unit,
            wide=partial(_separable, in_time=name in self.in_time),
            pool=MaxPool((3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1)),
            gate=Gating if self.gated else nn.Identity,
        )


def s3d(**options: Unpack[S3DOptions]) -> S3D:
    """S3D: Inception whose 3x3x3 convolutions are 1x3x3 then 3x1x1.

    Convolutions over time start as the identity (the authors call it critical), the others as in
    He et al. 2015: from the authors' deviation of 0.01 the batch norms' statistics, which move by
    a thousandth a step, would be wrong for thousands of steps.

    Source:
        Xie et al. 2018; layers as in torchvision (the first one is separable too, each part of a
        separable convolution has a batch norm and ReLU); the start of convolutions over time and
        the pools of 2D layers, which see time, from the authors' code in TF-slim.
    """
    return S3D(gated=False, **options)


def s3d_g(**options: Unpack[S3DOptions]) -> S3D:
    """S3D-G: S3D with feature gating.

    The ends of all four branches of each Inception block are gated, and conv_2c is: that is where
    the authors' code has it, and so within a block every output channel is gated once, by the
    means of its own branch.

    Source:
        Xie et al. 2018, and the authors' code in TF-slim. The paper's 11.56 million
        parameters are not those of that code (9.5 million, with 400 classes).
    """
    return S3D(gated=True, **options)
