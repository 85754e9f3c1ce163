"""Training: `fit` runs a task, recipe and manifest in, run folder out; it resumes bit for bit.

A task makes the module and the data of a run. `train` and `resume` are the task of classification;
supervision transfer is another (`engine.train.transfer`).
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import build_model
from dualstream.engine.run.info import save_metrics, start_run
from dualstream.engine.train.cross_attention import CrossAttentionModule
from dualstream.engine.train.frozen import FrozenData, FrozenModule
from dualstream.engine.train.module import TrainingModule
from dualstream.engine.train.motion import MotionModule
from dualstream.engine.train.multi_task import MultiTaskData, MultiTaskModule, naming
from dualstream.engine.train.opening import (
    RunOptions,
    TrainingRun,
    is_first_process,
    open_run,
    reopen_run,
)
from dualstream.engine.train.run_data import RunData
from dualstream.engine.train.run_folder import Listener, RunFolder, WholeFileCheckpointIO
from dualstream.engine.train.several_labels import SeveralLabelsModule
from dualstream.errors import DiskError, RecipeError, SharedMemoryError
from dualstream.jobs import keep_freed_memory
from dualstream.models.trainable import set_trainable


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
    heads: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Data set -> its train_top1 and held_out_top1, where there are several; the run's are the
    means of these."""


Task = Callable[[TrainingRun, Listener | None], tuple[TrainingModule, RunData]]
"""Kind of training: from a run to the module that is trained and its data.

Called once before training. Weights that the run's state holds need not be loaded where it has one.
The listener may be told of work that comes before the first epoch.
"""


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
    model = build_model(recipe, run.num_classes, with_weights=with_weights)
    set_trainable(model, recipe.model.trainable)
    if run.others:
        if model.exchanges_maps:
            raise RecipeError(
                f"{model.name} learns one data set: its attention maps are of one list of classes. "
                "Give one folder, or set model.name=two_stream."
            )
        model.class_groups = tuple(run.info.heads.values())
        others = []
        for other in run.others:
            with naming(str(other.info.head)):
                others.append(RunData(other.recipe, other.manifest, other.info))
        with naming(str(run.info.head)):
            mixed = MultiTaskData(recipe, run.manifest, run.info, others=others)
        return MultiTaskModule(recipe, model, heads=run.info.heads, sizes=mixed.sizes), mixed
    if is_frozen:
        data = FrozenData(recipe, run.manifest, run.info, model=model, listener=listener)
        return FrozenModule(recipe, model), data
    usual = RunData(recipe, run.manifest, run.info)
    if recipe.train.labels == "several":
        return SeveralLabelsModule(recipe, model), usual
    if model.exchanges_maps:
        return CrossAttentionModule(recipe, model, videos=usual.videos["train"]), usual
    if "motion" in recipe.train.losses:
        return MotionModule(recipe, model), usual
    return TrainingModule(recipe, model), usual


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
    if run.is_new and is_first_process():
        _check_room(run.folder, module)
        for one in (*run.others, run):
            start_run(one.folder, one.recipe, one.manifest.classes, one.info)
    batches = data.batches_per_epoch
    keeper = RunFolder(run.folder, run.recipe, listener, batches=batches, data_sets=run.info.names)
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
    if run.others:
        metrics["heads"] = {
            name: {
                top: keeper.saved_row[column]
                for top in ("train_top1", "held_out_top1")
                if (column := f"{top}_{name}") in keeper.saved_row
            }
            for name in run.info.names
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
        num_nodes=settings.nodes,
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
