"""Means and maxima over time and space, and time folded into channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def global_mean(features: torch.Tensor) -> torch.Tensor:
    """(N, C, T, H, W) -> (N, C)."""
    return features.mean(dim=(2, 3, 4))


def window_mean(features: torch.Tensor, window: Sequence[int]) -> torch.Tensor:
    """Mean over all places of a window of the mean inside it: (N, C, T, H, W) -> (N, C).

    What is far from the border counts more often. Where the features are smaller than the window
    it is cut to their size.

    Source:
        The heads of I3D and S3D: average pooling at stride 1, a 1x1x1 convolution, mean.
    """
    return global_mean(window_means(features, window))


def window_means(features: torch.Tensor, window: Sequence[int]) -> torch.Tensor:
    """(N, C, T, H, W) -> the mean inside the window at each place that it has in them."""
    size = [min(w, int(s)) for w, s in zip(window, features.shape[2:], strict=True)]
    return nn.functional.avg_pool3d(features, size, stride=1)


def stack_time(clips: torch.Tensor) -> torch.Tensor:
    """Fold time into channels for a 2D network.

    Two flow fields come out as x1, y1, x2, y2 (Simonyan & Zisserman 2014, equation 1).

    Args:
        clips: (N, C, T, H, W).

    Returns:
        (N, T*C, H, W), the C channels of a time step next to each other.
    """
    return clips.transpose(1, 2).flatten(1, 2)


class MaxPool(nn.MaxPool3d):
    """`nn.MaxPool3d`, computed axis by axis where that is faster; the values are the same.

    Torch's own kernel takes a position at a time: 40 ms for the pool after the stem of a
    ResNet-50 at 8x224x224, a twentieth of the network, against 4.5 ms from maxima of whole slices
    (one core). Slices serve on the CPU, on tensors in the standard layout that need no gradient.

    Args as `nn.MaxPool3d`, but neither dilation nor indices nor a size that is rounded up.
    """

    def __init__(
        self,
        kernel_size: tuple[int, int, int],
        stride: tuple[int, int, int] | None = None,
        padding: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__(kernel_size, kernel_size if stride is None else stride, padding)
        self.axes = tuple(zip((2, 3, 4), kernel_size, stride or kernel_size, padding, strict=True))
        """(dimension, kernel, stride, padding)"""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C, T', H', W')."""
        if not self._by_slices(x):
            y: torch.Tensor = super().forward(x)
            return y
        for dim, kernel, stride, padding in self.axes:
            if (kernel, stride) != (1, 1):
                x = _max_along(x, dim, kernel=kernel, stride=stride, padding=padding)
        return x

    def _by_slices(self, x: torch.Tensor) -> bool:
        return (
            x.device.type == "cpu"
            and x.ndim == 5
            and x.is_contiguous()
            and not (x.requires_grad and torch.is_grad_enabled())
            and not torch.compiler.is_compiling()
            # So that the value at offset 0 lies inside for every window.
            and all(
                2 * padding < kernel and x.shape[dim] + 2 * padding >= kernel
                for dim, kernel, _, padding in self.axes
            )
        )


def windows_of_offset(length: int, offset: int, *, stride: int, count: int) -> tuple[int, int]:
    """Windows i with a value at i * stride + `offset`: the first, and the one after the last.

    Of 4 windows at stride 2 on an axis of length 7, the values at -1 (padding) are at -1, 1, 3, 5:
    windows 1 to 3, so 1 and 4. Those at 1 are at 1, 3, 5, 7: 0 and 3.
    """
    first = max(0, -(offset // stride))  # ceil(-offset / stride)
    after = min(count, (length - 1 - offset) // stride + 1)
    return first, after


def _max_along(
    x: torch.Tensor, dim: int, *, kernel: int, stride: int, padding: int
) -> torch.Tensor:
    """Max pooling of one axis: the maximum of `kernel` slices."""
    length = x.shape[dim]
    count = (length + 2 * padding - kernel) // stride + 1
    slices = []
    for offset in range(-padding, kernel - padding):
        first, after = windows_of_offset(length, offset, stride=stride, count=count)
        if after > first:
            places = slice(first * stride + offset, (after - 1) * stride + offset + 1, stride)
            slices.append((first, after, x[(slice(None),) * dim + (places,)]))
    # Those that reach every window come first; two of them make the output without a copy.
    slices.sort(key=lambda entry: entry[0] - entry[1])
    pair = [part for first, after, part in slices[:2] if after - first == count]
    if len(pair) == 2:
        y = torch.maximum(*pair)
    else:
        y = pair[0].clone(memory_format=torch.contiguous_format)
    for first, after, part in slices[len(pair) :]:
        reached = y.narrow(dim, first, after - first)
        torch.maximum(reached, part, out=reached)
    return y
