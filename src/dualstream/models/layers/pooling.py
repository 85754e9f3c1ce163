"""Means over time and space, and time folded into channels."""

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
