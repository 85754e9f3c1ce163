"""X3D (Feichtenhofer 2020): a thin, deep network of channel-wise 3D convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack, cast

import torch
from torch import nn
from torch.nn import functional as F

from dualstream.errors import InputError
from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import ConvUnit, make_activation, start_as_he
from dualstream.models.layers.non_local import NonLocalKind, NonLocalOptions, Places, add_non_local
from dualstream.models.layers.pooling import global_mean, window_means
from dualstream.models.network import Network
from dualstream.models.x3d_expansion import HEAD_WIDTH, is_squeezed, layer_sizes, squeezed_width


class SqueezeExcitation(nn.Module):
    """Each channel times a number in 0..1 that depends on the means of all channels.

    Source:
        Hu et al. 2018, with means over time as well.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, squeezed_width(channels))
        self.excite = nn.Linear(squeezed_width(channels), channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> the same shape."""
        gate: torch.Tensor = self.excite(F.relu_(self.squeeze(global_mean(x)))).sigmoid()  # (N, C)
        return x * gate[:, :, None, None, None]


class Block(nn.Module):
    """Residual block: 1x1x1 to more channels, channel-wise 3x3x3, 1x1x1 back.

    As in the reference, it starts as its shortcut: the gain of the last norm is zero.

    Args:
        inner: channels of the channel-wise convolution.
        stride: of the channel-wise convolution in height and width.
        squeezed: whether a squeeze-and-excitation follows it.
    """

    def __init__(
        self, in_channels: int, inner: int, out_channels: int, *, stride: int, squeezed: bool
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        step = (1, stride, stride)
        self.widen = ConvUnit(in_channels, inner, (1, 1, 1))
        self.channel_wise = ConvUnit(
            inner, inner, (3, 3, 3), stride=step, groups=inner, activation=None
        )
        self.gate = SqueezeExcitation(inner) if squeezed else nn.Identity()
        self.activation = make_activation("swish")
        self.narrow = ConvUnit(inner, out_channels, (1, 1, 1), activation=None)
        nn.init.zeros_(cast("nn.BatchNorm3d", self.narrow.norm).weight)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = ConvUnit(
                in_channels, out_channels, (1, 1, 1), stride=step, activation=None
            )
        elif stride > 1:
            # The reference gives a shortcut that keeps its channels no norm.
            self.shortcut = nn.Conv3d(in_channels, out_channels, 1, stride=step, bias=False)
        self.non_local: nn.Module = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C', T, ceil(H / stride), ceil(W / stride))."""
        y = self.activation(self.gate(self.channel_wise(self.widen(x))))
        y = self.narrow(y)
        y += self.shortcut(x)
        z: torch.Tensor = self.non_local(F.relu_(y))
        return z


class TimeConv(nn.Conv3d):
    """Channel-wise Kt x 1 x 1 convolution; on CPUs one matrix product a channel.

    Torch's own takes twenty times as long there: a fifth of the time of the whole X3D-S.
    """

    def __init__(self, channels: int, length: int) -> None:
        super().__init__(
            channels,
            channels,
            (length, 1, 1),
            padding=(length // 2, 0, 0),
            groups=channels,
            bias=False,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> the same shape."""
        if x.device.type != "cpu":
            return super().forward(x)
        length, frames = self.kernel_size[0], torch.arange(x.shape[2])
        tap = frames - frames[:, None] + length // 2  # (T, T): to a row's frame from a column's
        taps = self.weight.flatten(1)[:, tap.clamp(0, length - 1)]  # (C, T, T)
        band = torch.where((tap >= 0) & (tap < length), taps, 0)
        y = (band @ x.flatten(3)).reshape(x.shape)  # (N, C, T, H*W) before
        if self.bias is not None:  # left by a folded batch norm
            y += self.bias[:, None, None, None]
        return y


class Stem(nn.Module):
    """1x3x3 over all channels, then a channel-wise 5x1x1; a norm after both."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(
            in_channels, out_channels, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False
        )
        self.time = ConvUnit(out_channels, out_channels, (5, 1, 1), groups=out_channels)
        self.time.conv = TimeConv(out_channels, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C', T, ceil(H / 2), ceil(W / 2))."""
        y: torch.Tensor = self.time(self.space(x))
        return y


class Embedding(nn.Module):
    """The layers conv5 and lin5 of the paper, with a mean between them.

    Args:
        inner: channels of conv5.
        window: that the mean is taken over; where the features are larger, at all its places, and
            over those after lin5. None: all of them at once.
    """

    def __init__(self, in_channels: int, inner: int, *, window: Sequence[int] | None) -> None:
        super().__init__()
        self.window = window
        self.conv5 = ConvUnit(in_channels, inner, (1, 1, 1))
        self.lin5 = nn.Linear(inner, HEAD_WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, 2048)."""
        y = self.conv5(x)
        if self.window is None:
            return F.relu_(self.lin5(global_mean(y)))
        means = window_means(y, self.window).flatten(2).transpose(1, 2)  # (N, places, inner)
        return F.relu_(self.lin5(means)).mean(dim=1)


class X3D(Network):
    """X3D of any width, bottleneck width and depth; by default X2D, where the expansion starts.

    The other three factors of the expansion (frame rate, duration, resolution) are no matter of
    the network but of its clips: it takes any.

    Args:
        gamma_w: factor of all widths, which are 24, 48, 96 and 192 at 1.
        gamma_b: width inside a block, in parts of the block's.
        gamma_d: factor of the blocks of the stages, which are 1, 2, 5 and 3 at 1.
        window: T, H and W of the last mean, as published networks fix it by the clips that they
            were made for; larger clips then have several. None: over all places.

    The others are `NonLocalOptions`; stages for non-local blocks are res2 to res5.

    Raises:
        InputError: a number is out of range.
        UnknownNameError: an unknown stage, or kind of non-local block.

    Source:
        Feichtenhofer 2020, table 1; squeeze-and-excitation in every second block, the shortcut
        without norm, the window and the start of the weights from the authors' PyTorch code. Of
        several windows that averages probabilities while testing, this one logits.
    """

    def __init__(
        self,
        *,
        gamma_w: float = 1.0,
        gamma_b: float = 1.0,
        gamma_d: float = 1.0,
        window: Sequence[int] | None = None,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.5,
        checkpointing: bool = False,
        non_local: Places | None = None,
        non_local_kind: NonLocalKind = "embedded_gaussian",
    ) -> None:
        if window is not None and (len(window) != 3 or min(window) < 1):
            raise InputError(f"window must be three numbers from 1 (T, H, W), got {window}.")
        super().__init__(
            num_classes=num_classes, inputs=Accepts(in_channels), checkpointing=checkpointing
        )
        sizes = layer_sizes(gamma_w=gamma_w, gamma_b=gamma_b, gamma_d=gamma_d)
        before = sizes[0].width
        self.stem = Stem(in_channels, before)
        made: list[nn.Sequential] = []
        for stage in sizes:
            blocks = []
            for i in range(stage.blocks):
                block = Block(
                    before, stage.inner, stage.width, stride=1 if i else 2, squeezed=is_squeezed(i)
                )
                blocks.append(block)
                before = stage.width
            made.append(nn.Sequential(*blocks))
        self.res2, self.res3, self.res4, self.res5 = made
        self.embedding = Embedding(before, sizes[-1].inner, window=window)
        start_as_he(self, mode="fan_out")
        stages = {"res2": self.res2, "res3": self.res3, "res4": self.res4, "res5": self.res5}
        add_non_local(stages, non_local, kind=non_local_kind)
        self.add_classifier(HEAD_WIDTH, dropout=dropout)

    def parts(self) -> tuple[nn.Module, ...]:
        return self.stem, self.res2, self.res3, self.res4, self.res5, self.embedding


x3d = X3D
"""The name in `MODELS`."""


def x3d_xs(**options: Unpack[NonLocalOptions]) -> X3D:
    """X3D-XS: 3.8 million parameters, for every 12th frame of a video, 4 frames of 160 pixels.

    69.5 % top-1 on Kinetics-400 over 30 views.
    """
    return X3D(gamma_b=2.25, gamma_d=2.2, window=(4, 5, 5), **options)


def x3d_s(**options: Unpack[NonLocalOptions]) -> X3D:
    """X3D-S: the network of X3D-XS, made for 13 frames of 160 pixels.

    Made for every sixth frame of the video; 73.5 % top-1 on Kinetics-400 over 30 views.
    """
    return X3D(gamma_b=2.25, gamma_d=2.2, window=(13, 5, 5), **options)


def x3d_m(**options: Unpack[NonLocalOptions]) -> X3D:
    """X3D-M: the network of X3D-XS, made for 16 frames of 224 pixels.

    Made for every fifth frame of the video; 76.2 % top-1 on Kinetics-400 over 30 views.
    """
    return X3D(gamma_b=2.25, gamma_d=2.2, window=(16, 7, 7), **options)


def x3d_l(**options: Unpack[NonLocalOptions]) -> X3D:
    """X3D-L: deeper, 6.2 million parameters, made for 16 frames of 312 pixels.

    Made for every fifth frame of the video; 77.5 % top-1 on Kinetics-400 over 30 views.
    """
    return X3D(gamma_b=2.25, gamma_d=5.0, window=(16, 10, 10), **options)


def x3d_xl(**options: Unpack[NonLocalOptions]) -> X3D:
    """X3D-XL: deeper and wider, 11 million parameters, made for 16 frames of 312 pixels.

    Made for every fifth frame of the video.
    """
    return X3D(gamma_w=1.45, gamma_b=2.25, gamma_d=5.0, window=(16, 10, 10), **options)
