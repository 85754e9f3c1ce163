"""I3D: Inception-v1 inflated over time (Carreira & Zisserman 2017), and its 2D form."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Literal, Unpack, cast

import torch
from torch import nn

from dualstream.errors import check_choice
from dualstream.models.layers.conv import Activation, ConvUnit, Triple, half, start_as_he
from dualstream.models.layers.non_local import NonLocalKind, NonLocalOptions, Places, add_non_local
from dualstream.models.layers.pooling import MaxPool, window_mean
from dualstream.models.network import Accepts, Network
from dualstream.models.zoo.inception import WIDTHS, InceptionBlock

TimePadding = Literal["zeros", "repeat"]
"""Values that convolutions over time see before the first and after the last frame of a clip."""


def same_padding(size: int, *, kernel: int, stride: int) -> tuple[int, int]:
    """Padding (before, after) with which a window gives ceil(size / stride) outputs.

    224 with a window of 7 and stride 2 -> (2, 3); 225 -> (3, 3). An odd total has
    one more after. This is TensorFlow's 'SAME'; torch pads both sides alike for every size.
    """
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + kernel - size)
    return total // 2, total - total // 2


class SameUnit(ConvUnit):
    """Convolution, batch norm, activation with 'SAME' padding, see `same_padding`.

    Args:
        time_padding: zeros, or the first and the last frame repeated.

    The others are those of `ConvUnit`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple = (1, 1, 1),
        *,
        stride: Triple = (1, 1, 1),
        activation: Activation | None = "relu",
        time_padding: TimePadding = "zeros",
    ) -> None:
        # At stride 1 both sides are alike for every size, and the convolution pads by itself.
        own = [size // 2 if step == 1 else 0 for size, step in zip(kernel, stride, strict=True)]
        if time_padding == "repeat":
            own[0] = 0
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=(own[0], own[1], own[2]),
            activation=activation,
            eps=1e-3,
            momentum=0.01,
        )
        self.time_padding: TimePadding = time_padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C', ceil(T / stride), ceil(H / stride), ceil(W / stride))."""
        time, height, width = self._missing(x)
        if self.time_padding == "repeat" and any(time):
            x = nn.functional.pad(x, (0, 0, 0, 0, *time), mode="replicate")
            time = (0, 0)
        if any((*time, *height, *width)):
            x = nn.functional.pad(x, (*width, *height, *time))
        return super().forward(x)

    def _missing(self, x: torch.Tensor) -> list[tuple[int, int]]:
        """Padding of time, height and width besides the convolution's own."""
        own = cast("tuple[int, ...]", self.conv.padding)
        return [
            (0, 0) if done else same_padding(int(size), kernel=kernel, stride=stride)
            for size, kernel, stride, done in zip(
                x.shape[2:], self.conv.kernel_size, self.conv.stride, own, strict=True
            )
        ]


