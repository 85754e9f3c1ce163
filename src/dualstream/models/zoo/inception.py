"""Inception-v1's block and table of channels (Szegedy et al. 2015), shared by I3D and S3D."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

Widths = tuple[int, int, int, int, int, int]
"""Channels of a block: branch 0; branch 1 reduced, then out; branch 2 likewise; branch 3."""

WIDTHS: dict[str, Widths] = {
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
"""Name of a block -> its channels."""


class InceptionBlock(nn.Module):
    """1x1x1; 1x1x1, 3x3x3 twice; pool 3x3x3, 1x1x1; side by side.

    Args:
        in_channels: C of the input.
        widths: see `WIDTHS`.
        narrow: makes a 1x1x1 convolution, given C of its input and output.
        wide: makes a 3x3x3 convolution.
        pool: of branch 3.
        gate: makes what the end of a branch passes, given its C.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Widths,
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
