"""torch.export files: written from a trace, read and run by torch without this package's code."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dualstream.deploy.card import EXPORT_AGAIN, KEY, Card
from dualstream.errors import ExportError

CARD_FILE = f"{KEY}.json"
"""Beside the program in the file; `torch.export.load(path, extra_files={CARD_FILE: ""})`."""


class TorchFile:
    """An exported torch.export file, on the CPU.

    Args:
        path: of the file.

    Raises:
        ExportError: the file is missing, broken, of another version, or says not what it is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not Path(path).is_file():
            raise ExportError(f"{self.path}: there is no such file.")
        found = {CARD_FILE: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.export.load(self.path, extra_files=found)
        except Exception as error:  # zipfile's, pickle's, its own
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(
                f"{self.path} cannot be read by torch {torch.__version__}: {reason}. {EXPORT_AGAIN}"
            ) from error
        self.card = Card.from_json(found[CARD_FILE], path=self.path)
        self._module = program.module()

    def run(
        self, clips: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of these names; arguments are those of `OnnxFile.run`."""
        samples = len(next(iter(clips.values())))
        fed = {
            name: torch.from_numpy(clips[name])
            if name in clips
            else torch.zeros((samples, *shape), dtype=torch.uint8)
            for name, shape in self.card.shapes().items()
        }
        with torch.inference_mode():
            values = self._module(fed)
        return {name: values[name].numpy() for name in outputs}


def write_torch(program: torch.export.ExportedProgram, card: Card, path: Path) -> None:
    """Write a trace of `graph.trace` as a torch.export file with its card."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={CARD_FILE: card.to_json()})
