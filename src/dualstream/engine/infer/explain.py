"""Explanation: where each stream of a network looked, over the windows of a video."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualstream.clips.transforms import Normalizer
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.infer.recognizer import Model, Recognizer
from dualstream.errors import InputError, UnknownNameError
from dualstream.flow import flow_to_rgb
from dualstream.flow.quantize import dequantize
from dualstream.models.grad_cam import feature_maps, grad_cam
from dualstream.models.joined.cross_attention import CrossAttention
from dualstream.models.network import Network
from dualstream.report.attention import Look
from dualstream.types import Clip, StreamSpec
from dualstream.video import VideoReader

SEEN = "attention network"
"""In place of a layer: the map that a network makes itself, without a label."""

Maps = dict[str, dict[str, NDArray[np.float32]]]
"""Stream -> layer -> maps (V, T, H, W) in 0..1."""


@dataclass(frozen=True, eq=False)
class ExplainedWindow:
    """What the streams of all networks saw in a window of a video, and where each looked."""

    start_seconds: float
    end_seconds: float
    label: str
    """The class that the maps speak for."""
    images: Mapping[str, NDArray[np.uint8]]
    """Stream -> pictures (V, T, H, W, 3) RGB of V snippets; flow is drawn in colours."""
    maps: Maps
    """Of each stream; T is that of its pictures."""
    one_network: bool
    """Whether all streams are of one network, which then saw the same places."""

    def looks(self, *, cross: bool = False) -> list[list[Look]]:
        """Rows of pictures for `report.attention`: of each snippet, a row a stream.

        A row shows the middle step of what the stream saw, and with each of its maps over it.

        Args:
            cross: lay the maps of the other stream over it.

        Raises:
            InputError: `cross`, and there are not two streams of one network.
        """
        streams = list(self.images)
        if cross and not (self.one_network and len(streams) == 2):
            raise InputError(
                "The maps of the other stream need one network of two streams, such as two_stream "
                f"or cross_attention; these are {', '.join(streams)}."
            )
        rows = []
        for snippet in range(len(self.images[streams[0]])):
            for stream, other in zip(streams, reversed(streams) if cross else streams, strict=True):
                images = self.images[stream][snippet]
                image = images[len(images) // 2]
                row = [Look(stream, image)]
                for layer, maps in self.maps[other].items():
                    found = maps[snippet]
                    row.append(Look(f"{other}: {layer}", image, found[len(found) // 2]))
                rows.append(row)
        return rows


def explain(
    source: str | os.PathLike[str],
    models: Model | Sequence[Model],
    *,
    layers: Sequence[str] = (),
    label: str | None = None,
    segments: int | None = None,
    window_seconds: float = 10.0,
) -> list[ExplainedWindow]:
    """Explain by Grad-CAM what networks make of a video, stream by stream.

    Streams of several networks are named `network/stream`. A network whose streams exchange
    attention maps has those too, under the name of `SEEN`.

    Args:
        source: a video file.
        models: as of `Predictor`.
        layers: of every network, as `dualstream inspect` shows them; of one with towers those of
            its towers. Each gets a map. () is the last layer with a map of several places.
        label: class to speak for; None takes the class found for each window.
        segments, window_seconds: see `PredictorOptions`.

    Raises:
        UnknownNameError: no such class or layer (lists those there are).
        InputError: a network without feature maps.
        VideoError: the file cannot be read.
    """
    predictor = Predictor(models, segments=segments, window_seconds=window_seconds)
    classes = predictor.classes
    if label is not None and label not in classes:
        raise UnknownNameError("class", label, classes)
    networks = [one for one in predictor.recognizers if isinstance(one, Recognizer)]
    if len(networks) < len(predictor.recognizers):
        raise InputError("An exported file has no layers to look into: give the run folder.")
    several = len(networks) > 1
    explained = []
    with VideoReader(source) as video:
        windows, _ = predictor.windows(video)
        for window in predictor.clips(video, windows, path=os.fspath(source)):
            fused = predictor.fuse(predictor.scores(window.clips)[:, None])[0]
            found = int(fused.argmax()) if label is None else classes.index(label)
            images: dict[str, NDArray[np.uint8]] = {}
            maps: Maps = {}
            for recognizer, clip in zip(networks, window.clips, strict=True):
                before = f"{recognizer.name}/" if several else ""
                for name, of_stream in _maps_of(recognizer, clip, layers, found).items():
                    maps[before + name] = of_stream
                    images[before + name] = pictures(
                        clip.data[name].numpy(), recognizer.spec.streams[name]
                    )
            explained.append(
                ExplainedWindow(
                    window.start_seconds,
                    window.end_seconds,
                    classes[found],
                    images,
                    maps,
                    one_network=not several,
                )
            )
    return explained


def _maps_of(recognizer: Recognizer, clip: Clip, layers: Sequence[str], label: int) -> Maps:
    """Stream -> layer -> (V, T, H, W) of one network and clip of V snippets."""
    model, device = recognizer.model, next(recognizer.model.parameters()).device
    normalizer = Normalizer(recognizer.spec)
    # One sample of V segments: (V, C, T, H, W) -> (1, V, C, T, H, W)
    x = {s: v[None].to(device) for s, v in clip.data.items()}
    clips = normalizer(x)
    labels = torch.tensor([label], device=device)
    find = _exchanged if model.exchanges_maps else _of_network
    return {
        stream: {
            layer: found[0].expand(-1, clips[stream].shape[-3], -1, -1).cpu().numpy()
            for layer, found in find(model, clips, layers, labels, stream).items()
        }
        for stream in clips
    }


def _of_network(
    model: Network, clips: dict[str, Tensor], layers: Sequence[str], labels: Tensor, stream: str
) -> dict[str, Tensor]:
    """Layer -> (1, V, T, H, W) by Grad-CAM of the whole network."""
    towers = model.towers()
    names = {id(module): name for name, module in model.named_modules()}
    within = f"{names[id(towers[stream])]}." if stream in towers else ""
    chosen = layers or [last_layer(model, clips, within=within)]
    return {
        layer: grad_cam(model, clips, layers=[within + layer], labels=labels, stream=stream)
        for layer in chosen
    }


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


def last_layer(model: Network, clips: Mapping[str, Tensor], *, within: str = "") -> str:
    """Name of the last layer, without `within`, that has a map of several places.

    Raises:
        InputError: there is none.
    """
    known = feature_maps(model, clips, within=within)
    places = [name for name, shape in known.items() if max(shape[2:]) > 1]
    if not places:
        raise InputError(f"{model.name} has no layer with a map of several places to look at.")
    return places[-1].removeprefix(within)


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
