"""Networks over the features of single frames: recurrence, convolution, attention over time.

A backbone of timm turns each frame into a vector; only the part that reads the sequence of vectors
differs between `cnn_lstm`, `temporal_conv` and `temporal_attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, Unpack

import torch
from torch import nn

from dualstream.errors import InputError, check_choice, check_least
from dualstream.models.layers.backbone import (
    BackboneOptions,
    accepted,
    checkpoint_blocks,
    make_backbone,
    num_features,
    parts,
    run_backbone,
)
from dualstream.models.layers.conv import ConvUnit
from dualstream.models.layers.pooling import global_mean
from dualstream.models.network import Network

Prediction = Literal["mean", "last"]
"""Time steps that the classifier sees: all of them (mean of the logits), or the last."""

Positions = Literal["sinusoidal", "learned", "none"]
"""Way in which attention knows the time of a frame."""

LEARNED_POSITIONS = 32
"""Entries of the table of learned positions, from the clip's first to its last frame."""


class LSTM(nn.Module):
    """Long short-term memory over time; see `cnn_lstm`."""

    def __init__(self, features: int, *, hidden: int, layers: int, prediction: Prediction) -> None:
        super().__init__()
        check_choice("prediction", prediction, Prediction)
        self.prediction = prediction
        self.out_features = hidden
        self.lstm = nn.LSTM(features, hidden, num_layers=layers, batch_first=True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, T, D) -> (N, hidden)."""
        states: torch.Tensor = self.lstm(features)[0]  # (N, T, hidden)
        return states[:, -1] if self.prediction == "last" else states.mean(dim=1)


class Convolutions(nn.Module):
    """1D convolutions over time, each with batch norm and ReLU, and the mean; see `temporal_conv`.

    The vectors are maps of one pixel, so that each convolution is a `ConvUnit` like any other.
    """

    def __init__(self, features: int, *, hidden: int, layers: int, kernel: int) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"kernel must be odd and at least 1, got {kernel}.")
        self.out_features = hidden
        units = [ConvUnit(hidden if i else features, hidden, (kernel, 1, 1)) for i in range(layers)]
        self.units = nn.Sequential(*units)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, T, D) -> (N, hidden)."""
        x = features.transpose(1, 2)[..., None, None]  # (N, D, T, 1, 1)
        return global_mean(self.units(x))


class AttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + full(norm(x)) with four times the channels between.

    Source:
        Vaswani et al. 2017, with the norms in front (Xiong et al. 2020) and GELU.
    """

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.full = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, T, D) -> (N, T, D)."""
        split = self.query_key_value(self.norm1(x)).reshape(*x.shape[:2], 3, self.heads, -1)
        # (N, T, 3, h, D/h) -> each (N, h, T, D/h)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value)  # (N, h, T, D/h)
        x = x + self.projection(seen.transpose(1, 2).flatten(2))
        y: torch.Tensor = x + self.full(self.norm2(x))
        return y


