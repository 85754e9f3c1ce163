"""Networks that join their frames late, early, slowly or not at all (Karpathy et al. 2014)."""

from __future__ import annotations

from typing import Literal, Unpack

import torch
from torch import nn

from dualstream.errors import check_choice, check_least
from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import start_as_he
from dualstream.models.network import Network, NetworkOptions, check_dropout

LateJoin = Literal["towers", "mean"]
"""towers: the first and the last frame, side by side; mean: the mean over all frames."""

Join = Literal["each", "towers", "mean"]
"""Way of responses over time to the fully connected layers; each: one by one, and the mean of
their results."""

Steps = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Window and stride in time of the first three convolutions."""

ONE_FRAME: Steps = ((1, 1), (1, 1), (1, 1))

SMALLEST_IMAGE = 32
"""Smallest `image_size` whose every layer has an output."""


def feature_side(image_size: int) -> int:
    """Side in cells of the last pooling layer's output for a square image.

    170 -> 54 (conv 11, /3) -> 27 (pool) -> 13 (pool) -> 6 (pool). Below 1 the image is too small.
    """
    return ((image_size - 11) // 3 + 1) // 2 // 2 // 2


def least_frames(steps: Steps) -> int:
    """Frames that one response of the last convolution sees.

    ((4, 2), (2, 2), (2, 2)) -> 10: one response of the third sees 2 of the second, those see 4 of
    the first, and those see 3 x 2 + 4 frames.
    """
    frames = 1
    for window, stride in reversed(steps):
        frames = (frames - 1) * stride + window
    return frames


class Ends(nn.Module):
    """The first and the last frame of a clip."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C, 2, H, W)."""
        return clips[:, :, [0, -1]]


