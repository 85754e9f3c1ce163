"""Training of one stream: recipe and manifest in, run folder out; resumes bit for bit."""

from __future__ import annotations

import hashlib
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from dualstream.clips.manifest import Manifest, folder_of_manifest
from dualstream.engine.checkpoint import (
    RunInfo,
    build_model,
    git_commit,
    read_run,
    save_metrics,
    start_run,
    starting_run,
)
from dualstream.engine.data import RunData
from dualstream.engine.datasets import videos_of
from dualstream.engine.devices import check_device
from dualstream.engine.frozen import FrozenData, FrozenModule, Told, check_frozen
from dualstream.engine.recipe import Recipe
from dualstream.engine.run_folder import Listener, RunFolder, TrainProgress, WholeFileCheckpointIO
from dualstream.engine.stream_module import StreamModule
from dualstream.errors import CheckpointError, InputError
from dualstream.flow import FlowStore
from dualstream.models.network import set_trainable


@dataclass(frozen=True)
class TrainResult:
    """What a finished run reached."""

    run: Path
    epochs: int
    train_loss: float
    train_top1: float
    held_out_top1: float | None
    """Of the saved weights, 0..1; None without held-out videos."""
    seconds: float
    """Of this call; a resumed run counts only what it did."""


def train(
    recipe: Recipe,
    manifest_folder: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    flow_store: str | os.PathLike[str] | None = None,
    backward_store: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    listener: Listener | None = None,
) -> TrainResult:
    """Train a network into a new run folder.

    Args:
        recipe: see `load_recipe`.
        manifest_folder: what `dualstream prepare` wrote.
        run: folder to create.
        flow_store: root of the flow store; default is `flow` beside the manifest.
        backward_store: root of the backward flow; default is `flow_backward` beside it.
        limit: batches an epoch is cut to, for trials.
        listener: called after every batch and epoch.

    Raises:
        InputError: `run` holds a run already.
        AnnotationError, FlowStoreError, VideoError: the data cannot be read.
    """
    opened = open_run(
        recipe,
        manifest_folder,
        run,
        flow_store=flow_store,
        backward_store=backward_store,
        limit=limit,
    )
    return fit(opened, _classify, listener=listener)


