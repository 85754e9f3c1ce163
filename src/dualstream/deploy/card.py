"""Card of an exported file: all that is needed to feed it and to read its answers, as JSON.

    format      "dualstream-export-1"
    version     of the package that wrote it
    labels      "one" class a video, whose probabilities are the softmax of the logits, or
                "several", whose are the sigmoids; files that do not say are of one
    classes     names, in the order of logits and probabilities
    fusion      how the networks' probabilities become one, as fusion.json has it
    runtime     "onnxruntime" or "openvino", which the graph is written for; files that do not say
                are for the first
    networks    for each: its name, the network it is, the name of the input of each of its streams,
                the name of its logits, and `clip`, the `ClipSpec` that says how clips are read

Inputs are bytes (N, C, T, H, W), N of any size: RGB as decoded, flow as `flow.quantize` makes it.
A network that joins the segments of a video takes (N, S, C, T, H, W), S as `segments` says. What
follows the bytes, the scale and mean that `clip` names, is part of the graph.

An ONNX file holds the card in its metadata under the key `KEY`, a torch.export file in the file
`KEY`.json. Reading it needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dualstream.errors import DualstreamError, ExportError, check_choice
from dualstream.flow.methods.lookup import params_from_values
from dualstream.flow.methods.params import FlowParams
from dualstream.scores import Fusion
from dualstream.types import ClipSpec, Labels, StreamSpec
from dualstream.version import __version__

OnnxRuntime = Literal["onnxruntime", "openvino"]
"""What runs ONNX files."""

FORMAT = "dualstream-export-1"
KEY = "dualstream"

EXPORT_AGAIN = "Export the run again with `dualstream export`."


@dataclass(frozen=True, eq=False)
class NetworkCard:
    """One network of a file: what it sees, and where its logits come out."""

    name: str
    model: str
    """Name in `MODELS`."""
    spec: ClipSpec
    inputs: Mapping[str, str]
    """Stream -> name of the file's input."""
    logits: str
    """Name of the file's output."""
    segments: int | None = None
    """S of (N, S, C, T, H, W); None where each snippet is a sample, (N, C, T, H, W)."""
    flow_params: Mapping[str, FlowParams] = field(default_factory=dict)
    """Stream -> settings of its flow method; the defaults of the method where there are none."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Input -> shape of one sample, (C, T, H, W) or (S, C, T, H, W)."""
        side = self.spec.crop_size
        before = () if self.segments is None else (self.segments,)
        return {
            name: (*before, stream.channels, stream.steps, side, side)
            for name, stream in ((self.inputs[s], spec) for s, spec in self.spec.streams.items())
        }


@dataclass(frozen=True, eq=False)
class Card:
    """What an exported file says of itself; see the head of this module."""

    networks: tuple[NetworkCard, ...]
    classes: tuple[str, ...]
    fusion: Fusion
    labels: Labels = "one"
    """Whether a video has one of the classes, or several."""
    precision: str = "float32"
    """Of weights and activations: float32 or int8."""
    runtime: OnnxRuntime = "onnxruntime"
    """What the graph of an ONNX file is written for."""
    version: str = __version__

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Input -> shape of one sample, of all networks."""
        return {name: shape for one in self.networks for name, shape in one.shapes().items()}

    def outputs(self) -> tuple[str, ...]:
        """Names of all outputs: the logits of each network, and the fused probabilities."""
        return (*(network.logits for network in self.networks), "probabilities")

    def to_json(self) -> str:
        """Return the card as text, to be read by `from_json`."""
        networks = [
            {
                "name": network.name,
                "model": network.model,
                "inputs": dict(network.inputs),
                "logits": network.logits,
                "segments": network.segments,
                "clip": asdict(network.spec),
                "flow_params": {s: asdict(params) for s, params in network.flow_params.items()},
            }
            for network in self.networks
        ]
        return json.dumps(
            {
                "format": FORMAT,
                "version": self.version,
                "precision": self.precision,
                "runtime": self.runtime,
                "labels": self.labels,
                "classes": self.classes,
                "fusion": self.fusion.values(),
                "networks": networks,
            }
        )

    @classmethod
    def from_json(cls, text: str | None, *, path: str) -> Card:
        """Return the card that `to_json` wrote.

        Args:
            text: of the file's metadata; None where there are none.
            path: of the file, for messages.

        Raises:
            ExportError: there is no card, or it is cut off, incomplete or of another version.
        """
        if not text:
            raise ExportError(
                f"{path} does not say what it is: its metadata have no entry {KEY!r}. It was not "
                f"written by dualstream, or a tool has dropped them. {EXPORT_AGAIN}"
            )
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ExportError(
                f"{path}: its metadata are cut off ({error}). {EXPORT_AGAIN}"
            ) from None
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            writer = content.get("version") if isinstance(content, dict) else None
            raise ExportError(
                f"{path} has the format {found!r} of dualstream {writer or '?'}; this version "
                f"({__version__}) reads {FORMAT!r}. {EXPORT_AGAIN}"
            )
        try:
            check_choice("labels", labels := content.get("labels", "one"), Labels)
            check_choice("runtime", runtime := content.get("runtime", "onnxruntime"), OnnxRuntime)
            return cls(
                networks=tuple(_network(values) for values in content["networks"]),
                classes=tuple(content["classes"]),
                fusion=Fusion.from_values(content["fusion"], where=path),
                labels=labels,
                precision=content["precision"],
                runtime=runtime,
                version=content["version"],
            )
        except KeyError as error:
            raise ExportError(f"{path}: its metadata lack {error}. {EXPORT_AGAIN}") from error
        except (AttributeError, TypeError, ValueError, DualstreamError) as error:
            raise ExportError(
                f"{path}: its metadata are broken ({error}). {EXPORT_AGAIN}"
            ) from error


def _network(values: Mapping[str, Any]) -> NetworkCard:
    clip = dict(values["clip"])
    streams = {name: StreamSpec(**stream) for name, stream in clip.pop("streams").items()}
    settings = {
        name: params_from_values(streams[name].flow_method, params)
        for name, params in values["flow_params"].items()
    }
    return NetworkCard(
        name=values["name"],
        model=values["model"],
        spec=ClipSpec(streams, **clip),
        inputs=dict(values["inputs"]),
        logits=values["logits"],
        segments=values["segments"],
        flow_params={name: params for name, params in settings.items() if params is not None},
    )


def check_names(card: Card, inputs: Sequence[str], outputs: Sequence[str], *, path: str) -> None:
    """Raise ExportError unless a file has the inputs and outputs that its card names."""
    wanted = {"input": (card.shapes(), inputs), "output": (card.outputs(), outputs)}
    for kind, (named, there) in wanted.items():
        if missing := [name for name in named if name not in there]:
            raise ExportError(
                f"{path} has no {kind} {missing[0]!r}, which its metadata name; there are: "
                f"{', '.join(there)}. {EXPORT_AGAIN}"
            )
