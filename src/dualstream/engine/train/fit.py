"""Training of one stream: recipe and manifest in, run folder out; resumes bit for bit."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from dualstream.clips.data.manifest import Manifest, folder_of_manifest
from dualstream.engine.datasets import videos_of
from dualstream.engine.devices import check_device
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import build_model, check_streams, starting_run
from dualstream.engine.run.info import (
    FlowFolders,
    FlowOrigin,
    RunInfo,
    flow_origins,
    git_commit,
    read_run,
    save_metrics,
    start_run,
)
from dualstream.engine.train.frozen import FrozenData, FrozenModule, VideoListener, check_frozen
from dualstream.engine.train.loaders import RunData
from dualstream.engine.train.module import TrainingModule
from dualstream.engine.train.run_folder import (
    Listener,
    RunFolder,
    TrainProgress,
    WholeFileCheckpointIO,
)
from dualstream.errors import CheckpointError, DiskError, InputError, SharedMemoryError
from dualstream.files import file_sha256
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
    flow: FlowFolders | None = None,
    backward_flow: FlowFolders | None = None,
    limit: int | None = None,
    listener: Listener | None = None,
) -> TrainResult:
    """Train a network into a new run folder.

    Args:
        recipe: see `load_recipe`.
        manifest_folder: what `dualstream prepare` wrote.
        run: folder to create.
        flow: root of the flow store, or stream -> its root; the default is `flow` beside the
            manifest, and for a stream of another name the folder named like it.
        backward_flow: the same for backward flow; the default is that folder's name and
            `_backward`.
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
        flow=flow,
        backward_flow=backward_flow,
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
    flow: FlowFolders | None = None,
    backward_flow: FlowFolders | None = None,
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
    default = {name: _default_origin(recipe, source, name) for name in recipe.flow_streams()}
    origins = flow_origins(default, forward=flow, backward=backward_flow)
    for name in origins:
        recipe, origins[name] = _with_flow_of(name, origins[name], recipe, manifest)
    info = RunInfo(
        manifest=str(source),
        manifest_sha256=_manifest_hash(source),
        flow=origins,
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
        check_streams(model, recipe.clip_spec())
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


Task = Callable[[OpenRun, VideoListener], tuple[TrainingModule, RunData]]
"""From a run to the module that is trained and its data; the listener is told of the videos that
are prepared before training."""


def _classify(run: OpenRun, listener: VideoListener) -> tuple[TrainingModule, RunData]:
    """Ordinary training: the network of the recipe learns the classes."""
    recipe, is_frozen = run.recipe, run.recipe.data.frozen_views > 0
    # The weights of frozen stages tell which of their results are kept.
    with_weights = is_frozen or not run.state.is_file()
    model = build_model(recipe, len(run.manifest.classes), with_weights=with_weights)
    set_trainable(model, recipe.model.trainable)
    if is_frozen:
        chain = check_frozen(model, recipe)
        frozen = FrozenData(recipe, run.manifest, run.info, model=chain, listener=listener)
        return FrozenModule(recipe, chain, steps_per_epoch=frozen.steps_per_epoch), frozen
    data = RunData(recipe, run.manifest, run.info)
    return TrainingModule(recipe, model, steps_per_epoch=data.steps_per_epoch), data


def fit(run: OpenRun, task: Task, *, listener: Listener | None = None) -> TrainResult:
    """Train to the last epoch, from the run's state where there is one."""
    started = time.monotonic()
    folder, recipe, info = run.folder, run.recipe, run.info
    torch.manual_seed(recipe.train.seed)

    def prepared(done: int, total: int) -> None:
        if listener is not None:
            listener(TrainProgress(0, recipe.train.epochs, done, total, phase="frozen stages"))

    module, data = task(run, prepared)
    # Only now: what cannot even start leaves no folder behind.
    if run.is_new and _is_first_process():
        _check_room(folder, module)
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
        except SharedMemoryError:
            if not run.state.is_file():  # its recipe cannot be trained here: leave no run of it
                (folder / "recipe.yaml").unlink(missing_ok=True)
            raise
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


def _default_origin(recipe: Recipe, source: Path, stream: str) -> FlowOrigin:
    """Where the flow of a stream lies unless it is said: beside the manifest."""
    name = stream if (source / stream).is_dir() else "flow"
    is_both = recipe.inputs[stream].stacking == "bidirectional"
    backward = str(source / f"{name}_backward") if is_both else None
    return FlowOrigin(str(source / name), backward)


def _check_room(folder: Path, module: TrainingModule) -> None:
    """Raise DiskError now where the files of the first epoch would not fit on the disk.

    They are the weights, and the state: all tensors, and the moments of what is trained.
    """

    def num_bytes(tensors: Iterable[torch.Tensor]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    moments = 2 if module.recipe.train.optimizer.name == "adamw" else 1
    needed = (
        num_bytes(module.saved_model.parameters())
        + num_bytes(module.parameters())
        + moments * num_bytes(p for p in module.parameters() if p.requires_grad)
    )
    disk = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(disk).free
    if free < needed:
        reason = f"a run needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        raise DiskError(errno.ENOSPC, reason, str(folder))


def _with_flow_of(
    stream: str, origin: FlowOrigin, recipe: Recipe, manifest: Manifest
) -> tuple[Recipe, FlowOrigin]:
    """Add what prediction must know to compute flow as the store's was: size and settings.

    Flow is in pixels of the grid that it was computed on, so a network trained on flow of
    240-line videos must see other videos at 240 lines too.
    """
    first = videos_of(manifest, recipe, "train").records[0]
    with FlowStore(origin.store).open(first.path) as file:
        meta = file.meta
    section = recipe.inputs[stream]
    if section.flow_short_side is None:
        sides = [min(record.height, record.width) for record in manifest.records]
        side = meta.short_side or int(statistics.median_low(sides))
        section = section.model_copy(update={"flow_short_side": side})
        recipe = recipe.model_copy(update={"inputs": {**recipe.inputs, stream: section}})
    params = meta.params if meta.method == section.flow_method else None
    return recipe, replace(origin, params=params)


def _is_first_process() -> bool:
    """False in the further processes that lightning or torchrun started for DDP."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _manifest_hash(folder: Path) -> str:
    path = folder / "manifest.csv"
    if not path.is_file():
        raise CheckpointError(f"There is no {path}. `dualstream prepare` writes it.")
    return file_sha256(path)


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
