"""Explanation: where, and when, each stream of networks looked, over the windows of a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualstream.clips.transforms import Normalizer
from dualstream.engine.infer.placing import Places, places_of, put_back
from dualstream.engine.infer.recognizer import Recognizer
from dualstream.engine.infer.scoring import Scoring
from dualstream.engine.infer.sensitivity import Sensitivity, sensitivity
from dualstream.engine.infer.window_clips import WindowClips
from dualstream.errors import InputError, UnknownNameError
from dualstream.flow import flow_to_rgb
from dualstream.flow.quantize import dequantize
from dualstream.models.grad_cam import (
    feature_maps,
    grad_cam,
    last_maps,
    no_such_layer,
    scaled,
    tower_prefix,
)
from dualstream.models.joined.cross_attention import CrossAttention
from dualstream.models.network import Network
from dualstream.report.attention import Look
from dualstream.types import Clip, StreamSpec, top_classes
from dualstream.video.source import FrameSource

SEEN = "attention network"
"""In place of a layer: the map that a network makes itself, without a label."""

Maps = dict[str, NDArray[np.float32]]
"""Layer -> maps (V, T, H, W) in 0..1."""


@dataclass(frozen=True, eq=False)
class ExplainedStream:
    """What a stream of a network saw in a window of a video, and where and when it looked."""

    spec: StreamSpec
    data: NDArray[np.uint8]
    """(V, C, T, H, W) bytes of V snippets, one more step for rgb_diff."""
    places: Places
    """Where they come from."""
    seconds: Mapping[int, float]
    """Frame number -> its time, of all frames of `places`."""
    maps: Maps
    """In the coordinates of the crop. Of Grad-CAM the maximum over the window is 1, so that moments
    can be compared; 0 everywhere where nothing speaks for the class."""
    probability: float
    """Of the class, by this stream's network before fusion."""
    sensitivity: Sensitivity
    """Of that probability."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """Pictures (V, T, H, W, 3) RGB of what it saw; flow is drawn in colours."""
        return pictures(self.data, self.spec)

    def over_frames(self, layer: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Frame numbers (F,) and maps (F, H, W) over whole frames; see `put_back`."""
        return put_back(self.maps[layer], self.places)


