"""Training of a `PairRecipe`: the streams one after the other, their scores, the fusion, the page.

RUN/pair.yaml           the resolved recipe
RUN/pair.json           manifest, flow stores and limit that it was started with
RUN/NAME/               run folder of a stream (see `engine.run.info`); in it scores.npz of the test
                        videos, and scores_held_out.npz, which the fusion is fitted on
RUN/NAME/fold_1/ ...    run folders of the networks that each score one fold of the training videos
RUN/scores.npz, fusion.json, report.html    the result, as `fuse_runs` writes it
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from dualstream.clips.data.manifest import MANIFEST_FILE, folder_of_manifest
from dualstream.engine.datasets import Part, videos_of
from dualstream.engine.infer.evaluate import evaluate
from dualstream.engine.infer.fuse_runs import HELD_OUT_SCORES, TEST_SCORES, FusedRuns, fuse_runs
from dualstream.engine.pair_recipe import PAIR_FILE, PairRecipe, load_pair
from dualstream.engine.recipe import Recipe, dump_recipe
from dualstream.engine.run.info import FlowFolders, read_metrics
from dualstream.engine.train.fit import classify, fit
from dualstream.engine.train.opening import RunOptions, TrainingRun, open_run, reopen_run
from dualstream.engine.train.run_folder import TrainProgress
from dualstream.engine.train.stored_flow import check_flow
from dualstream.errors import CheckpointError, InputError
from dualstream.files import file_sha256, read_json, write_text
from dualstream.scores import FITTED_METHODS, read_scores, write_scores
from dualstream.types import Scores

PairListener = Callable[[str, TrainProgress], None]
"""Told of every batch, epoch and scored video, and what it is part of: "train rgb", "test rgb",
"hold out rgb", "train rgb, fold 2 of 5"."""


@dataclass(frozen=True, eq=False)
class PairResult:
    """Result of the training of a `PairRecipe`."""

    run: Path
    fused: FusedRuns
    """Streams, fusion, accuracies and files."""
    failures: Mapping[str, str]
    """Video -> why a stream could not score it, of this call."""
    seconds: float
    """Of this call; one that goes on with an earlier one counts only what it did."""


def train_pair(
    recipe: PairRecipe,
    manifest_folder: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    listener: PairListener = lambda *_: None,
    **options: Unpack[RunOptions],
) -> PairResult:
    """Train a network for each stream, score them, fit the fusion, and write results and page.

    Where the fusion learns, it learns from training videos whose scores come from networks that
    have not seen them; the test videos are only measured. What an earlier call with the same
    arguments has finished is kept, and what it began goes on, bit for bit.

    Args:
        recipe: see `load_pair`.
        manifest_folder: folder that `dualstream prepare` wrote.
        run: folder to create, or to go on with.
        listener: told how the work proceeds.
        options: see `RunOptions`; stores of flow are for the streams that read flow.

    Raises:
        InputError: `run` holds another training.
        FlowStoreError: videos lack flow; names the command that makes it. Nothing is trained yet.
        DualstreamError: those of `train` and `evaluate`.
    """
    started = time.monotonic()
    folder, source = Path(run).absolute(), folder_of_manifest(manifest_folder)
    _check_options(recipe, options)
    work = _Work(listener, options)
    origin = _origin(source, options)
    _check_same(folder, recipe, origin)
    runs = {name: work.open(one, source, folder / name) for name, one in recipe.streams.items()}
    for opened in runs.values():
        videos_of(opened.manifest, opened.recipe, "test")  # raises where it is empty
        for stream, stored in opened.info.flow.items():
            check_flow(opened.recipe, opened.manifest, source, stream, stored, side="test")
        for fold in _fold_recipes(opened.recipe, recipe.fusion.folds):
            videos_of(opened.manifest, fold, "held_out")
    # Only now: what cannot even start leaves no folder behind.
    write_text(folder / "pair.json", json.dumps(origin, indent=2) + "\n")
    write_text(folder / PAIR_FILE, dump_recipe(recipe))
    for name, opened in runs.items():
        work.train(opened, f"train {name}")
        if recipe.fusion.folds:
            work.score_folds(opened, recipe.fusion.folds, name)
        elif recipe.fusion.method in FITTED_METHODS:
            work.score(opened, "held_out", f"hold out {name}")
        work.score(opened, "test", f"test {name}")
    fused = fuse_runs(
        [opened.folder for opened in runs.values()],
        method=recipe.fusion.method,
        out=folder,
        report=folder / "report.html",
        data=source,
        title=recipe.title,
        facts=_facts(recipe, source),
        common=True,
    )
    return PairResult(folder, fused, work.failures, time.monotonic() - started)


def resume_pair(
    run: str | os.PathLike[str], *, listener: PairListener = lambda *_: None
) -> PairResult:
    """Go on with a stopped training of `train_pair`; the result is that of an unbroken one.

    Raises:
        CheckpointError: not a folder of `train_pair`, or its manifest has changed since.
    """
    folder = Path(run)
    recipe, origin = read_pair(folder), _read_origin(folder)
    path = Path(origin["manifest"], MANIFEST_FILE)
    if not path.is_file() or file_sha256(path) != origin["manifest_sha256"]:
        raise CheckpointError(
            f"{path} has {'changed' if path.is_file() else 'gone'} since {folder} was started. Put "
            "the old one back, or start a new run."
        )
    flow, backward, limit = (origin.get(name) for name in ("flow", "backward_flow", "limit"))
    return train_pair(
        recipe,
        path.parent,
        folder,
        listener=listener,
        flow=flow,
        backward_flow=backward,
        limit=limit,
    )


def read_pair(folder: Path) -> PairRecipe:
    """Return the recipe of a folder of `train_pair`; its streams' runs are called like them.

    Raises:
        CheckpointError: the folder is none.
        RecipeError: its recipe is broken.
    """
    if not (folder / PAIR_FILE).is_file():
        raise CheckpointError(
            f"{folder} holds no training of several streams: {PAIR_FILE} is missing."
        )
    return load_pair(folder / PAIR_FILE)


@dataclass(eq=False)
class _Work:
    """Steps of a training, each of which does nothing where it is done."""

    listener: PairListener
    options: RunOptions
    failures: dict[str, str] = field(default_factory=dict)

    def open(self, recipe: Recipe, source: Path, folder: Path) -> TrainingRun:
        """A run that is there, or a new one."""
        if (folder / "recipe.yaml").exists():
            return reopen_run(folder, verb="train")
        options = self.options.copy()
        for key in ("flow", "backward_flow"):
            if isinstance(given := options.get(key), Mapping):
                own = {name: given[name] for name in recipe.flow_streams() if name in given}
                options[key] = own
        return open_run(recipe, source, folder, **options)

    def train(self, run: TrainingRun, stage: str) -> None:
        """Train to the end."""
        if "epochs" not in read_metrics(run.folder):
            fit(run, classify, listener=partial(self.listener, stage))

    def score(self, run: TrainingRun, part: Part, stage: str) -> None:
        """Write the scores of a part of the videos into the run folder."""
        name = TEST_SCORES if part == "test" else HELD_OUT_SCORES
        if (run.folder / name).is_file():
            return
        settings = run.recipe.train
        on_gpu = settings.accelerator != "cpu" and torch.cuda.is_available()

        def tell(done: int, total: int) -> None:
            self.listener(stage, TrainProgress(0, 1, done, total, phase="test"))

        result = evaluate(
            run.folder,
            part=part,
            workers=run.recipe.data.workers,
            device="cuda" if on_gpu else "cpu",
            listener=tell,
        )
        self.failures |= result.failures

    def score_folds(self, run: TrainingRun, folds: int, stream: str) -> None:
        """Write scores of the training videos, each by a network that was trained without it."""
        target = run.folder / HELD_OUT_SCORES
        if target.is_file():
            return
        parts = []
        for number, recipe in enumerate(_fold_recipes(run.recipe, folds), start=1):
            folder = run.folder / f"fold_{number}"
            opened = self.open(recipe, Path(run.info.manifest), folder)
            self.train(opened, f"train {stream}, fold {number} of {folds}")
            self.score(opened, "held_out", f"hold out {stream}, fold {number} of {folds}")
            (folder / "trainer.ckpt").unlink(missing_ok=True)  # large, and of no further use
            parts.append(read_scores(folder / HELD_OUT_SCORES))
        write_scores(target, _joined(parts))


def _fold_recipes(recipe: Recipe, folds: int) -> list[Recipe]:
    """The recipe of the network that is trained without a fold, for each fold."""
    return [
        recipe.model_copy(
            update={"data": recipe.data.model_copy(update={"folds": folds, "fold": number})}
        )
        for number in range(1, folds + 1)
    ]


def _joined(parts: Sequence[Scores]) -> Scores:
    """Scores of different videos by networks of the same classes, one after the other."""
    return Scores(
        tuple(name for part in parts for name in part.names),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.scores for part in parts]),
        parts[0].classes,
        parts[0].kind,
    )


def _origin(source: Path, options: RunOptions) -> dict[str, Any]:
    """What pair.json says."""

    def absolute(given: FlowFolders | None) -> Any:
        if isinstance(given, Mapping):
            return {name: str(Path(path).absolute()) for name, path in given.items()}
        return None if given is None else str(Path(given).absolute())

    return {
        "manifest": str(source),
        "manifest_sha256": file_sha256(source / MANIFEST_FILE),
        "flow": absolute(options.get("flow")),
        "backward_flow": absolute(options.get("backward_flow")),
        "limit": options.get("limit"),
    }


def _read_origin(folder: Path) -> dict[str, Any]:
    origin = read_json(folder / "pair.json", error=CheckpointError)
    if not isinstance(origin, dict) or not {"manifest", "manifest_sha256"} <= origin.keys():
        raise CheckpointError(f"{folder / 'pair.json'} lacks the manifest. Start a new run.")
    return origin


def _check_options(recipe: PairRecipe, options: RunOptions) -> None:
    """Raise InputError for a store of flow of a stream that there is not, or further data."""
    if options.get("also"):
        raise InputError(
            "Several data sets (`also`, --also) are for the recipe of one network: train the "
            "streams one by one and join them with `dualstream fuse`."
        )
    known = {name for one in recipe.streams.values() for name in one.flow_streams()}
    for given in (options.get("flow"), options.get("backward_flow")):
        if isinstance(given, Mapping) and (unknown := sorted(given.keys() - known)):
            raise InputError(
                f"A flow store is given, but no stream reads flow called {unknown[0]!r}; there "
                f"are: {', '.join(sorted(known)) or 'none'}."
            )


def _check_same(folder: Path, recipe: PairRecipe, origin: dict[str, Any]) -> None:
    """Raise InputError where the folder holds another training than this one."""
    if (folder / "recipe.yaml").exists():
        raise InputError(f"{folder} holds the run of one network. Choose another folder.")
    if not (folder / PAIR_FILE).is_file():
        return
    found = _read_origin(folder)
    differing = [name for name in origin if found.get(name) != origin[name]]
    if read_pair(folder) != recipe:
        differing.append("recipe")
    if differing:
        raise InputError(
            f"{folder} holds a training already, with another {', '.join(differing)}. Go on with "
            f"`dualstream train --resume {folder}`, or choose another folder."
        )


def _facts(recipe: PairRecipe, source: Path) -> dict[str, str]:
    """What the page says of the run."""
    fitted_on = "nothing"
    if recipe.fusion.method in FITTED_METHODS:
        share = next(iter(recipe.streams.values())).data.hold_out
        fitted_on = (
            f"out-of-fold scores of the training videos, {recipe.fusion.folds} folds"
            if recipe.fusion.folds
            else f"training videos that no network was trained on ({100 * share:g} %)"
        )
    return {
        "fusion is fitted on": fitted_on,
        "networks": ", ".join(f"{n}: {r.title}" for n, r in recipe.streams.items()),
        "settings": recipe.source,
        "data": str(source),
        "seeds": ", ".join(f"{n}: {r.train.seed}" for n, r in recipe.streams.items()),
    }
