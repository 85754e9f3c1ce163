"""Training: `fit` runs a task, recipe and manifest in, run folder out; it resumes bit for bit.

A task makes the module and the data of a run. `train` and `resume` are the task of classification;
supervision transfer is another (`engine.train.transfer`).
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from dualstream.clips.data.manifest import MANIFEST_FILE, Manifest, folder_of_manifest
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import (
    build_model,
    check_device,
    check_losses,
    check_streams,
    starting_run,
)
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
from dualstream.engine.train.frozen import FrozenData, FrozenModule, check_frozen
from dualstream.engine.train.module import RunData, TrainingModule, usable_videos
from dualstream.engine.train.motion import MotionModule
from dualstream.engine.train.run_folder import Listener, RunFolder, WholeFileCheckpointIO
from dualstream.errors import CheckpointError, DiskError, InputError, SharedMemoryError
from dualstream.files import file_sha256
from dualstream.flow import FlowStore
from dualstream.jobs import keep_freed_memory
from dualstream.models.network import set_trainable

Verb = Literal["train", "transfer"]
"""Command that starts and resumes a run."""


@dataclass(frozen=True)
class TrainResult:
    """Result of a finished run."""

    run: Path
    epochs: int
    train_loss: float
    train_top1: float
    held_out_top1: float | None
    """Of the saved weights, 0..1; None without held-out videos."""
    seconds: float
    """Of this call; a resumed run counts only what it did."""
    measure: str = "top-1"
    """What is called top-1 here; of training without labels something else."""


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A run folder whose training can start or go on."""

    folder: Path
    recipe: Recipe
    manifest: Manifest
    info: RunInfo
    is_new: bool
    """Whether the folder is still to be made."""

    @property
    def state(self) -> Path:
        """File that training goes on from; missing until the first epoch has ended."""
        return self.folder / "trainer.ckpt"


Task = Callable[[TrainingRun, Listener | None], tuple[TrainingModule, RunData]]
"""Kind of training: from a run to the module that is trained and its data.

Called once before training. Weights that the run's state holds need not be loaded where it has one.
The listener may be told of work that comes before the first epoch.
"""


class RunOptions(TypedDict, total=False):
    """Keyword arguments of `train` and `open_run`."""

    flow: FlowFolders | None
    """Root of the flow store, or stream -> its root; the default is `flow` beside the manifest, and
    for a stream of another name the folder named like it."""
    backward_flow: FlowFolders | None
    """The same for backward flow; the default is that folder's name and `_backward`."""
    limit: int | None
    """Batches an epoch is cut to, for trials."""


def train(
    recipe: Recipe,
    manifest_folder: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    listener: Listener | None = None,
    **options: Unpack[RunOptions],
) -> TrainResult:
    """Train the network of a recipe to tell classes apart, into a new run folder.

    Where a stream reads flow, videos of one frame are left out, and a warning in the log names
    them.

    Args:
        recipe: see `load_recipe`.
        manifest_folder: folder that `dualstream prepare` wrote.
        run: folder to create.
        listener: called after every batch and epoch.
        options: see `RunOptions`.

    Raises:
        InputError: `run` holds a run already.
        RecipeError: the network and the recipe do not fit together.
        DivergedError: the loss or the weights are no finite numbers any more.
        AnnotationError, FlowStoreError, VideoError: the data cannot be read.
    """
    opened = open_run(recipe, manifest_folder, run, **options)
    return fit(opened, classify, listener=listener)


def resume(run: str | os.PathLike[str], *, listener: Listener | None = None) -> TrainResult:
    """Go on with a run that was stopped; the result is that of an unbroken run, bit for bit.

    Raises:
        CheckpointError: not a run folder of `train`, or its manifest has changed since.
    """
    return fit(reopen_run(run, verb="train"), classify, listener=listener)


def classify(run: TrainingRun, listener: Listener | None) -> tuple[TrainingModule, RunData]:
    """Task of `train`: the network of the recipe learns the classes."""
    recipe, is_frozen = run.recipe, run.recipe.data.frozen_views > 0
    # The weights of frozen stages tell which of their results are kept.
    with_weights = is_frozen or not run.state.is_file()
    model = build_model(recipe, len(run.manifest.classes), with_weights=with_weights)
    set_trainable(model, recipe.model.trainable)
    if is_frozen:
        data = FrozenData(recipe, run.manifest, run.info, model=model, listener=listener)
        return FrozenModule(recipe, model), data
    if "motion" in recipe.train.losses:
        return MotionModule(recipe, model), RunData(recipe, run.manifest, run.info)
    return TrainingModule(recipe, model), RunData(recipe, run.manifest, run.info)


def open_run(
    recipe: Recipe,
    manifest_folder: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    teacher: str | None = None,
    **options: Unpack[RunOptions],
) -> TrainingRun:
    """Describe a new run; `fit` makes its folder.

    Arguments and errors are those of `train`; `teacher` is the network that supervision is
    transferred from.
    """
    folder, source = Path(run).absolute(), folder_of_manifest(manifest_folder)
    if _is_first_process() and (folder / "recipe.yaml").exists():
        raise InputError(
            f"{folder} holds a run already. Go on with `dualstream {_verb_of(teacher)} --resume "
            f"{run}`, or choose another folder."
        )
    manifest = Manifest.read(source)
    _check_recipe(recipe, manifest)
    default = {}
    for name in recipe.flow_streams():  # unless it is said, beside the manifest
        flow = str(source / (name if (source / name).is_dir() else "flow"))
        is_both = recipe.inputs[name].stacking == "bidirectional"
        default[name] = FlowOrigin(flow, f"{flow}_backward" if is_both else None)
    origins = flow_origins(
        default, forward=options.get("flow"), backward=options.get("backward_flow")
    )
    for name in origins:
        recipe, origins[name] = _with_flow_of(name, origins[name], recipe, manifest)
    info = RunInfo(
        manifest=str(source),
        manifest_sha256=file_sha256(source / MANIFEST_FILE),
        flow=origins,
        git_commit=git_commit(),
        seed=recipe.train.seed,
        limit=options.get("limit"),
        teacher=teacher,
    )
    return TrainingRun(folder, recipe, manifest, info, is_new=True)


