"""Two-stream networks: a network a stream, joined by their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from dualstream.errors import InputError, check_choice
from dualstream.models.joined.towers import (
    RGB_AND_FLOW,
    Joined,
    Towers,
    make_towers,
)

Average = Literal["logits", "probabilities"]
"""What is averaged over the streams."""


class TwoStream(Joined):
    """Any networks as towers, one a stream, and the weighted mean of their answers.

    The heads are `fused`, which `forward` gives, and one a stream under the stream's name. With a
    loss on each stream alone (`train.losses: {rgb: 1, flow: 1}`) nothing passes between the towers
    and they learn what they would learn apart; with one on `fused` they learn together.

    Args:
        in_channels: stream -> C of one time step.
        towers: the networks, see `Towers`. Their own consensus joins the segments of each stream.
        length: stream -> T, for towers that fix it (`tsn`, `cnn_m_2048`).
        image_size: H = W, for towers that fix it.
        average: the mean of the logits, as I3D's authors take it, or of the probabilities
            (softmax), as Simonyan & Zisserman do; the fused logits are then the logarithms of
            these means. With probabilities, the test of this network is the mean of the tests of
            its towers.
        stream_weights: stream -> its weight in the mean, above 0 and in any scale; None is alike.

    Raises:
        InputError: see `make_towers`; `stream_weights` of other streams, or not above 0.
        UnknownNameError: a choice, a network or one of its options is unknown.

    Source:
        Simonyan & Zisserman 2014, section 2; Carreira & Zisserman 2017, section 2.3, and
        `evaluate_sample.py` of their release (the sum of both streams' logits).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: Mapping[str, int] = RGB_AND_FLOW,
        towers: Towers = "cnn_m_2048",
        length: Mapping[str, int] | None = None,
        image_size: int | None = None,
        average: Average = "logits",
        stream_weights: Mapping[str, float] | None = None,
    ) -> None:
        check_choice("average", average, Average)
        made = make_towers(
            towers,
            num_classes=num_classes,
            in_channels=in_channels,
            length=length,
            image_size=image_size,
        )
        super().__init__(num_classes=num_classes, towers=made)
        self.heads = ("fused", *made)
        self.average: Average = average
        self.stream_weights = dict(stream_weights or dict.fromkeys(made, 1.0))
        if set(self.stream_weights) != set(made) or min(self.stream_weights.values()) <= 0:
            raise InputError(
                f"stream_weights must give each of {', '.join(made)} a number above 0, got "
                f"{stream_weights}."
            )
        self.apply_freezing()

    def outputs(
        self, x: Tensor | Mapping[str, Tensor], *, absent: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Logits of all streams together, and of each.

        Args:
            x: stream -> (N, C, T, H, W) or (N, S, C, T, H, W).
            absent: stream -> (N,) booleans, true where the fused answer is that of the other
                streams; every stream's own answer stays.

        Returns:
            "fused" and each stream -> (N, K).

        Raises:
            InputError: other streams.
            ShapeError: a tower does not take its stream, or streams differ in N or S.
        """
        streams = self._by_stream(x)
        self.check({stream: clips.shape for stream, clips in streams.items()})
        logits = {stream: tower(streams[stream]) for stream, tower in self.towers().items()}
        return {"fused": self._fused(logits, absent or {}), **logits}

    def _fused(self, logits: Mapping[str, Tensor], absent: Mapping[str, Tensor]) -> Tensor:
        """Weighted mean over the streams that each sample has, (N, K)."""
        stacked = torch.stack([logits[stream] for stream in self.towers()])  # (M, N, K)
        rows = [
            weight * (~absent[stream] if stream in absent else stacked.new_ones(stacked.shape[1]))
            for stream, weight in ((s, self.stream_weights[s]) for s in self.towers())
        ]
        weights = torch.stack(rows).to(stacked.dtype).unsqueeze(2)  # (M, N, 1)
        weights = weights / weights.sum(dim=0)
        if self.average == "logits":
            return (weights * stacked).sum(dim=0)
        groups = torch.split(stacked, list(self.class_groups), dim=2)
        shares = torch.cat([group.log_softmax(dim=2) for group in groups], dim=2)
        return torch.logsumexp(shares + weights.log(), dim=0)


two_stream = TwoStream
"""The name in `MODELS`."""
