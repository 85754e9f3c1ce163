"""Run folders: written by training, read by everything else.

RUN/model.safetensors   weights
RUN/recipe.yaml         the resolved recipe
RUN/classes.txt         one class name a line
RUN/run.json            package version, git commit, seed, manifest and flow folders
RUN/metrics.json        loss and accuracies
RUN/trainer.ckpt        optimiser, schedule and averages, for `train --resume`
RUN/log.csv             one row an epoch
RUN/heads/NAME/         of a run on several data sets: a run folder of each further one, without
                        weights of its own; RUN itself is that of the first

What reads these raises CheckpointError where a file is missing or broken.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dualstream.engine.pair_recipe import PAIR_FILE
from dualstream.engine.recipe import Recipe, dump_recipe, load_recipe
from dualstream.engine.recipe_sections import Section
from dualstream.errors import CheckpointError, InputError, RecipeError
from dualstream.files import read_json, read_lines, write_text
from dualstream.version import __version__

HEADS = "heads"
"""Folder inside a run folder."""

COPY_AGAIN = "Copy the file again from its origin, or train again."


@dataclass(frozen=True)
class FlowOrigin:
    """Where the flow of one stream came from."""

    store: str
    """Root of the flow store, absolute."""
    backward_store: str | None = None
    """Root of the store of backward flow, for bi-directional stacking."""
    params: Mapping[str, Any] | None = None
    """Settings of the flow method that the store was written with; None for its defaults."""


@dataclass(frozen=True)
class RunInfo:
    """Where a run came from; written before training starts."""

    manifest: str
    """Folder of the manifest, absolute."""
    manifest_sha256: str
    """Of manifest.csv when the run started."""
    flow: Mapping[str, FlowOrigin] = field(default_factory=dict)
    """Stream -> the origin of its flow, for every stream that reads flow."""
    teacher: str | None = None
    """Network that supervision was transferred from; None for ordinary training."""
    heads: Mapping[str, int] = field(default_factory=dict)
    """Data set -> number of its classes, in the order of the classifier's rows, where the network
    has a head each for several; {} for one."""
    head: str | None = None
    """Data set whose head this folder is of, where there are several."""
    version: str = __version__
    git_commit: str | None = None
    """Commit of the folder that the command ran in, when it is a git checkout."""
    seed: int = 0
    limit: int | None = None
    """Batches an epoch was cut to, for trials."""
    torch_version: str = torch.__version__

    @property
    def names(self) -> tuple[str, ...]:
        """Data sets of the run where there are several, that of the run's own folder first."""
        return tuple(self.heads)

    @property
    def rows(self) -> slice:
        """Rows of the classifier that are this folder's head."""
        if self.head is None:
            return slice(None)
        first = sum(self.heads[name] for name in self.names[: self.names.index(self.head)])
        return slice(first, first + self.heads[self.head])

    def run_folder(self, folder: Path) -> Path:
        """Folder of the whole run, which has the weights, from that of this head."""
        return folder if self.head in (None, *self.names[:1]) else folder.absolute().parents[1]

    def head_folders(self, folder: Path) -> dict[str, Path]:
        """Data set -> folder of its head, from the folder of the whole run; {} for one data set."""
        return {
            name: folder / HEADS / name if place else folder
            for place, name in enumerate(self.names)
        }


FlowFolders = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]
"""The flow store of all streams that read flow, or stream -> its flow store."""


def flow_origins(
    known: Mapping[str, FlowOrigin],
    *,
    forward: FlowFolders | None = None,
    backward: FlowFolders | None = None,
) -> dict[str, FlowOrigin]:
    """Return the origins of all streams, with other stores where they are given.

    Raises:
        InputError: a store is given for a stream that reads no flow.
    """
    origins = dict(known)
    for which, given in (("store", forward), ("backward_store", backward)):
        by_stream = given if isinstance(given, Mapping) else dict.fromkeys(known, given)
        for name, folder in by_stream.items():
            if name not in known:
                raise InputError(
                    f"A flow store is given for the stream {name!r}; the streams that read flow "
                    f"are: {', '.join(known) or 'none'}."
                )
            if folder is not None:
                changed: dict[str, Any] = {which: str(Path(folder).absolute())}
                origins[name] = dataclasses.replace(origins[name], **changed)
    return origins


