"""Networks as one module from bytes to logits and fused probabilities, and its trace."""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dualstream.clips.transforms import normalize
from dualstream.deploy.card import Card, NetworkCard, OnnxRuntime
from dualstream.deploy.flatten import flatten_convolutions
from dualstream.engine.infer.recognizer import Recognizer
from dualstream.errors import ExportError
from dualstream.scores import Fusion
from dualstream.scores.views import SMALLEST_PROBABILITY
from dualstream.types import Labels

TRACED_SAMPLES = 2
"""N of the clips that a network is traced with; torch takes 1 for a constant."""


class Graph(nn.Module):
    """Networks with what stands before and after them: bytes in, logits and probabilities out.

    The networks are copies on the CPU, in evaluation mode and single precision.

    Args:
        networks: those of the card, in its order.
        card: of the file.
        flat: write 3D convolutions as 2D ones (see `flatten`).
    """

    def __init__(self, networks: Sequence[nn.Module], card: Card, *, flat: bool = False) -> None:
        super().__init__()
        self.card = card
        self.networks = nn.ModuleList(
            copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
            for network in networks
        )
        if flat:
            for network in self.networks:
                flatten_convolutions(network)
        self.fusion = FusionLayer(card.fusion, num_classes=len(card.classes), labels=card.labels)

    def forward(self, clips: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits of each network and fused probabilities, (N, K) each.

        Args:
            clips: input -> bytes (N, C, T, H, W), or (N, S, C, T, H, W) where the network joins
                segments.
        """
        logits = {
            part.logits: network(
                {
                    stream: normalize(clips[name], part.spec.streams[stream])
                    for stream, name in part.inputs.items()
                }
            )
            for network, part in zip(self.networks, self.card.networks, strict=True)
        }
        return {**logits, "probabilities": self.fusion(list(logits.values()))}

    def random_clips(self, samples: int, *, seed: int) -> dict[str, Tensor]:
        """Input -> random bytes of so many samples."""
        generator = torch.Generator().manual_seed(seed)
        return {
            name: torch.randint(0, 256, (samples, *shape), dtype=torch.uint8, generator=generator)
            for name, shape in self.card.shapes().items()
        }


class FusionLayer(nn.Module):
    """`Fusion.apply` of one sample each, on tensors.

    Args:
        fusion: of the networks.
        num_classes: K.
        labels: "one" takes the softmax of logits, "several" their sigmoids.
    """

    coefficients: Tensor
    intercepts: Tensor
    places: Tensor
    """(R, K) 1 where row R is class K."""
    unfitted: Tensor
    """(K,) 1 for the classes that no row is for."""

    def __init__(self, fusion: Fusion, *, num_classes: int, labels: Labels = "one") -> None:
        super().__init__()
        self.labels = labels
        self.method = fusion.method
        self.exponents = tuple(
            weight / temperature
            for weight, temperature in zip(fusion.weights, fusion.temperatures, strict=False)
        )
        self.weights = fusion.weights or (1 / fusion.num_streams,) * fusion.num_streams
        if (classifier := fusion.classifier) is not None:
            rows = torch.from_numpy(classifier.fitted_classes)
            places = nn.functional.one_hot(rows, num_classes).float()  # (R, K)
            self.register_buffer("coefficients", torch.from_numpy(classifier.coefficients).float())
            self.register_buffer("intercepts", torch.from_numpy(classifier.intercepts).float())
            self.register_buffer("places", places)
            self.register_buffer("unfitted", 1 - places.sum(dim=0))

    def forward(self, logits: Sequence[Tensor]) -> Tensor:
        """Logits (N, K) of each network -> fused probabilities (N, K)."""
        if self.labels == "several":
            return self._independent(torch.stack(list(logits)))
        shares = torch.stack([values.softmax(dim=1) for values in logits])  # (networks, N, K)
        if self.method in ("svm", "logistic"):
            return self._classified(shares)
        if self.method == "max":
            largest = shares.amax(dim=0)
            return largest / largest.sum(dim=1, keepdim=True).clamp_min(SMALLEST_PROBABILITY)
        if self.method == "product" or self.exponents:
            logs = torch.stack([values.log_softmax(dim=1) for values in logits])
            logs = logs.clamp_min(math.log(SMALLEST_PROBABILITY))
            weighted = self._sum(logs, self.exponents or self.weights)
            return weighted.softmax(dim=1)
        return self._sum(shares, self.weights)

    def _independent(self, logits: Tensor) -> Tensor:
        """(networks, N, K) -> (N, K) probabilities of each class by itself."""
        if self.method == "product":
            return logits.mean(dim=0).sigmoid()
        return self._sum(logits.sigmoid(), self.weights)

    def _sum(self, values: Tensor, weights: Sequence[float]) -> Tensor:
        """(networks, N, K) -> (N, K)."""
        return (values * values.new_tensor(weights)[:, None, None]).sum(dim=0)

    def _classified(self, shares: Tensor) -> Tensor:
        """(networks, N, K) -> (N, K); see `LinearClassifier.apply`."""
        lengths = shares.norm(dim=2, keepdim=True)
        features = (shares / lengths).transpose(0, 1).flatten(1)  # (N, networks * K)
        decisions = features @ self.coefficients.T + self.intercepts  # (N, R)
        shared: Tensor
        if self.method == "logistic":
            shared = decisions.softmax(dim=1) @ self.places
            return shared
        lowest = decisions.amin(dim=1, keepdim=True) - 1
        shared = (decisions @ self.places + lowest * self.unfitted).softmax(dim=1)
        return shared


def make_card(
    recognizers: Sequence[Recognizer],
    fusion: Fusion,
    runtime: OnnxRuntime = "onnxruntime",
    *,
    segments: Sequence[int],
) -> Card:
    """Return the card of networks that go into one file.

    Inputs are named like the streams; where two networks have a stream of one name, like network
    and stream. Logits are `logits` of one network, `NAME_logits` of each of several.

    Args:
        recognizers: one network or several, with names that differ.
        fusion: of their probabilities, in this order.
        runtime: what an ONNX file is written for.
        segments: S of each network; counts for those that join segments.
    """
    names = _identifiers([one.name for one in recognizers])
    streams = [stream for one in recognizers for stream in one.spec.streams]
    shared = len(set(streams)) < len(streams)
    networks = tuple(
        NetworkCard(
            name=one.name,
            model=one.model.name,
            spec=one.spec,
            inputs={
                stream: f"{name}_{stream}" if shared else stream for stream in one.spec.streams
            },
            logits=f"{name}_logits" if len(recognizers) > 1 else "logits",
            segments=count if one.model.joins_segments else None,
            flow_params=one.flow_params,
        )
        for one, name, count in zip(recognizers, names, segments, strict=True)
    )
    first = recognizers[0]
    return Card(networks, first.classes, fusion, first.labels, runtime=runtime)


def _identifiers(names: Sequence[str]) -> list[str]:
    """Names of letters, digits and _, still different: rgb, rgb (2) -> rgb, rgb_2."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "network"
        while plain in found:
            plain += "_"
        found.append(plain)
    return found


def trace(graph: Graph) -> torch.export.ExportedProgram:
    """Return the graph as torch.export has it, for any number of samples N.

    Raises:
        ExportError: the network does something that cannot be traced; says what.
    """
    clips = graph.random_clips(TRACED_SAMPLES, seed=0)
    batch = torch.export.Dim("batch", min=1)
    shapes = {"clips": {name: {0: batch} for name in clips}}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(graph, (clips,), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch raises its own, those of Python, and of the network
        names = ", ".join(part.model for part in graph.card.networks)
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"{names} cannot be exported: torch.export says {type(error).__name__}: {reason}"
        ) from error
