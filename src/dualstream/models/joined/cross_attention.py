"""Two streams that see each other's attention maps (Park 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dualstream.errors import InputError, ShapeError, check_least
from dualstream.models.grad_cam import grad_cam
from dualstream.models.joined.attention import START, AttentionNetwork, check_targets, map_filter
from dualstream.models.joined.towers import RGB_AND_FLOW, one_input, seen_by
from dualstream.models.joined.two_stream import Average, TwoStream
from dualstream.models.layers.conv import first_convolution
from dualstream.models.network import FrozenBatchNorm, fold_segments

USUAL_SIDE = 224
"""Pixels at which the last layer with a map of several places is looked for."""


@dataclass(frozen=True, eq=False)
class Attended:
    """What the streams made of clips while they attended to each other; S segments of N samples."""

    logits: Mapping[str, Tensor]
    """Stream -> (N, S, K)."""
    seen: Mapping[str, Tensor]
    """Stream -> (N, S, H, W), the map of the other stream that it saw."""
    features: Mapping[str, Sequence[Tensor]]
    """Stream -> (N, S, C_i, H_i, W_i) of its target layers."""


class CrossAttention(TwoStream):
    """Two 2D towers; each sees, as one more channel, where the other one looked.

    The towers are `tsn` over one backbone. The map of the other stream enters by filters of its own
    in the first convolution (`map_filters`), which is the same as a further input channel, so that
    towers start from any weights of `tsn`, published or of a run; these filters start at zero. The
    answer is that of `TwoStream`, and so are its heads.

    While the network is trained (`dualstream train` with `train.attention` in the recipe), maps
    come from Grad-CAM, for which the label is needed. Otherwise `outputs` takes them from attention
    networks, and no label has any part in it. Park leaves open how those maps are had when each
    stream needs the other's before it can run: here the segments of a video pass in their order,
    as the rounds of Algorithm 1 do. The spatial tower sees the map that the temporal one last
    gave, the temporal one the map that the spatial one gave just now; for the first segment the
    temporal tower looks once before, with the constant map. That is one run of a tower more than
    without maps: 51 for 25 frames instead of 50.

    Args:
        in_channels: stream -> C of one time step, of exactly two; the first is the spatial one.
        length: stream -> T, stacked as channels.
        backbone: any name of `timm.list_models()` with feature maps.
        targets: layers of the towers that attention comes from; None is the last with a map, the
            last block of most backbones (`backbone.Mixed_7c` of inception_v3).
        hidden: channels inside the attention networks.
        dropout: of the towers, see `tsn`.
        frozen_batch_norm: of the towers, see `tsn`.
        pretrained: of the towers, see `tsn`.
        average: see `TwoStream`.
        stream_weights: see `TwoStream`.

    Raises:
        InputError: another number of streams, a number out of range, or a backbone without maps.
        UnknownNameError: the backbone, a choice or a target is unknown (lists those there are).
        WeightsError: `pretrained`, and the weights cannot be had.

    Source:
        Park 2019, "Two-stream Networks with Spatio-Temporal Attention for Action Recognition"
        (Seoul National University), chapter 3 and section 4.1: Inception-v3 in both streams.
    """

    exchanges_maps = True

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: Mapping[str, int] = RGB_AND_FLOW,
        length: Mapping[str, int] | None = None,
        backbone: str = "inception_v3",
        targets: Sequence[str] | None = None,
        hidden: int = 128,
        dropout: float = 0.5,
        frozen_batch_norm: FrozenBatchNorm = "none",
        pretrained: bool = False,
        average: Average = "logits",
        stream_weights: Mapping[str, float] | None = None,
    ) -> None:
        check_least(1, hidden=hidden)
        if len(in_channels) != 2:
            raise InputError(
                f"cross_attention is of two streams, got {', '.join(in_channels) or 'none'}: "
                "two_stream takes others."
            )
        tower = {
            "name": "tsn",
            "backbone": backbone,
            "dropout": dropout,
            "frozen_batch_norm": frozen_batch_norm,
            "pretrained": pretrained,
        }
        super().__init__(
            num_classes=num_classes,
            in_channels=in_channels,
            towers=dict.fromkeys(in_channels, tower),
            length=length,
            average=average,
            stream_weights=stream_weights,
        )
        self.spatial, self.temporal = in_channels
        self.map_filters = nn.ModuleDict()
        self.attention = nn.ModuleDict()
        for stream, of_tower in self.towers().items():
            channels = check_targets(targets, of_tower, self._usual_clip(stream))
            self.targets = tuple(channels)
            self.map_filters[stream] = map_filter(of_tower)
            self.attention[stream] = AttentionNetwork(sum(channels.values()), hidden=hidden)
        self.apply_freezing()

    def _usual_clip(self, stream: str) -> Tensor:
        """A clip of one of the towers, of the usual size, on the meta device."""
        accepts = one_input(self.towers()[stream])
        size = accepts.nearest((1, USUAL_SIDE, USUAL_SIDE))
        return torch.empty(1, accepts.channels, *size, device="meta")

    @property
    def joins_segments(self) -> bool:
        """True: a segment sees the map of the one before."""
        return True

    def head(self) -> tuple[nn.Module, ...]:
        """The heads of the towers, the filters of the maps and the attention networks."""
        return (*super().head(), self.map_filters, self.attention)

    def other(self, stream: str) -> str:
        """Name of the other stream."""
        return self.temporal if stream == self.spatial else self.spatial

    def outputs(
        self,
        x: Tensor | Mapping[str, Tensor],
        *,
        absent: Mapping[str, Tensor] | None = None,
        maps: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Logits of both streams together, and of each; no label has any part in it.

        Args:
            x: stream -> (N, C, T, H, W) or (N, S, C, T, H, W).
            absent: see `TwoStream`.
            maps: stream -> its attention maps of these very clips, (N, H, W) or (N, S, H, W) in
                0..1, which the other stream sees; None takes those of the attention networks.

        Returns:
            "fused" and each stream -> (N, K).

        Raises:
            InputError: other streams.
            ShapeError: a tower does not take its stream, streams differ in N, S, H or W, or maps
                are not of these clips.
        """
        streams = self._checked_streams(x)
        found = self._attended(streams) if maps is None else self._with_maps(streams, maps)
        return self.answers(found, absent=absent)

    def answers(
        self, found: Attended, *, absent: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What `outputs` gives, of what `attend` found."""
        logits = {stream: of_segments.mean(dim=1) for stream, of_segments in found.logits.items()}
        return {"fused": self._fused(logits, absent or {}), **logits}

    def attend(self, x: Tensor | Mapping[str, Tensor]) -> Attended:
        """Let the streams attend to each other as `outputs` does, and return all that they saw."""
        return self._attended(self._checked_streams(x))

    def vectors(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Stream -> the vectors that its classifier sees, (N*S, D), N by N.

        The towers run twice: to find the maps of all segments, then on each segment once with them.
        """
        streams = self._checked_streams(x)
        found = self._attended(streams)
        maps = {
            self.other(stream): seen if streams[stream].ndim == 6 else seen[:, 0]
            for stream, seen in found.seen.items()
        }
        return seen_by(self.classifiers(), partial(self.outputs, x, maps=maps))

    def grad_cam(
        self,
        x: Mapping[str, Tensor],
        seen: Mapping[str, Tensor],
        *,
        labels: Tensor,
        stream: str,
        layers: Sequence[str] | None = None,
    ) -> Tensor:
        """Return the attention map of a stream by Grad-CAM, for clips whose label is known.

        Args:
            x: stream -> (N, C, T, H, W) or (N, S, C, T, H, W).
            seen: stream -> (N, H, W) or (N, S, H, W), the other stream's map that it sees.
            labels: (N,).
            stream: whose map.
            layers: of its tower; None are the targets.

        Returns:
            (N, H, W) or (N, S, H, W) in 0..1.

        Raises:
            UnknownNameError: no such layer; lists those there are.
            InputError, ShapeError: as of `grad_cam.grad_cam`, or maps of other clips.
        """
        clips, other = x[stream], self._check_map(x[stream], seen[stream], self.other(stream))
        folded = fold_segments(clips)  # (N*S, C, T, H, W)
        rows = labels.repeat_interleave(len(folded) // len(clips))
        with self._seeing(stream, other.reshape(-1, *other.shape[-2:])):
            maps = grad_cam(
                self.towers()[stream], folded, layers=layers or self.targets, labels=rows
            )
        return maps[:, 0].reshape(other.shape)  # one map for all T

    def constant_maps(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Stream -> maps that are `START` everywhere, (N, H, W) or (N, S, H, W)."""
        return {
            s: clips.new_full((*clips.shape[:-4], *clips.shape[-2:]), START)
            for s, clips in x.items()
        }

    def _checked_streams(self, x: Any) -> dict[str, Tensor]:
        streams: dict[str, Tensor] = self._by_stream(x)
        self.check({stream: clips.shape for stream, clips in streams.items()})
        one, other = (tuple(clips.shape[-2:]) for clips in streams.values())
        if one != other:
            raise ShapeError(
                f"The streams of {self.name} see the same places: clips must have the same H and W,"
                f" got {one[0]} x {one[1]} and {other[0]} x {other[1]}."
            )
        return streams

    def _attended(self, streams: Mapping[str, Tensor]) -> Attended:
        """Both streams, segment by segment; see the class."""
        clips = {s: c if c.ndim == 6 else c[:, None] for s, c in streams.items()}
        start = self.constant_maps({s: c[:, 0] for s, c in clips.items()})
        spatial, temporal = self.spatial, self.temporal
        _, last = self._look(temporal, clips[temporal][:, 0], start[spatial])
        # The maps that one segment hands to the next one.
        map_of = {temporal: self._map_of(temporal, last, streams)}
        rows: dict[str, list[tuple[Tensor, Tensor, list[Tensor]]]] = {spatial: [], temporal: []}
        for segment in range(clips[spatial].shape[1]):
            for stream in (spatial, temporal):
                seen = map_of[self.other(stream)]
                logits, features = self._look(stream, clips[stream][:, segment], seen)
                map_of[stream] = self._map_of(stream, features, streams)
                rows[stream].append((logits, seen, features))
        return _stacked(rows)

    def _map_of(self, stream: str, features: list[Tensor], streams: Mapping[str, Tensor]) -> Tensor:
        height, width = streams[stream].shape[-2:]
        found: Tensor = self.attention[stream](features, (int(height), int(width)))
        return found

    def _with_maps(self, streams: Mapping[str, Tensor], maps: Mapping[str, Tensor]) -> Attended:
        """Both streams with maps that are given, all segments at once."""
        rows = {}
        for stream, clips in streams.items():
            other = self.other(stream)
            if other not in maps:
                raise InputError(f"{self.name} needs the maps of {other}, got {', '.join(maps)}.")
            seen = self._check_map(clips, maps[other], other)
            logits, features = self._look(
                stream, fold_segments(clips), seen.reshape(-1, *seen.shape[-2:])
            )
            rows[stream] = [
                tuple(part.reshape(len(clips), -1, *part.shape[1:]) for part in (logits, *features))
            ]
        return Attended(
            {stream: found[0][0] for stream, found in rows.items()},
            {s: maps[self.other(s)].reshape(len(c), -1, *c.shape[-2:]) for s, c in streams.items()},
            {stream: found[0][1:] for stream, found in rows.items()},
        )

    def _check_map(self, clips: Tensor, given: Tensor, of: str) -> Tensor:
        """Raise unless a map of the stream `of` is one of these clips."""
        wanted = (*clips.shape[:-4], *clips.shape[-2:])
        if given.shape != wanted:
            raise ShapeError(
                f"The attention maps of {of} must be {tuple(wanted)}, a map for each of these "
                f"clips, got {tuple(given.shape)}: they are of other clips."
            )
        return given

    def _look(self, stream: str, clips: Tensor, seen: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (N, K) of a tower that sees a map (N, H, W), and features of the targets."""
        tower, found = self.towers()[stream], {}

        def keep(name: str) -> Any:
            # A copy, as a later layer may change its input in place.
            return lambda _module, _inputs, output: found.update({name: output.clone()})

        hooks = [tower.get_submodule(t).register_forward_hook(keep(t)) for t in self.targets]
        try:
            with self._seeing(stream, seen):
                logits: Tensor = tower(clips)
        finally:
            for hook in hooks:
                hook.remove()
        return logits, [found[target] for target in self.targets]

    @contextmanager
    def _seeing(self, stream: str, seen: Tensor) -> Iterator[None]:
        """Let the first convolution of a tower see a map (N, H, W) besides its clips."""
        filters = self.map_filters[stream]
        _, first = first_convolution(self.towers()[stream])

        def add(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            if output.is_meta and not seen.is_meta:  # only shapes are looked at: as without a map
                return output
            added: Tensor = filters(seen[:, None].to(output.dtype))
            return output + added

        hook = first.register_forward_hook(add)
        try:
            yield
        finally:
            hook.remove()


def _stacked(rows: Mapping[str, list[tuple[Tensor, Tensor, list[Tensor]]]]) -> Attended:
    """Join what the segments gave, one after another."""
    logits, seen, features = {}, {}, {}
    for stream, found in rows.items():
        logits[stream] = torch.stack([one[0] for one in found], dim=1)
        seen[stream] = torch.stack([one[1] for one in found], dim=1)
        layers = zip(*(one[2] for one in found), strict=True)
        features[stream] = [torch.stack(layer, dim=1) for layer in layers]
    return Attended(logits, seen, features)


cross_attention = CrossAttention
"""The name in `MODELS`."""