class Attention(nn.Module):
    """Pre-norm transformer encoder over time, and the mean; see `temporal_attention`."""

    def __init__(
        self, features: int, *, hidden: int, layers: int, heads: int, positions: Positions
    ) -> None:
        super().__init__()
        check_choice("positions", positions, Positions)
        if heads < 1 or hidden % heads or hidden % 2:
            raise InputError(
                f"hidden must be even and a multiple of heads, got {hidden} and {heads} heads."
            )
        self.positions = positions
        self.out_features = hidden
        self.projection = nn.Linear(features, hidden)
        if positions == "learned":
            self.table = nn.Parameter(torch.empty(LEARNED_POSITIONS, hidden))
            nn.init.trunc_normal_(self.table, std=0.02)
        self.blocks = nn.Sequential(*(AttentionBlock(hidden, heads=heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(hidden)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, T, D) -> (N, hidden)."""
        x = self.projection(features)  # (N, T, hidden)
        if self.positions == "sinusoidal":
            x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
        elif self.positions == "learned":
            x = x + resampled(self.table, x.shape[1])
        seen: torch.Tensor = self.norm(self.blocks(x))  # (N, T, hidden)
        return seen.mean(dim=1)


def sinusoids(length: int, channels: int) -> torch.Tensor:
    """Position of each time step as waves of growing length, from 2 pi to 10,000 x 2 pi.

    Returns:
        (T, D) with D even: sin(t / 10000^(2i / D)) in channel 2i, the cosine in channel 2i + 1.

    Source:
        Vaswani et al. 2017, section 3.5.
    """
    rates = 10_000 ** (-torch.arange(0, channels, 2) / channels)  # (D/2,)
    angles = torch.arange(length)[:, None] * rates  # (T, D/2)
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)


def resampled(table: torch.Tensor, length: int) -> torch.Tensor:
    """(L, D) -> (`length`, D): linear between the entries; first and last stay where they are.

    One entry between two is their mean; a single step gets the first.
    """
    along: torch.Tensor = nn.functional.interpolate(
        table.T[None], size=length, mode="linear", align_corners=True
    )  # (1, D, length)
    return along[0].T


class PerFrame(nn.Module):
    """A network over images, on every frame of a clip."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, T, D)."""
        images = clips.transpose(1, 2).flatten(0, 1)  # (N*T, C, H, W)
        features: torch.Tensor = run_backbone(self.backbone, images)  # (N*T, D)
        return features.reshape(clips.shape[0], clips.shape[2], -1)


class FrameModel(Network):
    """Backbone on every frame, a part that reads the sequence, classifier; see the variants below.

    Takes clips of any length, and the images that the backbone takes.

    Args:
        over_time: makes the part from (N, T, D) to (N, out_features), given D.

    The others are `BackboneOptions`.

    Raises:
        UnknownNameError: a choice or the backbone is unknown.
        InputError: a number is out of range.
        WeightsError: `pretrained`, and the hub cannot be reached or has no such weights.
    """

    def __init__(
        self,
        *,
        over_time: Callable[[int], LSTM | Convolutions | Attention],
        num_classes: int,
        backbone: str = "resnet50",
        in_channels: int = 3,
        dropout: float = 0.5,
        checkpointing: bool = False,
        pretrained: bool = False,
    ) -> None:
        images = make_backbone(backbone, in_channels=in_channels, pretrained=pretrained)
        super().__init__(
            num_classes=num_classes,
            inputs=accepted(images, in_channels=in_channels),
            checkpointing=checkpointing,
        )
        if checkpointing:
            checkpoint_blocks(images, name=backbone)
        self.frames = PerFrame(images)
        self.over_time = over_time(num_features(images))
        self.conv_dims = 3 if isinstance(self.over_time, Convolutions) else 2
        self.add_classifier(self.over_time.out_features, dropout=dropout)

    def stages(self) -> tuple[nn.Module, ...]:
        return (*parts(self.frames.backbone), self.over_time)

    def parts(self) -> tuple[nn.Module, ...]:
        return self.frames, self.over_time

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, num_features)."""
        # Not `run(self.frames)`: a backbone's own blocks are smaller units of checkpointing.
        return self.run(self.over_time, self.frames(clips))


def cnn_lstm(
    *,
    hidden: int = 256,
    layers: int = 1,
    prediction: Prediction = "mean",
    **options: Unpack[BackboneOptions],
) -> FrameModel:
    """LSTM over the features of single frames.

    25,895,333 parameters with ResNet-50 and 101 classes; the authors use a network like AlexNet.

    Args:
        hidden: size of the LSTM's state.
        layers: LSTMs on top of each other.
        prediction: mean joins the logits of all time steps, as the authors do; last takes those
            of the last one.
        options: see `BackboneOptions`.

    Source:
        Donahue et al. 2015 (LRCN), activity recognition; state of 256 and dropout of 0.5 from
        the authors' Caffe code. That code also drops nine tenths of the features in front of the
        LSTM, which is left out: modern backbones end in a mean over the image.
    """
    check_least(1, hidden=hidden, layers=layers)
    over_time = partial(LSTM, hidden=hidden, layers=layers, prediction=prediction)
    return FrameModel(over_time=over_time, **options)


def temporal_conv(
    *, hidden: int = 512, layers: int = 2, kernel: int = 3, **options: Unpack[BackboneOptions]
) -> FrameModel:
    """1D convolutions over the features of single frames.

    27,494,053 parameters with ResNet-50 and 101 classes.

    Args:
        hidden: channels of the convolutions.
        layers: number of convolutions; each lets a step see kernel - 1 more.
        kernel: window in time steps, odd; zeros around keep the length.
        options: see `BackboneOptions`.

    Source:
        EECS 498 (Johnson), lecture 18: 1D convolution as a way to read a sequence. Sizes are ours.
    """
    check_least(1, hidden=hidden, layers=layers)
    over_time = partial(Convolutions, hidden=hidden, layers=layers, kernel=kernel)
    return FrameModel(over_time=over_time, **options)


def temporal_attention(
    *,
    hidden: int = 512,
    layers: int = 2,
    heads: int = 8,
    positions: Positions = "sinusoidal",
    **options: Unpack[BackboneOptions],
) -> FrameModel:
    """Self-attention over the features of single frames.

    A linear layer to `hidden` channels, positions, pre-norm transformer blocks, layer norm, mean.
    30,914,725 parameters with ResNet-50 and 101 classes.

    Args:
        hidden: channels of the transformer, even and a multiple of `heads`.
        layers: number of blocks.
        heads: of each block's attention.
        positions: sinusoidal adds waves of the frame's index; learned adds a trained table of 32
            entries, stretched over the clip; none leaves the order out. All take any length.
        options: see `BackboneOptions`.

    Source:
        EECS 498 (Johnson), lecture 18: self-attention as a way to read a sequence; the block is
        `AttentionBlock`. Sizes are ours.
    """
    check_least(1, hidden=hidden, layers=layers)
    over_time = partial(Attention, hidden=hidden, layers=layers, heads=heads, positions=positions)
    return FrameModel(over_time=over_time, **options)
