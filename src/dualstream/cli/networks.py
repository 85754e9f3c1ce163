"""The networks that a call names, looked at before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dualstream.cli.options import numbers
from dualstream.cli.output import stderr
from dualstream.errors import InputError

if TYPE_CHECKING:
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
    fusion: Fusion | None
    """None is the mean."""

    def load(self, *, device: str) -> list[Model]:
        """Networks of run folders, then those of published weights, fetched if necessary."""
        from dualstream.engine.run.checkpoint import check_device, load_checkpoint
        from dualstream.models import create_model

        place = check_device(device)
        found: list[Model] = []
        for run in self.runs:
            found.append(checkpoint := load_checkpoint(run, device=device))
            others = [
                str(folder)
                for name, folder in checkpoint.info.head_folders(
                    checkpoint.info.run_folder(run)
                ).items()
                if name != checkpoint.info.head
            ]
            if others:
                stderr().print(
                    f"{run}: head of {checkpoint.info.head}; other heads: {', '.join(others)}",
                    soft_wrap=True,
                    markup=False,
                )
        for entry in self.entries:
            with stderr().status(f"loading {entry.name}"):
                found.append(create_model(entry.model, weights=entry.name).to(place))
        return found


def choose_networks(
    checkpoint: list[Path] | None,
    weights: list[str] | None,
    *,
    stream_weights: str | None = None,
    fusion: Path | None = None,
) -> Networks:
    """Return the networks that the options name; the folder of a pair names its streams.

    Raises:
        InputError: none is named, or the fusion is not of so many streams.
        UnknownNameError: unknown weights.
    """
    from dualstream.engine.pair_recipe import PAIR_FILE, load_pair
    from dualstream.models.weights import weights_entry

    runs, entries = checkpoint or [], [weights_entry(name) for name in weights or []]
    if len(runs) == 1 and not entries and (runs[0] / PAIR_FILE).is_file():
        pair, streams = runs[0], load_pair(runs[0] / PAIR_FILE).streams
        runs = [pair / name for name in streams]
        if stream_weights is None:
            fusion = fusion or pair / "fusion.json"
    if not runs and not entries:
        raise InputError(
            "No network was named: give --checkpoint RUN for a stream of your own, or "
            "--weights NAME for published weights (`dualstream weights` lists them)."
        )
    fitted = _fusion(fusion, stream_weights, num_streams=len(runs) + len(entries))
    return Networks(runs, entries, fitted)


def _fusion(fusion: Path | None, stream_weights: str | None, *, num_streams: int) -> Fusion | None:
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
