"""I3D: Inception-v1 inflated over time (Carreira & Zisserman 2017), and its 2D form."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Unpack, cast

import torch
from torch import nn

from dualstream.errors import check_choice
from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import Activation, ConvUnit, Triple, half, start_as_he
from dualstream.models.layers.non_local import NonLocalKind, NonLocalOptions, Places, add_non_local
from dualstream.models.layers.pooling import MaxPool, window_mean
from dualstream.models.network import Network

TimePadding = Literal["zeros", "repeat"]
"""Values that convolutions over time see before the first and after the last frame of a clip."""

WIDTHS: dict[str, tuple[int, int, int, int, int, int]] = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Block -> channels of branch 0; branch 1 reduced, then out; branch 2 likewise; branch 3."""


class InceptionBlock(nn.Module):
    """1x1x1; 1x1x1, 3x3x3 twice; pool 3x3x3, 1x1x1; side by side (Szegedy et al. 2015, table 1).

    Args:
        widths: see `WIDTHS`.
        narrow: makes a 1x1x1 convolution, given C of its input and output.
        wide: makes a 3x3x3 convolution.
        pool: of branch 3.
        gate: makes what the end of a branch passes, given its C.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        *,
        narrow: Callable[[int, int], nn.Module],
        wide: Callable[[int, int], nn.Module],
        pool: nn.Module,
        gate: Callable[[int], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        width_0, reduced_1, width_1, reduced_2, width_2, width_3 = widths

        def narrow_then_wide(reduced: int, width: int) -> nn.Sequential:
            return nn.Sequential(
                OrderedDict(narrow=narrow(in_channels, reduced), wide=wide(reduced, width))
            )

        self.branch_0 = narrow(in_channels, width_0)
        self.branch_1 = narrow_then_wide(reduced_1, width_1)
        self.branch_2 = narrow_then_wide(reduced_2, width_2)
        self.branch_3 = nn.Sequential(OrderedDict(pool=pool, project=narrow(in_channels, width_3)))
        widths_out = (width_0, width_1, width_2, width_3)
        self.out_channels = sum(widths_out)
        self.non_local: nn.Module = nn.Identity()
        self.gates = nn.ModuleList(gate(width) for width in widths_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, out_channels, T, H, W)."""
        branches = (self.branch_0, self.branch_1, self.branch_2, self.branch_3)
        outputs = [gate(branch(x)) for branch, gate in zip(branches, self.gates, strict=True)]
        y: torch.Tensor = self.non_local(torch.cat(outputs, dim=1))
        return y


def inception_stages(make: Callable[[int, str], InceptionBlock]) -> dict[str, nn.Sequential]:
    """mixed_3 (over 192 channels) to mixed_5, whose blocks `make` makes of C and the name."""
    stages: dict[str, nn.Sequential] = {}
    channels = 192
    for name in WIDTHS:
        block = make(channels, name)
        stages.setdefault(name[:-1], nn.Sequential()).append(block)
        channels = block.out_channels
    return stages


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
        # What the convolution does not pad by itself.
        own = cast("tuple[int, ...]", self.conv.padding)
        sizes = zip(x.shape[2:], self.conv.kernel_size, self.conv.stride, own, strict=True)
        time, height, width = (
            (0, 0) if done else same_padding(int(size), kernel=kernel, stride=stride)
            for size, kernel, stride, done in sizes
        )
        if self.time_padding == "repeat" and any(time):
            x = nn.functional.pad(x, (0, 0, 0, 0, *time), mode="replicate")
            time = (0, 0)
        if any((*time, *height, *width)):
            x = nn.functional.pad(x, (*width, *height, *time))
        return super().forward(x)


class SamePool(nn.Module):
    """Max pool with 'SAME' padding, whose places never win."""

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
        window, size, step = (7, 3, 2) if in_time else (1, 1, 1)
        unit = partial(SameUnit, activation=None, time_padding=time_padding)
        # ReLU after the pool gives the same, of a quarter of the values.
        self.stem = nn.Sequential(
            OrderedDict(
                conv_1a=unit(in_channels, 64, (window, 7, 7), stride=(step, 2, 2)),
                pool_2a=SamePool((1, 3, 3), stride=(1, 2, 2)),
                relu_2a=nn.ReLU(inplace=True),
                conv_2b=SameUnit(64, 64),
                conv_2c=unit(64, 192, (size, 3, 3)),
                pool_3a=SamePool((1, 3, 3), stride=(1, 2, 2)),
                relu_3a=nn.ReLU(inplace=True),
            )
        )
        stages = inception_stages(self._block)
        self.mixed_3 = stages["mixed_3"]
        self.pool_4a = SamePool((size, 3, 3), stride=(step, 2, 2))
        self.mixed_4 = stages["mixed_4"]
        self.pool_5a = SamePool((step, 2, 2), stride=(step, 2, 2))
        self.mixed_5 = stages["mixed_5"]
        start_as_he(self)
        add_non_local(stages, non_local, kind=non_local_kind)
        self.add_classifier(1024, dropout=dropout)

    def parts(self) -> tuple[nn.Module, ...]:
        return self.stem, self.mixed_3, self.pool_4a, self.mixed_4, self.pool_5a, self.mixed_5

    def units(self, part: nn.Module) -> tuple[nn.Module, ...]:
        """Blocks, and the stem in two: its largest activations are those in front of its pools."""
        return (self.stem[:3], self.stem[3:]) if part is self.stem else super().units(part)

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """(N, 1024, T, H, W) -> (N, 1024)."""
        return window_mean(features, (2 if self.in_time else 1, 7, 7))

    def _block(self, in_channels: int, name: str) -> InceptionBlock:
        window: Triple = (3 if self.in_time else 1, 3, 3)
        return InceptionBlock(
            in_channels,
            WIDTHS[name],
            narrow=SameUnit,
            wide=partial(SameUnit, kernel=window, time_padding=self.time_padding),
            pool=MaxPool(window, (1, 1, 1), half(window)),
        )


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