@dataclass(frozen=True, eq=False)
class ExplainedWindow:
    """Where and when the streams of all networks looked in a window of a video."""

    start_seconds: float
    end_seconds: float
    label: str
    """The class that the maps speak for."""
    probability: float
    """Of the class, by all networks together."""
    top: Sequence[tuple[str, float]]
    """The five most probable classes, best first."""
    streams: Mapping[str, ExplainedStream]
    """Name of the stream, or `network/stream` where there are several networks."""
    one_network: bool
    """Whether all streams are of one network, which then saw the same places."""

    def looks(self, *, cross: bool = False) -> list[list[Look]]:
        """Rows of pictures for `report.attention`: of each snippet, a row a stream.

        A row shows the middle step of what the stream saw, and with each of its maps over it; a map
        of Grad-CAM is divided by its maximum.

        Args:
            cross: lay the maps of the other stream over it.

        Raises:
            InputError: `cross`, and there are not two streams of one network.
        """
        streams = list(self.streams)
        if cross and not (self.one_network and len(streams) == 2):
            raise InputError(
                "The maps of the other stream need one network of two streams, such as two_stream "
                f"or cross_attention; these are {', '.join(streams)}."
            )
        images = {name: stream.images for name, stream in self.streams.items()}
        shown = {
            name: {
                layer: maps if layer == SEEN else scaled(torch.from_numpy(maps)).numpy()
                for layer, maps in stream.maps.items()
            }
            for name, stream in self.streams.items()
        }
        rows = []
        for snippet in range(len(images[streams[0]])):
            for stream, other in zip(streams, reversed(streams) if cross else streams, strict=True):
                steps = images[stream][snippet]
                image = steps[len(steps) // 2]
                row = [Look(stream, image)]
                for layer, maps in shown[other].items():
                    found = maps[snippet]
                    row.append(Look(f"{other}: {layer}", image, found[len(found) // 2]))
                rows.append(row)
        return rows


class Explainer:
    """Explains the windows of one video; layers are looked for in the first.

    Arguments and errors are those of `Predictor.explain`.
    """

    def __init__(
        self, scoring: Scoring, layers: Sequence[str], label: str | None, pieces: int
    ) -> None:
        if label is not None and label not in scoring.classes:
            raise UnknownNameError("class", label, scoring.classes)
        if scoring.cropping.num_views > 1:
            raise InputError(
                f"Explanations are of one view of each snippet, the centre; got "
                f"crops={scoring.cropping.kind!r}. Leave crops out."
            )
        scoring.check_networks_only("be explained")
        networks = [one for one in scoring.recognizers if isinstance(one, Recognizer)]
        if len(networks) < len(scoring.recognizers):
            raise InputError("An exported file has no layers to look into: give the run folder.")
        self._scoring = scoring
        self._networks = networks
        self._alone = [Scoring(one, cropping=scoring.cropping) for one in networks]
        self._layers = tuple(dict.fromkeys(layers))
        self._label = label
        self._pieces = pieces
        self._chosen: dict[tuple[str, str], tuple[str, ...]] = {}

    def explained(self, window: WindowClips, frames: FrameSource) -> ExplainedWindow:
        """Explain one window of the frames."""
        scoring = self._scoring
        if not self._chosen:
            self._choose(window.clips)
        tables = scoring.scores(window.clips)  # (networks, K)
        fused = scoring.fuse(tables[:, None])[0]
        classes = scoring.classes
        row = int(fused.argmax()) if self._label is None else classes.index(self._label)
        several = len(self._networks) > 1
        streams: dict[str, ExplainedStream] = {}
        for place, recognizer in enumerate(self._networks):
            maps = self._maps(recognizer, window.clips[place], row)
            for stream in recognizer.spec.streams:
                name = f"{recognizer.name}/{stream}" if several else stream
                streams[name] = self._stream(
                    window, frames, place, stream, maps[stream], row, float(tables[place, row])
                )
        return ExplainedWindow(
            window.start_seconds,
            window.end_seconds,
            classes[row],
            float(fused[row]),
            top_classes(fused, classes, 5),
            streams,
            one_network=not several,
        )

    def _stream(
        self,
        window: WindowClips,
        frames: FrameSource,
        place: int,
        stream: str,
        maps: Maps,
        row: int,
        probability: float,
    ) -> ExplainedStream:
        """Stream of the network at a place: its maps, its sensitivity, where both belong."""
        recognizer, clip = self._networks[place], window.clips[place]
        spec, alone = recognizer.spec, self._alone[place]
        places = places_of(
            window.plans[place], spec.streams[stream], spec.beyond_end, size=frames.size
        )
        numbers = np.unique(places.frames).tolist()
        seconds = dict(zip(numbers, frames.seconds_of(numbers).tolist(), strict=True))
        found = sensitivity(
            lambda one: float(alone.scores([one])[0, row]),
            clip,
            whole=probability,
            stream=stream,
            frames=places.frames,
            seconds=seconds,
            end_seconds=window.end_seconds,
            directions=places.directions,
            pieces=self._pieces,
        )
        data = clip.data[stream].numpy()
        return ExplainedStream(
            spec.streams[stream], data, places, seconds, maps, probability, found
        )

    def _choose(self, clips: Sequence[Clip]) -> None:
        """Choose the layers of each network and stream, from the shapes of its clips."""
        known: dict[str, None] = {}
        for recognizer, clip in zip(self._networks, clips, strict=True):
            model, x = recognizer.model, _one_sample(recognizer, clip)
            for stream in recognizer.spec.streams:
                within = tower_prefix(model, stream)
                if model.exchanges_maps:  # its towers run several times for a video
                    there = list(feature_maps(model.tower_of(stream), x[stream]))
                else:
                    found = feature_maps(model, x, within=within)
                    there = [name.removeprefix(within) for name in found]
                known |= dict.fromkeys(there)
                chosen = tuple(layer for layer in self._layers if layer in there)
                if not chosen and not model.exchanges_maps:
                    chosen = last_maps(model, x, within=within)
                    chosen = tuple(name.removeprefix(within) for name in chosen)
                self._chosen[recognizer.name, stream] = chosen
        names = ", ".join(dict.fromkeys(one.model.name for one in self._networks))
        for layer in self._layers:
            if layer not in known:
                self._chosen.clear()
                raise no_such_layer(names, layer, known)

    def _maps(self, recognizer: Recognizer, clip: Clip, row: int) -> dict[str, Maps]:
        """Stream -> its maps, of one network."""
        model, x = recognizer.model, _one_sample(recognizer, clip)
        labels = torch.tensor([row], device=next(model.parameters()).device)
        found: dict[str, Maps] = {}
        for stream, clips in x.items():
            layers = self._chosen[recognizer.name, stream]
            if model.exchanges_maps:
                of_layers = _exchanged(model, x, layers, labels, stream)
            else:
                within = tower_prefix(model, stream)
                of_layers = {
                    layer: _of_network(model, x, within + layer, labels, stream) for layer in layers
                }
            found[stream] = {
                layer: maps[0].expand(-1, clips.shape[-3], -1, -1).cpu().numpy()
                for layer, maps in of_layers.items()
            }
        return found


def _one_sample(recognizer: Recognizer, clip: Clip) -> dict[str, Tensor]:
    """Stream -> (1, V, C, T, H, W), the snippets as the segments of one sample."""
    device = next(recognizer.model.parameters()).device
    return Normalizer(recognizer.spec)({s: v[None].to(device) for s, v in clip.data.items()})


def _of_network(
    model: Network, x: dict[str, Tensor], layer: str, labels: Tensor, stream: str
) -> Tensor:
    """(1, V, T, H, W) by Grad-CAM of the whole network, over its maximum.

    Snippets that do not see each other are run one by one, which bounds memory.
    """
    count = x[stream].shape[1]
    at_once = count if model.joins_segments else 1
    parts = [
        grad_cam(
            model,
            {name: clips[:, first : first + at_once] for name, clips in x.items()},
            layers=[layer],
            labels=labels,
            stream=stream,
            scale=False,
        )
        for first in range(0, count, at_once)
    ]
    return scaled(torch.cat(parts, dim=1))


def _exchanged(
    model: Network, clips: dict[str, Tensor], layers: Sequence[str], labels: Tensor, stream: str
) -> dict[str, Tensor]:
    """Layer -> (1, V, 1, H, W) of a tower that sees the other's map, and `SEEN`."""
    assert isinstance(model, CrossAttention)
    with torch.no_grad():
        seen = model.eval().attend(clips).seen
    found = {SEEN: seen[model.other(stream)]}
    for layer in layers or model.targets:
        found[layer] = model.grad_cam(clips, seen, labels=labels, stream=stream, layers=[layer])
    return {layer: maps[:, :, None] for layer, maps in found.items()}


def pictures(data: NDArray[np.uint8], stream: StreamSpec) -> NDArray[np.uint8]:
    """What a stream saw, as (V, T, H, W, 3) RGB.

    Args:
        data: (V, C, T, H, W) bytes of a `Clip`.
        stream: its input. Of RGB differences the later frame is shown.
    """
    steps = np.moveaxis(data, 1, 2)  # (V, T, C, H, W)
    if stream.is_flow:
        return flow_to_rgb(dequantize(steps, bound_px=stream.flow_bound_px))
    return np.moveaxis(steps, 2, -1)[:, steps.shape[1] - stream.num_frames :]
