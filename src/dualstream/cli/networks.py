"""The networks that a call names, looked at before torch is loaded."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dualstream.cli.options import numbers
from dualstream.cli.output import stderr
from dualstream.errors import InputError

if TYPE_CHECKING:
    from dualstream.deploy.runtime import ExportedNetwork
    from dualstream.engine.infer.recognizer import Model
    from dualstream.models.weights.catalogue import WeightsEntry
    from dualstream.scores import Fusion


@dataclass(frozen=True)
class Networks:
    """Networks of a call, not loaded yet."""

    runs: list[Path]
    """Run folders."""
    entries: list[WeightsEntry]
    """Published weights."""
    exported: list[ExportedNetwork]
    """Networks of an exported file, instead of both."""
    fusion: Fusion | None
    """None is the mean."""

    def load(self, *, device: str) -> list[Model]:
        """Networks of run folders, then those of published weights, fetched if necessary.

        Raises:
            InputError: an exported file on another device than the CPU.
        """
        if self.exported:
            if device != "cpu":
                raise InputError("An exported file runs on the CPU: leave out --device.")
            return list(self.exported)
        from dualstream.engine.infer.recognizer import open_models
        from dualstream.engine.run.info import read_facts

        names = [entry.name for entry in self.entries]
        with stderr().status(f"loading {', '.join(names)}") if names else nullcontext():
            found = open_models(self.runs, names, device=device)
        for run in self.runs:
            _, info = read_facts(run)
            others = [
                str(folder)
                for name, folder in info.head_folders(info.run_folder(run)).items()
                if name != info.head
            ]
            if others:
                stderr().print(
                    f"{run}: head of {info.head}; other heads: {', '.join(others)}",
                    soft_wrap=True,
                    markup=False,
                )
        return list(found)


def choose_networks(
    checkpoint: list[Path] | None,
    weights: list[str] | None,
    *,
    model: Path | None = None,
    stream_weights: str | None = None,
    fusion: Path | None = None,
) -> Networks:
    """Return the networks that the options name; the folder of a pair names its streams.

    Raises:
        InputError: none is named, or a file besides others; the fusion is not of so many streams.
        ExportError: the exported file is missing or broken.
        UnknownNameError: unknown weights.
    """
    from dualstream.deploy.runtime import open_exported
    from dualstream.engine.run.streams import named_streams
    from dualstream.models.weights import weights_entry

    entries = [weights_entry(name) for name in weights or []]
    runs, fitted_with_runs = named_streams(checkpoint or [])
    if fitted_with_runs is not None and entries:
        raise InputError(
            f"{fitted_with_runs.parent} holds all its streams and their fusion: leave out "
            "--weights, or give the run of each stream."
        )
    if stream_weights is None:
        fusion = fusion or fitted_with_runs
    if model is not None and (runs or entries):
        raise InputError(
            "--model is an exported file with all its streams: leave out --checkpoint and "
            "--weights."
        )
    if model is None and not runs and not entries:
        raise InputError(
            "No network was named: give --checkpoint RUN for a stream of your own, --weights NAME "
            "for published weights (`dualstream weights` lists them), or --model FILE of "
            "`dualstream export`."
        )
    exported = open_exported(model) if model is not None else []
    num_streams = len(exported) or len(runs) + len(entries)
    fitted = load_fusion(fusion, stream_weights, num_streams=num_streams)
    if exported and fitted is None:
        fitted = exported[0].file.card.fusion
    return Networks(list(runs), entries, exported, fitted)


def load_fusion(
    fusion: Path | None, stream_weights: str | None, *, num_streams: int
) -> Fusion | None:
    """Return the fitted fusion, or that of the weights of the streams, if one of them is given."""
    from dualstream.scores import Fusion, weighted_fusion

    if fusion is not None and stream_weights is not None:
        raise InputError("Give either --fusion or --stream-weights.")
    if stream_weights is not None:
        parts = numbers(stream_weights, "--stream-weights")
        try:
            return weighted_fusion(parts, num_streams=num_streams)
        except InputError as error:
            raise InputError(f"--stream-weights {stream_weights}: {error}") from error
    if fusion is None:
        return None
    fitted = Fusion.load(fusion)
    if fitted.num_streams != num_streams:
        raise InputError(
            f"--fusion {fusion} joins {fitted.num_streams} streams, this call has "
            f"{num_streams}: give the streams that it was made with, in their order."
        )
    return fitted