def resume(run: str | os.PathLike[str], *, listener: Listener | None = None) -> TrainResult:
    """Go on with a run that was stopped; the result is that of an unbroken run, bit for bit.

    Raises:
        CheckpointError: not a run folder, or its manifest has changed since.
    """
    opened = reopen_run(run)
    if opened.info.teacher is not None:
        raise CheckpointError(
            f"{run} is a run of `dualstream transfer`: go on with "
            f"`dualstream transfer --resume {run}`."
        )
    return fit(opened, _classify, listener=listener)


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A run folder whose training can start or go on."""

    folder: Path
    recipe: Recipe
    manifest: Manifest
    info: RunInfo
    is_new: bool
    """Whether the folder is still to be made."""

    @property
    def state(self) -> Path:
        """What training goes on from; missing until the first epoch has ended."""
        return self.folder / "trainer.ckpt"


def open_run(
    recipe: Recipe,
    manifest_folder: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    flow_store: str | os.PathLike[str] | None = None,
    backward_store: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    teacher: str | None = None,
) -> OpenRun:
    """A new run, see `train`; `fit` makes its folder.

    Args:
        teacher: network that supervision is transferred from.
    """
    folder, source = Path(run).absolute(), folder_of_manifest(manifest_folder)
    if _is_first_process() and (folder / "recipe.yaml").exists():
        raise InputError(
            f"{folder} holds a run already. Go on with `dualstream "
            f"{'train' if teacher is None else 'transfer'} --resume {run}`, or choose another "
            "folder."
        )
    manifest = Manifest.read(source)
    _check_recipe(recipe, manifest)
    store = _store_root(recipe, flow_store, source / "flow")
    flow_params = None
    if store is not None:
        recipe, flow_params = _with_flow_of(store, recipe, manifest)
    info = RunInfo(
        manifest=str(source),
        manifest_sha256=_manifest_hash(source),
        flow_store=store,
        flow_params=flow_params,
        backward_store=(
            _store_root(recipe, backward_store, source / "flow_backward")
            if recipe.input.stacking == "bidirectional"
            else None
        ),
        git_commit=git_commit(),
        seed=recipe.train.seed,
        limit=limit,
        teacher=teacher,
    )
    return OpenRun(folder, recipe, manifest, info, is_new=True)


def _check_recipe(recipe: Recipe, manifest: Manifest) -> None:
    """Raise what making the network, or its device, would raise."""
    starting_run(recipe)
    with torch.device("meta"):
        model = build_model(recipe, len(manifest.classes), with_weights=False)
        set_trainable(model, recipe.model.trainable)
        spec = recipe.input.spec()
        model.check((1, spec.channels, spec.num_frames, spec.crop_size, spec.crop_size))
    if recipe.data.frozen_views:
        check_frozen(model, recipe)
    if recipe.train.accelerator == "gpu":
        check_device("cuda")


def reopen_run(run: str | os.PathLike[str]) -> OpenRun:
    """A run folder that training goes on in; see `resume`."""
    folder = Path(run).absolute()
    recipe, classes, info = read_run(folder)
    if _manifest_hash(Path(info.manifest)) != info.manifest_sha256:
        raise CheckpointError(
            f"{info.manifest}/manifest.csv has changed since {folder} was started. Put the old "
            "one back, or start a new run."
        )
    manifest = Manifest.read(Path(info.manifest))
    if manifest.classes != classes:
        raise CheckpointError(f"{folder}/classes.txt differs from the classes of {info.manifest}.")
    return OpenRun(folder, recipe, manifest, info, is_new=False)


Task = Callable[[OpenRun, Told], tuple[StreamModule, RunData]]
"""From a run to what is trained and on what; the second argument is told of what comes before."""


def _classify(run: OpenRun, told: Told) -> tuple[StreamModule, RunData]:
    """Ordinary training: the network of the recipe learns the classes."""
    recipe, is_frozen = run.recipe, run.recipe.data.frozen_views > 0
    # The weights of frozen stages tell which of their results are kept.
    with_weights = is_frozen or not run.state.is_file()
    model = build_model(recipe, len(run.manifest.classes), with_weights=with_weights)
    set_trainable(model, recipe.model.trainable)
    if is_frozen:
        chain = check_frozen(model, recipe)
        frozen = FrozenData(recipe, run.manifest, run.info, model=chain, told=told)
        return FrozenModule(recipe, chain, steps_per_epoch=frozen.steps_per_epoch), frozen
    data = RunData(recipe, run.manifest, run.info)
    return StreamModule(recipe, model, steps_per_epoch=data.steps_per_epoch), data


def fit(run: OpenRun, task: Task, *, listener: Listener | None = None) -> TrainResult:
    """Train to the last epoch, from the run's state where there is one."""
    started = time.monotonic()
    folder, recipe, info = run.folder, run.recipe, run.info
    torch.manual_seed(recipe.train.seed)

    def told(done: int, total: int) -> None:
        if listener is not None:
            listener(TrainProgress(0, recipe.train.epochs, done, total, phase="frozen stages"))

    module, data = task(run, told)
    # Only now: what cannot even start leaves no folder behind.
    if run.is_new and _is_first_process():
        start_run(folder, recipe, run.manifest.classes, info)
    keeper = RunFolder(folder, recipe, listener, batches=data.batches_per_epoch)
    settings = recipe.train
    with _quiet_lightning():
        trainer = pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy=settings.strategy,
            precision=settings.precision,
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip_norm,
            limit_train_batches=info.limit,
            limit_val_batches=1.0 if recipe.data.hold_out else 0,
            check_val_every_n_epoch=settings.validate_every,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            deterministic="warn",
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=TensorBoardLogger(folder, name="tensorboard", version=""),
            log_every_n_steps=max(1, min(50, data.batches_per_epoch)),
            callbacks=[keeper],
            plugins=[WholeFileCheckpointIO()],
        )
        try:
            trainer.fit(
                module,
                data,
                ckpt_path=str(run.state) if run.state.is_file() else None,
                weights_only=True,
            )
        except SystemExit as stop:  # what lightning makes of Ctrl-C
            raise KeyboardInterrupt from stop
    last = keeper.rows[-1]
    result = TrainResult(
        run=folder,
        epochs=int(last["epoch"]),
        train_loss=last["train_loss"],
        train_top1=last["train_top1"],
        held_out_top1=keeper.saved_top1,
        seconds=time.monotonic() - started,
    )
    if trainer.is_global_zero:
        save_metrics(
            folder,
            {
                "epochs": result.epochs,
                "train_loss": result.train_loss,
                "train_top1": result.train_top1,
                "held_out_top1": result.held_out_top1,
            },
        )
    return result


def _store_root(recipe: Recipe, given: str | os.PathLike[str] | None, default: Path) -> str | None:
    if recipe.input.modality != "flow":
        return None
    return str(Path(given).absolute() if given else default)


def _with_flow_of(
    store: str, recipe: Recipe, manifest: Manifest
) -> tuple[Recipe, dict[str, Any] | None]:
    """What prediction must know to compute flow as the store's was: size and settings.

    Flow is in pixels of the grid that it was computed on, so a network trained on flow of
    240-line videos must see other videos at 240 lines too.
    """
    first = videos_of(manifest, recipe, "train").records[0]
    with FlowStore(store).open(first.path) as file:
        meta = file.meta
    if recipe.input.flow_short_side is None:
        sides = [min(record.height, record.width) for record in manifest.records]
        side = meta.short_side or int(statistics.median_low(sides))
        changed = recipe.input.model_copy(update={"flow_short_side": side})
        recipe = recipe.model_copy(update={"input": changed})
    return recipe, (meta.params if meta.method == recipe.input.flow_method else None)


def _is_first_process() -> bool:
    """False in the further processes that lightning or torchrun started for DDP."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _manifest_hash(folder: Path) -> str:
    path = folder / "manifest.csv"
    if not path.is_file():
        raise CheckpointError(f"There is no {path}. `dualstream prepare` writes it.")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep lightning's advice (workers, cards, tips) off the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
