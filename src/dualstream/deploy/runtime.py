"""Networks of exported files, as `Predictor` takes them; of ONNX files without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dualstream.deploy.card import Card, NetworkCard
from dualstream.deploy.onnx_file import OnnxFile
from dualstream.engine.infer.recognizer import VIEWS_AT_ONCE, LogitsOf, Views, view_batches
from dualstream.errors import ExportError, InputError
from dualstream.flow.methods.params import FlowParams
from dualstream.types import ClipSpec, Labels


class ExportedFile(Protocol):
    """An exported file in its runtime."""

    card: Card

    def run(
        self, clips: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of these names, see `OnnxFile.run`."""


@dataclass(frozen=True, eq=False)
class ExportedNetwork:
    """One network of an exported file, in place of a `Recognizer`."""

    name: str
    file: ExportedFile
    card: NetworkCard

    @property
    def spec(self) -> ClipSpec:
        """Input."""
        return self.card.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """K class names."""
        return self.file.card.classes

    @property
    def flow_params(self) -> Mapping[str, FlowParams]:
        """Stream -> settings of its flow method."""
        return self.card.flow_params

    @property
    def labels(self) -> Labels:
        """Whether a video has one of the classes, or several."""
        return self.file.card.labels

    @property
    def joins_segments(self) -> bool:
        """Whether it sees the segments of a video together."""
        return self.card.segments is not None

    @property
    def num_segments(self) -> int | None:
        """Segments that it was exported for, where it joins them."""
        return self.card.segments

    def running(self, *, optimize: bool = False) -> LogitsOf:
        """Return the function that runs the network in the file's runtime.

        Raises:
            InputError: `optimize`, which is for networks in torch.
        """
        if optimize:
            raise InputError(
                "--optimize compiles networks of run folders; an exported file runs as it is."
            )
        return self._logits

    def _logits(self, views: Views, segments: int) -> NDArray[np.float32]:
        together = segments if self.joins_segments else None
        longest = max(stream.num_frames for stream in self.spec.streams.values())
        parts = []
        for few in view_batches(views, segments=together, at_once=max(1, VIEWS_AT_ONCE // longest)):
            clips = {
                self.card.inputs[stream]: np.ascontiguousarray(value)
                for stream, value in few.items()
            }
            parts.append(self.file.run(clips, [self.card.logits])[self.card.logits])
        return np.concatenate(parts)


def open_exported(path: str | os.PathLike[str]) -> list[ExportedNetwork]:
    """Return the networks of an exported file; the fusion of several is that of its card.

    Args:
        path: an .onnx file, or a .pt2 file of torch.export, which needs torch.

    Raises:
        ExportError: the file is missing, broken, of another version, or neither of the two.
        MissingDependencyError: ONNX runtime is not installed.
    """
    suffix = Path(path).suffix
    if suffix == ".pt2":
        from dualstream.deploy.torch_file import TorchFile

        file: ExportedFile = TorchFile(path)
    elif suffix == ".onnx":
        file = OnnxFile(path)
    else:
        raise ExportError(f"{os.fspath(path)} is no exported file: those end in .onnx or .pt2.")
    return [ExportedNetwork(card.name, file, card) for card in file.card.networks]
