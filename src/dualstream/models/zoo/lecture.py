"""Three small networks that differ only in where they join time (EECS 498, lecture 18)."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import nn

from dualstream.models.accepts import Accepts
from dualstream.models.layers.pooling import stack_time
from dualstream.models.network import Network, NetworkOptions


class StackTime(nn.Module):
    """Frames as channels of an image."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, T*C, H, W)."""
        return stack_time(clips)


class LectureNetwork(Network):
    """Convolution to 12 channels, pool, convolution to 24, global mean, classifier.

    Both convolutions are followed by a ReLU.

    Args:
        conv_frames: window in time of both convolutions.
        pool_frames: window in time of the pool.
        length: T of a 2D network over stacked frames, which has no windows in time; None is a
            network over clips of any length.

    The others are `NetworkOptions`.
    """

    def __init__(
        self,
        *,
        conv_frames: int = 1,
        pool_frames: int = 1,
        length: int | None = None,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            inputs=Accepts(in_channels, length, smallest=(pool_frames, 4, 4)),
            checkpointing=checkpointing,
        )
        self.conv1: nn.Module
        self.max_pool: nn.Module
        self.conv2: nn.Module
        self.global_pool: nn.Module
        if length is None:
            window, padding = (conv_frames, 3, 3), (conv_frames // 2, 1, 1)
            self.conv1 = nn.Conv3d(in_channels, 12, window, padding=padding)
            self.max_pool = nn.MaxPool3d((pool_frames, 4, 4))
            self.conv2 = nn.Conv3d(12, 24, window, padding=padding)
            self.global_pool = nn.AdaptiveAvgPool3d(1)
        else:
            self.conv_dims = 2
            self.conv1 = nn.Conv2d(in_channels * length, 12, 3, padding=1)
            self.max_pool = nn.MaxPool2d(4)
            self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
            self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.add_classifier(24, dropout=dropout)

    def parts(self) -> tuple[nn.Module, ...]:
        return (
            *([StackTime()] if self.conv_dims == 2 else []),
            nn.Sequential(self.conv1, nn.ReLU(), self.max_pool),
            nn.Sequential(self.conv2, nn.ReLU(), self.global_pool),
        )

    def units(self, part: nn.Module) -> tuple[nn.Module, ...]:
        """A convolution with its pool."""
        return (part,)

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """(N, 24, ...) of one place -> (N, 24)."""
        return features.flatten(1)


def lecture_late_fusion(**options: Unpack[NetworkOptions]) -> LectureNetwork:
    """Small network over single frames, joined by the mean over space and time at the end.

    | layer | C x T x H x W | receptive field, T x H x W |
    |---|---|---|
    | input | 3 x 20 x 64 x 64 | |
    | conv1 3x3, 3 -> 12 | 12 x 20 x 64 x 64 | 1 x 3 x 3 |
    | max_pool 4x4 | 12 x 20 x 16 x 16 | 1 x 6 x 6 |
    | conv2 3x3, 12 -> 24 | 24 x 20 x 16 x 16 | 1 x 14 x 14 |
    | global_pool | 24 x 1 x 1 x 1 | 20 x 64 x 64 |

    Takes clips from 1 x 4 x 4.

    Source:
        EECS 498 (Johnson), lecture 18. ReLUs, padding of 1 and the linear classifier, which its
        table does not name, are ours.
    """
    return LectureNetwork(conv_frames=1, pool_frames=1, **options)


def lecture_early_fusion(*, length: int = 20, **options: Unpack[NetworkOptions]) -> LectureNetwork:
    """Small 2D network whose first convolution sees all frames as channels.

    | layer | C x H x W | receptive field, T x H x W |
    |---|---|---|
    | input | 3 x 20 x 64 x 64 | |
    | conv1 3x3, 3*20 -> 12 | 12 x 64 x 64 | 20 x 3 x 3 |
    | max_pool 4x4 | 12 x 16 x 16 | 20 x 6 x 6 |
    | conv2 3x3, 12 -> 24 | 24 x 16 x 16 | 20 x 14 x 14 |
    | global_pool | 24 x 1 x 1 | 20 x 64 x 64 |

    Takes clips of `length` frames T, from 4 x 4 pixels.

    Source:
        EECS 498 (Johnson), lecture 18; see `lecture_late_fusion`.
    """
    return LectureNetwork(length=length, **options)


def lecture_3d_cnn(**options: Unpack[NetworkOptions]) -> LectureNetwork:
    """Small 3D network, which joins time and space layer by layer.

    | layer | C x T x H x W | receptive field, T x H x W |
    |---|---|---|
    | input | 3 x 20 x 64 x 64 | |
    | conv1 3x3x3, 3 -> 12 | 12 x 20 x 64 x 64 | 3 x 3 x 3 |
    | max_pool 4x4x4 | 12 x 5 x 16 x 16 | 6 x 6 x 6 |
    | conv2 3x3x3, 12 -> 24 | 24 x 5 x 16 x 16 | 14 x 14 x 14 |
    | global_pool | 24 x 1 x 1 x 1 | 20 x 64 x 64 |

    Takes clips from 4 x 4 x 4.

    Source:
        EECS 498 (Johnson), lecture 18; see `lecture_late_fusion`.
    """
    return LectureNetwork(conv_frames=3, pool_frames=4, **options)