class SamePool(nn.Module):
    """Max pool with 'SAME' padding, whose places never win.

    Args:
        kernel: window in time, height, width.
        stride: step in time, height, width.
    """

    def __init__(self, kernel: Triple, *, stride: Triple) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C, ceil(T / stride), ceil(H / stride), ceil(W / stride))."""
        before = [
            same_padding(int(size), kernel=kernel, stride=stride)[0]
            for size, kernel, stride in zip(x.shape[2:], self.kernel, self.stride, strict=True)
        ]
        # ceil_mode makes up for what is missing after the last place.
        return nn.functional.max_pool3d(x, self.kernel, self.stride, before, ceil_mode=True)

    def extra_repr(self) -> str:
        """Window and step."""
        return f"kernel={self.kernel}, stride={self.stride}"


class I3D(Network):
    """Stem, nine Inception blocks in three stages, mean; see `i3d` and `inception_v1`.

    Args:
        in_time: windows and steps over time as large as those over space; else 1.
        time_padding: see `SameUnit`.

    The others are `NonLocalOptions`; stages for non-local blocks are mixed_3, mixed_4, mixed_5.

    Raises:
        InputError: a number is out of range.
        UnknownNameError: a choice or a stage is unknown.
    """

    def __init__(
        self,
        *,
        in_time: bool,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.5,
        time_padding: TimePadding = "zeros",
        checkpointing: bool = False,
        non_local: Places | None = None,
        non_local_kind: NonLocalKind = "embedded_gaussian",
    ) -> None:
        super().__init__(
            num_classes=num_classes, inputs=Accepts(in_channels), checkpointing=checkpointing
        )
        check_choice("time_padding", time_padding, TimePadding)
        self.in_time = in_time
        self.time_padding: TimePadding = time_padding
        self.stem = self._stem(in_channels)
        self.mixed_3 = self._blocks(192, "bc", stage=3)
        self.pool_4a = self._pool(3)
        self.mixed_4 = self._blocks(480, "bcdef", stage=4)
        self.pool_5a = self._pool(2)
        self.mixed_5 = self._blocks(832, "bc", stage=5)
        start_as_he(self)
        stages = {"mixed_3": self.mixed_3, "mixed_4": self.mixed_4, "mixed_5": self.mixed_5}
        add_non_local(stages, non_local, kind=non_local_kind)
        self.add_classifier(1024, dropout=dropout)

    def stages(self) -> tuple[nn.Module, ...]:
        """Stem and the three Inception stages."""
        return self.stem, self.mixed_3, self.mixed_4, self.mixed_5

    def parts(self) -> tuple[nn.Module, ...]:
        """Stem, stages, and the pools between them."""
        return self.stem, self.mixed_3, self.pool_4a, self.mixed_4, self.pool_5a, self.mixed_5

    def units(self, part: nn.Module) -> tuple[nn.Module, ...]:
        """Blocks, and the stem in two: its largest activations are those in front of its pools."""
        return (self.stem[:3], self.stem[3:]) if part is self.stem else super().units(part)

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """(N, 1024, T, H, W) -> (N, 1024)."""
        return window_mean(features, (2 if self.in_time else 1, 7, 7))

    def _stem(self, in_channels: int) -> nn.Sequential:
        window, size = (7, 3) if self.in_time else (1, 1)
        step = (2 if self.in_time else 1, 2, 2)

        unit = partial(SameUnit, activation=None, time_padding=self.time_padding)
        # ReLU after the pool gives the same, of a quarter of the values.
        return nn.Sequential(
            OrderedDict(
                conv_1a=unit(in_channels, 64, (window, 7, 7), stride=step),
                pool_2a=SamePool((1, 3, 3), stride=(1, 2, 2)),
                relu_2a=nn.ReLU(inplace=True),
                conv_2b=SameUnit(64, 64),
                conv_2c=unit(64, 192, (size, 3, 3)),
                pool_3a=SamePool((1, 3, 3), stride=(1, 2, 2)),
                relu_3a=nn.ReLU(inplace=True),
            )
        )

    def _pool(self, window: int) -> SamePool:
        if self.in_time:
            return SamePool((window, window, window), stride=(2, 2, 2))
        return SamePool((1, window, window), stride=(1, 2, 2))

    def _blocks(self, in_channels: int, letters: str, *, stage: int) -> nn.Sequential:
        window: Triple = (3 if self.in_time else 1, 3, 3)
        blocks = []
        for letter in letters:
            block = InceptionBlock(
                in_channels,
                WIDTHS[f"mixed_{stage}{letter}"],
                narrow=SameUnit,
                wide=partial(SameUnit, kernel=window, time_padding=self.time_padding),
                pool=MaxPool(window, (1, 1, 1), half(window)),
            )
            blocks.append(block)
            in_channels = block.out_channels
        return nn.Sequential(*blocks)


def i3d(*, time_padding: TimePadding = "zeros", **options: Unpack[NonLocalOptions]) -> I3D:
    """I3D: Inception-v1 with every window and step inflated over time.

    Takes clips of any length and size. Features have an 8th of the clip's length and a 32nd of its
    height and width, each rounded up; where that is less than the 2 x 7 x 7 of the last average
    pool, the pool is as large as they are.

    Args:
        time_padding: zeros, as published; with repeat, windows over time see the first and the
            last frame again instead of zeros, and a still clip gives what its frame gives (see
            `inflate.inflate_state`).
        options: see `NonLocalOptions`.

    Source:
        Carreira & Zisserman 2017, figure 3, and the authors' code: 'SAME' padding, eps 1e-3 and
        no gain in batch norms (ours start at 1 and learn), dropout 0.5. Statistics of batch norms
        move by .01 a step instead of the authors' .001, so that a short fine-tuning is seen in
        evaluation.
    """
    return I3D(in_time=True, time_padding=time_padding, **options)


def inception_v1(**options: Unpack[NonLocalOptions]) -> I3D:
    """Inception-v1 frame by frame, the 2D form of I3D.

    The logits of a clip are the mean over its frames. Its weights inflate to those of `i3d`
    (`inflate.inflate_state`); a non-local block looks over all frames.

    Source:
        Szegedy et al. 2015, table 1, with the batch norms and the 3x3 in place of 5x5 that
        Carreira & Zisserman's network has.
    """
    return I3D(in_time=False, **options)
