"""SlowFast networks (Feichtenhofer et al. 2019): few frames seen broadly, many seen narrowly."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Unpack

import torch
from torch import nn

from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import ConvUnit, Triple, start_as_he
from dualstream.models.layers.non_local import NonLocalKind, NonLocalOptions, Places, add_non_local
from dualstream.models.layers.pooling import window_mean
from dualstream.models.network import Network
from dualstream.models.zoo.resnet_video import BLOCKS_OF_DEPTH, make_stage, make_stem

_CHANNELS = (64, 256, 512, 1024, 2048)
"""After stem, res2, res3, res4, res5 of the slow pathway."""

_BETA_INVERSE = 8
"""Channels of the slow pathway for each one of the fast pathway."""

_LATERAL_RATIO = 2
"""Channels of a lateral connection for each one of the fast pathway."""


def slow_indices(length: int, alpha: int) -> list[int]:
    """Frames that the slow pathway sees: evenly from the first to the last.

    32 frames at alpha 8: 0, 10, 20, 31. That is the rule with which the published weights were
    trained and tested, not every eighth frame. A length that alpha does not divide has one more
    frame than there, so that it is as long as what the lateral connections bring.

    Args:
        length: T of the fast pathway, at least 1.
        alpha: see `SlowFast`.

    Returns:
        ceil(T / alpha) indices.

    Source:
        SlowFast's `pack_pathway_output` and pytorchvideo's tutorial: linspace, cut to integers.
    """
    count = -(-length // alpha)
    return [index * (length - 1) // max(count - 1, 1) for index in range(count)]


class Pathways(nn.Module):
    """One stage of both pathways, and the lateral connection after it.

    Args:
        lateral: convolution of the fast pathway's output whose result is stacked after the
            slow pathway's channels; None after the last stage.
    """

    def __init__(
        self, slow: nn.Sequential, fast: nn.Sequential, lateral: ConvUnit | None = None
    ) -> None:
        super().__init__()
        self.slow = slow
        self.fast = fast
        self.lateral = lateral


class SlowFast(Network):
    """Two ResNets at different frame rates with lateral connections; see the variants below.

    Takes any clip, at the fast pathway's rate; all are published for every 2nd frame, of 224
    pixels.

    Args:
        depth: layers of both ResNets, 50 or 101.
        alpha: frames of the fast pathway for each one of the slow.
        lateral_kernel: window in time of the lateral convolutions.
        slow_length: T of the slow pathway that the published weights have; larger features are
            averaged as `window_mean` does.
        res4_time_kernels: window in time of res4's blocks, in both pathways.

    The others are `NonLocalOptions`; non-local blocks are those of the slow pathway's res2 to
    res5.
    """

    def __init__(
        self,
        *,
        depth: int,
        alpha: int,
        lateral_kernel: int,
        slow_length: int,
        res4_time_kernels: tuple[int, ...] = (3,),
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.5,
        checkpointing: bool = False,
        non_local: Places | None = None,
        non_local_kind: NonLocalKind = "embedded_gaussian",
    ) -> None:
        super().__init__(
            num_classes=num_classes, inputs=Accepts(in_channels), checkpointing=checkpointing
        )
        self.alpha = alpha
        self.slow_window: Triple = (slow_length, 7, 7)
        self.fast_window: Triple = (slow_length * alpha, 7, 7)
        self.stem = Pathways(
            make_stem(in_channels, _CHANNELS[0], time_kernel=1, pool=True),
            make_stem(in_channels, _CHANNELS[0] // _BETA_INVERSE, time_kernel=5, pool=True),
            _lateral(_CHANNELS[0], kernel=lateral_kernel, alpha=alpha),
        )
        stages: list[Pathways] = []
        kernels = (((1,), (3,)), ((1,), (3,)), (res4_time_kernels,) * 2, ((3,), (3,)))
        numbers = zip(pairwise(_CHANNELS), BLOCKS_OF_DEPTH[depth], kernels, strict=True)
        for (before, after), num_blocks, (slow_kernels, fast_kernels) in numbers:
            is_first, is_last = not stages, after == _CHANNELS[-1]
            stride = (1, 1, 1) if is_first else (1, 2, 2)
            stage = partial(make_stage, num_blocks=num_blocks, stride=stride)
            fast_before, fast_after = before // _BETA_INVERSE, after // _BETA_INVERSE
            slow_before = before + fast_before * _LATERAL_RATIO
            slow = stage(slow_before, after, time_kernels=slow_kernels)
            fast = stage(fast_before, fast_after, time_kernels=fast_kernels)
            lateral = None if is_last else _lateral(after, kernel=lateral_kernel, alpha=alpha)
            stages.append(Pathways(slow, fast, lateral))
        self.res2, self.res3, self.res4, self.res5 = stages
        start_as_he(self, mode="fan_out")
        of_slow = {f"res{number}": stage.slow for number, stage in enumerate(stages, start=2)}
        add_non_local(of_slow, non_local, kind=non_local_kind)
        self.add_classifier(_CHANNELS[-1] + _CHANNELS[-1] // _BETA_INVERSE, dropout=dropout)

    def stages(self) -> tuple[nn.Module, ...]:
        return self.stem, self.res2, self.res3, self.res4, self.res5

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) at the fast pathway's rate -> (N, 2304), slow before fast."""
        indices = slow_indices(clips.shape[2], self.alpha)
        slow = clips.index_select(2, torch.tensor(indices, device=clips.device))
        fast = clips
        for stage in (self.stem, self.res2, self.res3, self.res4, self.res5):
            slow = self.run(stage.slow, slow)
            fast = self.run(stage.fast, fast)
            if stage.lateral is not None:
                slow = torch.cat((slow, self.run(stage.lateral, fast)), dim=1)
        means = window_mean(slow, self.slow_window), window_mean(fast, self.fast_window)
        return torch.cat(means, dim=1)