def reopen_run(run: str | os.PathLike[str], *, verb: Verb) -> TrainingRun:
    """A run folder that training goes on in.

    Args:
        verb: kind of run that it must be.

    Raises:
        CheckpointError: not a run folder of that kind, or its manifest has changed since.
    """
    folder = Path(run).absolute()
    recipe, classes, info = read_run(folder)
    if (found := _verb_of(info.teacher)) != verb:
        raise CheckpointError(
            f"{run} is a run of `dualstream {found}`, not of `dualstream {verb}`: go on with "
            f"`dualstream {found} --resume {run}`."
        )
    path = Path(info.manifest, MANIFEST_FILE)
    if not path.is_file() or file_sha256(path) != info.manifest_sha256:
        raise CheckpointError(
            f"{path} has {'changed' if path.is_file() else 'gone'} since {folder} was started. Put "
            "the old one back, or start a new run."
        )
    manifest = Manifest.read(Path(info.manifest))
    if manifest.classes != classes:
        raise CheckpointError(f"{folder}/classes.txt differs from the classes of {info.manifest}.")
    return TrainingRun(folder, recipe, manifest, info, is_new=False)


def fit(run: TrainingRun, task: Task, *, listener: Listener | None = None) -> TrainResult:
    """Train to the last epoch, from the run's state where there is one.

    After every epoch the run folder holds the state, weights and log of it. What is drawn at
    random depends on the recipe's seed, the epoch and the batch only, so that a run that was
    stopped anywhere ends as an unbroken one does. Errors are those of `train`.

    Args:
        run: of `open_run` or `reopen_run`.
        task: kind of training.
        listener: called after every batch and epoch.
    """
    started = time.monotonic()
    keep_freed_memory()
    torch.manual_seed(run.recipe.train.seed)
    module, data = task(run, listener)
    # Only now: what cannot even start leaves no folder behind.
    if run.is_new and _is_first_process():
        _check_room(run.folder, module)
        start_run(run.folder, run.recipe, run.manifest.classes, run.info)
    keeper = RunFolder(run.folder, run.recipe, listener, batches=data.batches_per_epoch)
    with _quiet_lightning():
        trainer = _trainer(run, keeper)
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
                (run.folder / "recipe.yaml").unlink(missing_ok=True)
            raise
    last = keeper.rows[-1]
    metrics: dict[str, Any] = {
        "epochs": int(last["epoch"]),
        "train_loss": last["train_loss"],
        "train_top1": last["train_top1"],
        "held_out_top1": keeper.saved_top1,
    }
    if trainer.is_global_zero:
        save_metrics(run.folder, metrics)
    seconds = time.monotonic() - started
    return TrainResult(run.folder, **metrics, seconds=seconds, measure=module.measure)


def _trainer(run: TrainingRun, keeper: RunFolder) -> pl.Trainer:
    settings = run.recipe.train
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=settings.strategy,
        precision=settings.precision,
        max_epochs=settings.epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip_norm,
        limit_train_batches=run.info.limit,
        limit_val_batches=1.0 if run.recipe.data.hold_out else 0,
        check_val_every_n_epoch=settings.validate_every,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic="warn",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=TensorBoardLogger(run.folder, name="tensorboard", version=""),
        log_every_n_steps=max(1, min(50, keeper.batches)),
        callbacks=[keeper],
        plugins=[WholeFileCheckpointIO()],
    )


def _check_recipe(recipe: Recipe, manifest: Manifest) -> None:
    """Raise what making the network, or its device, would raise."""
    starting_run(recipe)
    with torch.device("meta"):
        model = build_model(recipe, len(manifest.classes), with_weights=False)
        set_trainable(model, recipe.model.trainable)
        check_streams(model, recipe.clip_spec())
        check_losses(model, recipe)
    if recipe.data.frozen_views:
        check_frozen(model, recipe)
    if recipe.train.accelerator == "gpu":
        check_device("cuda")


def _check_room(folder: Path, module: TrainingModule) -> None:
    """Raise DiskError now where the files of the first epoch would not fit on the disk.

    They are the weights, and the state: all tensors, and the moments of what is trained.
    """
    moments = 2 if module.recipe.train.optimizer.name == "adamw" else 1
    needed = sum(p.nbytes for p in module.saved_model.parameters())
    needed += sum(p.nbytes * (1 + moments * p.requires_grad) for p in module.parameters())
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
    first = usable_videos(manifest, recipe, "train").records[0]
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


def _verb_of(teacher: str | None) -> Verb:
    return "train" if teacher is None else "transfer"


def _is_first_process() -> bool:
    """False in the further processes that lightning or torchrun started for DDP."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep lightning's advice (workers, cards, tips) off the user's terminal."""
    with ExitStack() as restored:
        restored.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        for name in ("lightning.pytorch", "lightning.fabric"):
            logger = logging.getLogger(name)
            restored.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