class Rows(nn.Module):
    """Responses over time as the rows that the fully connected layers see, one at least.

    Args:
        join: each has a row for each response, mean one for their mean, towers one for all of
            them side by side.
    """

    def __init__(self, join: Join) -> None:
        super().__init__()
        self.join = join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, T, C*H*W), (N, 1, C*H*W) or (N, 1, T*C*H*W)."""
        if self.join == "mean":
            x = x.mean(dim=2, keepdim=True)
        x = x.transpose(1, 2)  # (N, T, C, H, W)
        return x.flatten(1).unsqueeze(1) if self.join == "towers" else x.flatten(2)


class TimeFusionOptions(NetworkOptions, total=False):
    """Options of the networks of this file; dropout is after both fully connected layers."""

    image_size: int
    """H and W in pixels, at least 32; the fully connected layers fix it."""


class TimeFusion(Network):
    """Five convolutions and three fully connected layers; see the variants below.

    C(96,11,3)-N-P-C(256,5,1)-N-P-C(384,3,1)-C(384,3,1)-C(256,3,1)-P-FC(4096)-FC(4096) with
    (filters, size, stride); P is 2x2 /2 and N the response norm (size 5, alpha 1e-4, beta 0.5,
    k 2).

    Left open by the paper: the first convolution has no padding, the others keep their size (170
    pixels then give 6x6 cells), and dropout is in front of the last two fully connected layers,
    all as in Krizhevsky et al. 2012. Weights start as in He et al. 2015 with zero biases, the
    classifier at a deviation of 0.01.

    Args:
        steps: windows and strides in time.
        join: how responses over time reach the fully connected layers.
        length: T that is demanded; None takes any that gives a response.

    The others are `TimeFusionOptions`.

    Raises:
        InputError: a number is out of range.

    Source:
        Karpathy et al. 2014, section 3.1.
    """

    def __init__(
        self,
        *,
        steps: Steps = ONE_FRAME,
        join: Join = "each",
        length: int | None = None,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 170,
        dropout: float = 0.5,
        checkpointing: bool = False,
    ) -> None:
        check_dropout(dropout)
        check_least(SMALLEST_IMAGE, image_size=image_size)
        frames = 2 if join == "towers" else least_frames(steps)
        super().__init__(
            num_classes=num_classes,
            inputs=Accepts(in_channels, length, smallest=(frames, 1, 1), side=image_size),
            checkpointing=checkpointing,
        )
        self.frames = Ends() if join == "towers" else nn.Identity()
        first, second, third = steps
        self.conv1 = _convolution(in_channels, 96, 11, first, norm=True, pool=True)
        self.conv2 = _convolution(96, 256, 5, second, norm=True, pool=True)
        self.conv3 = _convolution(256, 384, 3, third)
        self.conv4 = _convolution(384, 384, 3)
        self.conv5 = _convolution(384, 256, 3, pool=True)
        self.rows = Rows(join)
        towers = 2 if join == "towers" else 1
        self.full6 = nn.Sequential(
            nn.Linear(towers * 256 * feature_side(image_size) ** 2, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.full7 = nn.Sequential(nn.Linear(4096, 4096), nn.ReLU(inplace=True))
        start_as_he(self)
        self.add_classifier(4096, dropout=dropout, deviation=0.01)

    def parts(self) -> tuple[nn.Module, ...]:
        convolutions = self.conv1, self.conv2, self.conv3, self.conv4, self.conv5
        return (self.frames, *convolutions, self.rows, self.full6, self.full7)

    def units(self, part: nn.Module) -> tuple[nn.Module, ...]:
        """Each stage as a whole: its activations change each other in place."""
        return (part,)

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """(N, rows, 4096) -> (N, 4096)."""
        return features.mean(dim=1)


def _convolution(
    in_channels: int,
    out_channels: int,
    side: int,
    step: tuple[int, int] = (1, 1),
    *,
    norm: bool = False,
    pool: bool = False,
) -> nn.Sequential:
    """Convolution with window and stride `step` in time, ReLU, response norm, pool."""
    stride, pad = (3, 0) if side == 11 else (1, side // 2)
    window, strides = (step[0], side, side), (step[1], stride, stride)
    conv = nn.Conv3d(in_channels, out_channels, window, strides, padding=(0, pad, pad))
    layers: list[nn.Module] = [conv, nn.ReLU(inplace=True)]
    if norm:  # the paper's alpha of 1e-4 is for a sum over 5 channels, torch's for their mean
        layers.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.5, k=2.0))
    if pool:
        layers.append(nn.MaxPool3d((1, 2, 2)))
    return nn.Sequential(*layers)


def single_frame(**options: Unpack[TimeFusionOptions]) -> TimeFusion:
    """Network over single frames; the mean of the logits over all frames of a clip.

    60,276,583 parameters with 487 classes. Takes clips of any length.
    """
    return TimeFusion(**options)


def late_fusion(*, join: LateJoin = "towers", **options: Unpack[TimeFusionOptions]) -> TimeFusion:
    """Two single-frame towers with the same weights, joined in the first fully connected layer.

    The towers see the first and the last frame of a clip, which has 2 at least. The published
    distance of 15 frames is a clip of 2 frames at stride 15, or of 16 frames at stride 1.
    98,025,319 parameters with 487 classes.

    Args:
        join: mean takes the mean of the last convolution over all frames of a clip instead, and
            has the weights of `single_frame`; clips may then have one frame.
        options: see `TimeFusionOptions`.

    Source:
        Karpathy et al. 2014, section 3.1; the mean from lecture 18 of EECS 498 (Johnson).
    """
    check_choice("join", join, LateJoin)
    return TimeFusion(join=join, **options)


def early_fusion(*, length: int = 10, **options: Unpack[TimeFusionOptions]) -> TimeFusion:
    """Frames joined by the first convolution, whose filters see all of them.

    The filters of 11x11xCxT pixels are those of a 2D network over the stacked frames. Takes clips
    of `length` frames T. 60,590,215 parameters with 487 classes.
    """
    return TimeFusion(steps=((length, 1), (1, 1), (1, 1)), length=length, **options)


def slow_fusion(**options: Unpack[TimeFusionOptions]) -> TimeFusion:
    """Frames joined bit by bit by the first three convolutions.

    Windows of 4, 2 and 2 at stride 2: ten frames, the fewest, give 4, 2 and 1 responses in time.
    61,880,263 parameters with 487 classes. Each 8 frames more give one more response, and the
    logits are the mean over them; frames after the last full window are not seen.
    """
    return TimeFusion(steps=((4, 2), (2, 2), (2, 2)), **options)
