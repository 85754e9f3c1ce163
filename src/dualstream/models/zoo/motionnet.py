"""MotionNet (Zhu et al. 2017): optical flow out of stacked frames, learnt without labels."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualstream.errors import check_least
from dualstream.models.accepts import Accepts
from dualstream.models.layers.pooling import stack_time
from dualstream.models.motion_losses import UNIT_PX
from dualstream.models.network import Network

WIDTHS = (1, 2, 4, 8, 8, 16)
"""Channels of the six stages in units of the first one's (64)."""

GRID = 4
"""Rows and columns of the flow that the classifier of `MotionNet` sees."""


class MotionEstimator(nn.Module):
    """Encoder and decoder of 3x3 filters: frames in, flow at five levels out.

    | layer | C x H x W | at 11 x 224 x 224 |
    |---|---|---|
    | frames as channels | 33 x 224 x 224 | |
    | two convolutions 3x3 a stage, stride 2 from the second on | 64, 128, 256, 512, 512, 1024 |
    224, 112, 56, 28, 14, 7 |
    | flow of the coarsest level, 3x3 | 20 x 7 x 7 | |
    | four times: transposed 4x4 /2 of features and of flow, beside the encoder's features of that
    size; 3x3 without activation; flow, 3x3 | 512, 256, 128, 64 | 14, 28, 56, 112 |

    Leaky ReLUs of slope .1 are after convolutions of the encoder and transposed ones of features.
    Sides that two does not divide are rounded up, and the decoder is cut to them.

    Args:
        in_channels: C of a frame.
        length: T, from 2; there are T-1 flow fields.
        base_channels: channels of the first stage.

    Source:
        The authors' `train.prototxt` (bryanyzhu/Hidden-Two-Stream). All weights start as He et al.
        2015; their transposed convolutions have no bias that learns, here they have none.
    """

    def __init__(self, *, in_channels: int, length: int, base_channels: int = 64) -> None:
        super().__init__()
        check_least(2, length=length)
        check_least(1, base_channels=base_channels)
        widths = [base_channels * width for width in WIDTHS]
        flows = 2 * (length - 1)
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=1 if index == 0 else 2, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(after, after, 3, padding=1),
                nn.LeakyReLU(0.1),
            )
            for index, (before, after) in enumerate(pairwise((in_channels * length, *widths)))
        )
        # From the bottleneck to the level of half the frames' side, besides which 64 are left.
        inner = [widths[5], *(base_channels * width for width in (8, 4, 2, 1))]
        self.larger_features = nn.ModuleList(
            nn.Sequential(_doubled(before, after), nn.LeakyReLU(0.1))
            for before, after in pairwise(inner)
        )
        self.larger_flow = nn.ModuleList(_doubled(flows, flows) for _ in inner[1:])
        self.smooth = nn.ModuleList(
            nn.Conv2d(width + after + flows, after, 3, padding=1)
            for width, after in zip(widths[4:0:-1], inner[1:], strict=True)
        )
        self.flow = nn.ModuleList(nn.Conv2d(width, flows, 3, padding=1) for width in inner)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Flow at five levels, from the coarsest to the finest, which has half the frames' side.

        Args:
            frames: (N, C, T, H, W).

        Returns:
            (N, T-1, 2, h, w) each, field t from frame t to t + 1, x right and y down, in units of
            `UNIT_PX` pixels of the frames.
        """
        x = stack_time(frames)  # (N, T*C, H, W)
        skipped = []
        for stage in self.encoder:
            x = stage(x)
            skipped.append(x)
        flow = self.flow[0](x)
        levels = [flow]
        for index, skip in enumerate(skipped[4:0:-1]):
            height, width = skip.shape[-2:]
            larger = self.larger_features[index](x), self.larger_flow[index](flow)
            x = torch.cat((skip, *(part[..., :height, :width] for part in larger)), dim=1)
            x = self.smooth[index](x)
            flow = self.flow[index + 1](x)
            levels.append(flow)
        return tuple(level.unflatten(1, (-1, 2)) for level in levels)


def _doubled(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)


def flow_pixels(finest: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow in pixels of the frames, at their size.

    Args:
        finest: (N, T-1, 2, h, w), last of the levels.
        size: (H, W) of the frames.

    Returns:
        (N, T-1, 2, H, W).
    """
    larger = F.interpolate(finest.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
    return UNIT_PX * larger.reshape(*finest.shape[:3], *size)


class MotionNetwork(Network):
    """A network that estimates motion on the way from frames to logits.

    Subclasses set `motion` and define `encode_flow`.
    """

    conv_dims: Literal[2, 3] = 2
    own_losses = ("motion",)
    motion: MotionEstimator

    def encode(self, clips: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, num_features)."""
        return self.encode_flow(self.motion(clips)[-1], (clips.shape[-2], clips.shape[-1]))

    def encode_flow(self, finest: Tensor, size: tuple[int, int]) -> Tensor:
        """Vectors for the classifier of the finest level's flow.

        Args:
            finest: (N, T-1, 2, h, w) as `MotionEstimator` gives it.
            size: (H, W) of the frames.

        Returns:
            (N, num_features).
        """
        raise NotImplementedError

    def logits_and_levels(
        self, x: Tensor | Mapping[str, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits (N, K) as of `forward`, and the levels of the flow that they come from.

        Input and errors are those of `forward`; of S segments the levels are (N*S, T-1, 2, h, w).
        """
        clips = self._checked(x)
        levels = self.motion(clips)
        with self._explained():
            features = self.encode_flow(levels[-1], (clips.shape[-2], clips.shape[-1]))
        samples = (next(iter(x.values())) if isinstance(x, Mapping) else x).shape[0]
        return self.classify(features, samples=samples), levels


class MotionNet(MotionNetwork):
    """MotionNet: optical flow from stacked frames; a classifier sees the flow on a coarse grid.

    It is trained without labels (recipe `motionnet`, `train.losses={motion: 1}`) and then stands in
    front of a temporal network (`hidden_two_stream`). Its own classifier, which the paper does not
    have, is a linear one of the flow averaged over 4 x 4 places.

    Args:
        length: T, from 2; the authors' 11 frames give 10 flow fields.
        base_channels: channels of the first stage, 64 as published; the others are multiples.

    The others are `NetworkOptions`, but there is no checkpointing.

    Raises:
        InputError: a number is out of range.

    Source:
        Zhu et al. 2017, section 3.1; see `MotionEstimator`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        length: int = 11,
        dropout: float = 0.0,
        base_channels: int = 64,
    ) -> None:
        super().__init__(num_classes=num_classes, inputs=Accepts(in_channels, length))
        self.motion = MotionEstimator(
            in_channels=in_channels, length=length, base_channels=base_channels
        )
        self.add_classifier(2 * (length - 1) * GRID**2, dropout=dropout)

    def encode_flow(self, finest: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, T-1, 2, h, w) -> (N, 2 * (T-1) * 16)."""
        return F.adaptive_avg_pool2d(finest.flatten(1, 2), GRID).flatten(1)


motionnet = MotionNet
"""The name in `MODELS`."""