def start_run(folder: Path, recipe: Section, classes: tuple[str, ...], info: RunInfo) -> None:
    """Write what is known before training: recipe, classes, origin."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    write_text(folder / "run.json", json.dumps(dataclasses.asdict(info), indent=2) + "\n")
    write_text(folder / "recipe.yaml", dump_recipe(recipe))


def save_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Add entries to `metrics.json`; earlier ones of other names stay."""
    text = json.dumps({**read_metrics(folder), **metrics}, indent=2)
    write_text(folder / "metrics.json", text + "\n")


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return the entries of `metrics.json` of a run folder; none where there is no file yet."""
    path = folder / "metrics.json"
    return _read_object(path) if path.is_file() else {}


def read_run(folder: Path) -> tuple[Recipe, tuple[str, ...], RunInfo]:
    """Return recipe, classes and origin of a run folder."""
    classes, info = read_facts(folder)
    try:
        return load_recipe(folder / "recipe.yaml"), classes, info
    except RecipeError as error:
        raise CheckpointError(f"{error} {COPY_AGAIN}") from error


def read_facts(folder: Path) -> tuple[tuple[str, ...], RunInfo]:
    """Return classes and origin of a run folder, whatever its recipe is of."""
    if (folder / PAIR_FILE).is_file():
        runs = ", ".join(sorted(str(path.parent) for path in folder.glob("*/recipe.yaml")))
        raise CheckpointError(
            f"{folder} holds a run for each of several streams: {runs}. Give one."
        )
    for name in ("recipe.yaml", "classes.txt", "run.json"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} is not a run folder: {name} is missing. "
                "`dualstream train` writes run folders."
            )
    classes = tuple(read_lines(folder / "classes.txt", error=CheckpointError, remedy=COPY_AGAIN))
    return classes, _read_info(folder / "run.json")


def _read_object(path: Path) -> dict[str, Any]:
    values = read_json(path, error=CheckpointError, remedy=COPY_AGAIN)
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{path}: it must hold one object with keys, got {type(values).__name__}. {COPY_AGAIN}"
        )
    return values


def _read_info(path: Path) -> RunInfo:
    values = _with_streams(_read_object(path))
    if missing := sorted({"manifest", "manifest_sha256"} - values.keys()):
        raise CheckpointError(f"{path}: it lacks {', '.join(missing)}. {COPY_AGAIN}")
    if unknown := sorted(values.keys() - RunInfo.__dataclass_fields__.keys()):
        raise CheckpointError(
            f"{path} says {', '.join(unknown)}, which this version ({__version__}) does not know. "
            "Use the version of dualstream that wrote it, or train again."
        )
    try:
        origins = {name: FlowOrigin(**origin) for name, origin in values.pop("flow", {}).items()}
    except (AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path}: flow must hold a store for each stream ({error}). {COPY_AGAIN}"
        ) from error
    info = RunInfo(**values, flow=origins)
    counts = info.heads.values() if isinstance(info.heads, dict) else (None,)
    if not all(type(n) is int for n in counts) or info.head not in (info.heads or (None,)):
        raise CheckpointError(
            f"{path}: heads must hold the number of classes of each data set, and head be one of "
            f"them. {COPY_AGAIN}"
        )
    return info


def _with_streams(values: dict[str, Any]) -> dict[str, Any]:
    """Return what version 0.1 wrote, of one stream of flow, as the origin of the stream `flow`."""
    names = {"flow_store": "store", "backward_store": "backward_store", "flow_params": "params"}
    origin = {new: values.get(old) for old, new in names.items()}
    values = {name: value for name, value in values.items() if name not in names}
    return values if origin["store"] is None else {**values, "flow": {"flow": origin}}


def git_commit() -> str | None:
    """Return the commit of the current folder's checkout, None outside of one."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
