"""CNN-M-2048, the network of the two-stream paper (Simonyan & Zisserman 2014)."""

from __future__ import annotations

import torch
from torch import nn

from dualstream.errors import check_least
from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import start_as_he
from dualstream.models.layers.pooling import stack_time
from dualstream.models.network import Network, check_dropout


def feature_side(image_size: int) -> int:
    """Side in cells of the last pooling layer's output for a square image.

    224 -> 109 (conv 7, /2) -> 54 (pool) -> 26 (conv 5, /2, pad 1) -> 13 (pool) -> 6 (pool).
    Pooling windows that run over the edge count, as in Caffe. Below 1 the image is too small.
    """
    side = _pooled((image_size - 7) // 2 + 1)
    return _pooled(_pooled((side + 2 - 5) // 2 + 1))


def _pooled(side: int) -> int:
    """3 -> 1, 4 -> 2, 5 -> 2, 109 -> 54, 26 -> 13."""
    return -(-(side - 3) // 2) + 1


SMALLEST_IMAGE = 41
"""Smallest `image_size` whose every layer has an output."""


class CNNM2048(Network):
    """CNN-M-2048: five convolutions, fully connected layers of 4096 and 2048, classifier.

    Weights start as in He et al. 2015 with zero biases, the classifier at a deviation of 0.01:
    the papers do not say, and without batch norm torch's own start trains slowly.

    Args:
        length: T; the first convolution sees C*T channels.
        second_norm: local response norm after the second convolution; None leaves it out unless
            the network sees single RGB frames, as the paper's temporal stream does.
        image_size: H and W in pixels, at least 41; the fully connected layers fix it.

    The others are `NetworkOptions`, but there is no checkpointing; dropout is after both fully
    connected layers.

    Raises:
        InputError: a number is out of range.

    Source:
        Simonyan & Zisserman 2014, figure 1. Strides, padding, pooling 3x3 /2 with Caffe's
        rounding and the response norm (size 5, alpha 5e-4, beta 0.75, k 2) from VGG_CNN_M_2048
        of Chatfield et al. 2014.
    """

    conv_dims = 2

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        length: int = 1,
        dropout: float = 0.5,
        second_norm: bool | None = None,
        image_size: int = 224,
    ) -> None:
        check_dropout(dropout)
        check_least(SMALLEST_IMAGE, image_size=image_size)
        super().__init__(
            num_classes=num_classes, inputs=Accepts(in_channels, length, side=image_size)
        )
        if second_norm is None:
            second_norm = in_channels * length == 3
        self.features = nn.Sequential(
            nn.Conv2d(in_channels * length, 96, 7, stride=2),
            nn.ReLU(inplace=True),
            _response_norm(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.Conv2d(96, 256, 5, stride=2, padding=1),
            nn.ReLU(inplace=True),
            _response_norm() if second_norm else nn.Identity(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.Conv2d(256, 512, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(512, 512, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(512, 512, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
        )
        self.full = nn.Sequential(
            nn.Linear(512 * feature_side(image_size) ** 2, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 2048),
            nn.ReLU(inplace=True),
        )
        self.add_classifier(2048, dropout=dropout)
        start_as_he(self)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, 2048)."""
        features = self.features(stack_time(clips)).flatten(1)  # (N, 512 * side * side)
        vectors: torch.Tensor = self.full(features)
        return vectors


def _response_norm() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


cnn_m_2048 = CNNM2048
"""The name in `MODELS`."""
