"""Consensus over the segments of a video (Wang et al. 2016, 2018)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, check_choice, check_least

ConsensusName = Literal["average", "max", "top_k", "linear", "attention"]


class Average(nn.Module):
    """Mean over segments."""

    def forward(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, S, K), features (N, S, D) -> (N, K)."""
        return logits.mean(dim=1)


class Maximum(nn.Module):
    """Largest logit of each class over segments."""

    def forward(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, S, K), features (N, S, D) -> (N, K)."""
        return logits.amax(dim=1)


class TopK(nn.Module):
    """Mean of the k largest logits of each class; of all where there are fewer segments."""

    def __init__(self, *, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, S, K), features (N, S, D) -> (N, K)."""
        return logits.topk(min(self.k, logits.shape[1]), dim=1).values.mean(dim=1)


class Linear(nn.Module):
    """Weighted sum with one learned weight a segment, 1/S at the start."""

    def __init__(self, *, num_segments: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_segments,), 1 / num_segments))

    def forward(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, S, K), features (N, S, D) -> (N, K).

        Raises:
            ShapeError: S is not the number of segments that there are weights for.
        """
        if logits.shape[1] != len(self.weight):
            raise ShapeError(
                f"Linear consensus has weights for {len(self.weight)} segments, got "
                f"{logits.shape[1]}; give (N, {len(self.weight)}, C, T, H, W)."
            )
        return (logits * self.weight[:, None]).sum(dim=1)


class Attention(nn.Module):
    """Weighted sum whose weights, summing to 1, are a learned function of the features.

    The weights start equal, as the average.
    """

    def __init__(self, *, num_features: int) -> None:
        super().__init__()
        self.score = nn.Linear(num_features, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, S, K), features (N, S, D) -> (N, K)."""
        weights: torch.Tensor = self.score(features).softmax(dim=1)  # (N, S, 1)
        return (logits * weights).sum(dim=1)


def make_consensus(
    name: ConsensusName, *, num_features: int, num_segments: int | None, top_k: int
) -> nn.Module:
    """Module from logits (N, S, K) and features (N, S, D) to logits (N, K).

    Args:
        name: which; all but linear take any number of segments.
        num_features: D, for attention.
        num_segments: S, for linear only.
        top_k: how many segments of each class count, for top_k.

    Raises:
        UnknownNameError: `name` is none of the choices.
        InputError: `num_segments` is missing, given in vain or below 1; `top_k` is below 1.

    Source:
        The aggregation functions of Wang et al. 2018 (TSN, journal version), section 3.2.
    """
    check_choice("consensus", name, ConsensusName)
    if (name == "linear") != (num_segments is not None):
        raise InputError(
            f"num_segments belongs to consensus='linear' and only there, got "
            f"consensus={name!r}, num_segments={num_segments}."
        )
    check_least(1, top_k=top_k)
    if num_segments is not None:
        check_least(1, num_segments=num_segments)
        return Linear(num_segments=num_segments)
    if name == "attention":
        return Attention(num_features=num_features)
    if name == "top_k":
        return TopK(k=top_k)
    return Maximum() if name == "max" else Average()
