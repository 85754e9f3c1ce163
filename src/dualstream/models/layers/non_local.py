"""Non-local blocks (Wang et al. 2018): every place of a clip looks at every other one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import nn

from dualstream.errors import InputError, UnknownNameError, check_choice
from dualstream.models.network import NetworkOptions

NonLocalKind = Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"]

Places = Mapping[str, Sequence[int]]
"""Name of a stage -> indices of the blocks in it that get a non-local block after them."""


class NonLocalOptions(NetworkOptions, total=False):
    """Options of networks that can have non-local blocks."""

    non_local: Places | None
    """For instance {"res3": [1, 3], "res4": [1, 3, 5]}; a stage that the network does not have is
    an error that names its stages."""
    non_local_kind: NonLocalKind
    """Way of comparing two places; see `NonLocalBlock`."""


class NonLocalBlock(nn.Module):
    """x + norm(projection(attention over all places)); the identity until it is trained.

    Query, key and value are 1x1x1 convolutions to half the channels. Keys and values may be
    max-pooled by 2 in height and width, which leaves the result's size as it is.

    Args:
        channels: C, at least 2.
        kind: how two places are compared: softmax of q k (embedded Gaussian), softmax of x x
            (Gaussian), q k / n, or ReLU(w [q, k]) / n over n keys.
        subsample: pool keys and values.

    Raises:
        InputError: fewer than two channels.
        UnknownNameError: `kind` is none of its choices.

    Source:
        Wang et al. 2018, sections 3.2, 3.3 and 4.1 (the batch norm after the projection starts
        with a gain of zero). Products are not divided by the root of the channels, which the
        authors' code does and the paper's equations do not.
    """

    def __init__(
        self,
        channels: int,
        *,
        kind: NonLocalKind = "embedded_gaussian",
        subsample: bool = True,
    ) -> None:
        super().__init__()
        check_choice("kind of non-local block", kind, NonLocalKind)
        if channels < 2:
            raise InputError(f"A non-local block needs at least 2 channels, got {channels}.")
        self.kind = kind
        inner = channels // 2
        if kind != "gaussian":
            self.query = nn.Conv3d(channels, inner, 1)
            self.key = nn.Conv3d(channels, inner, 1)
        self.value = nn.Conv3d(channels, inner, 1)
        if kind == "concatenation":
            self.compare = nn.Conv1d(2 * inner, 1, 1, bias=False)
        self.pool = nn.MaxPool3d((1, 2, 2)) if subsample else nn.Identity()
        self.projection = nn.Conv3d(inner, channels, 1)
        self.norm = nn.BatchNorm3d(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Conv1d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> the same shape."""
        seen = self.pool(x) if min(x.shape[-2:]) > 1 else x
        value = self.value(seen).flatten(2).transpose(1, 2)  # (N, n, C/2)
        weights = self._weights(x, seen)  # (N, T*H*W, n)
        gathered = (weights @ value).transpose(1, 2)  # (N, C/2, T*H*W)
        gathered = gathered.reshape(x.shape[0], -1, *x.shape[2:])  # (N, C/2, T, H, W)
        y: torch.Tensor = x + self.norm(self.projection(gathered))
        return y

    def _weights(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Weight of each key for each place: (N, T*H*W, n)."""
        if self.kind == "gaussian":
            return (x.flatten(2).transpose(1, 2) @ seen.flatten(2)).softmax(dim=2)
        query: torch.Tensor = self.query(x).flatten(2)  # (N, C/2, T*H*W)
        key: torch.Tensor = self.key(seen).flatten(2)  # (N, C/2, n)
        if self.kind == "concatenation":
            # w [q, k] is w_q q + w_k k, so that no pair has to be written out.
            of_query, of_key = self.compare.weight.squeeze(2).chunk(2, dim=1)  # (1, C/2) each
            sums = (of_query @ query).transpose(1, 2) + of_key @ key  # (N, T*H*W, n)
            return sums.relu() / key.shape[2]
        products = query.transpose(1, 2) @ key  # (N, T*H*W, n)
        return products / key.shape[2] if self.kind == "dot_product" else products.softmax(dim=2)


def add_non_local(
    stages: Mapping[str, nn.Sequential], places: Places | None, *, kind: NonLocalKind
) -> None:
    """Put non-local blocks after chosen blocks of a network.

    Args:
        stages: name -> its blocks. Each has `out_channels`, and ends its forward pass with its
            `non_local`, which is an identity so far (and so adds no name to the state dict).
        places: the reference puts five into a ResNet-50, after every second block:
            {"res3": [1, 3], "res4": [1, 3, 5]}. None or {} changes nothing.

    Raises:
        UnknownNameError: there is no such stage.
        InputError: the stage has no block of that index.
    """
    check_choice("kind of non-local block", kind, NonLocalKind)
    for name, indices in (places or {}).items():
        if name not in stages:
            raise UnknownNameError("stage for non-local blocks", name, tuple(stages))
        for index in indices:
            if not 0 <= index < len(stages[name]):
                raise InputError(
                    f"Stage {name} has blocks 0..{len(stages[name]) - 1}, no {index} to put a "
                    "non-local block after."
                )
            block = stages[name][index]
            block.non_local = NonLocalBlock(cast("int", block.out_channels), kind=kind)