def _lateral(slow_channels: int, *, kernel: int, alpha: int) -> ConvUnit:
    """Convolution over time that brings the fast pathway to the slow one's rate."""
    channels = slow_channels // _BETA_INVERSE
    return ConvUnit(channels, channels * _LATERAL_RATIO, (kernel, 1, 1), stride=(alpha, 1, 1))


def slowfast_r50_4x16(**options: Unpack[NonLocalOptions]) -> SlowFast:
    """SlowFast of two ResNet-50: 4 slow and 32 fast frames.

    Source:
        Feichtenhofer et al. 2019; SlowFast's configuration `SLOWFAST_4x16_R50`.
    """
    return SlowFast(depth=50, alpha=8, lateral_kernel=5, slow_length=4, **options)


def slowfast_r50_8x8(**options: Unpack[NonLocalOptions]) -> SlowFast:
    """SlowFast of two ResNet-50: 8 slow and 32 fast frames.

    Source:
        Feichtenhofer et al. 2019; pytorchvideo's `slowfast_r50` (alpha 4, lateral window 7).
    """
    return SlowFast(depth=50, alpha=4, lateral_kernel=7, slow_length=8, **options)


def slowfast_r101_8x8(**options: Unpack[NonLocalOptions]) -> SlowFast:
    """SlowFast of two ResNet-101: 8 slow and 32 fast frames.

    Source:
        Feichtenhofer et al. 2019; pytorchvideo's `slowfast_r101` (alpha 4, lateral window 5).
    """
    return SlowFast(depth=101, alpha=4, lateral_kernel=5, slow_length=8, **options)


def slowfast_r101_16x8(**options: Unpack[NonLocalOptions]) -> SlowFast:
    """SlowFast of two ResNet-101: 16 slow and 64 fast frames.

    Only the first 6 of res4's 23 blocks have windows over time.

    Source:
        Feichtenhofer et al. 2019; pytorchvideo's `slowfast_16x8_r101_50_50`.
    """
    return SlowFast(
        depth=101,
        alpha=4,
        lateral_kernel=5,
        slow_length=16,
        res4_time_kernels=(3,) * 6 + (1,) * 17,
        **options,
    )
