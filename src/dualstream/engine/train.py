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
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from dualstream.atomic import replacing, write_text
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.clips.manifest import Manifest
from dualstream.engine.checkpoint import (
    RunInfo,
    build_model,
    git_commit,
    read_run,
    save_metrics,
    save_weights,
    start_run,
)
from dualstream.engine.data import training_dataset, validation_dataset, videos_of
from dualstream.engine.recipe import Recipe
from dualstream.engine.stream_module import StreamModule
from dualstream.errors import CheckpointError, InputError
from dualstream.flow import FlowStore
from dualstream.models.network import set_trainable

LOG_COLUMNS = ("epoch", "lr", "train_loss", "train_top1", "held_out_loss", "held_out_top1")


@dataclass(frozen=True)
class TrainProgress:
    """Where a run stands; handed to the listener after every batch and epoch."""

    epoch: int
    """0-based."""
    epochs: int
    batch: int
    """Batches done of this epoch."""
    batches: int
    train_loss: float | None
    """Mean of the last finished epoch."""
    held_out_top1: float | None
    """Of the last validation, 0..1."""


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


Listener = Callable[[TrainProgress], None]


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
    folder, source = Path(run).absolute(), Path(manifest_folder).absolute()
    if _is_first_process() and (folder / "recipe.yaml").exists():
        raise InputError(
            f"{folder} holds a run already. Go on with `dualstream train --resume {run}`, or "
            "choose another folder."
        )
    source = source if source.is_dir() else source.parent
    manifest = Manifest.read(source)
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
    )
    if _is_first_process():
        start_run(folder, recipe, manifest.classes, info)
    return _fit(folder, recipe, manifest, info, listener)


def resume(run: str | os.PathLike[str], *, listener: Listener | None = None) -> TrainResult:
    """Go on with a run that was stopped; the result is that of an unbroken run, bit for bit.

    Raises:
        CheckpointError: not a run folder, or its manifest has changed since.
    """
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
    return _fit(folder, recipe, manifest, info, listener)


def _fit(
    folder: Path, recipe: Recipe, manifest: Manifest, info: RunInfo, listener: Listener | None
) -> TrainResult:
    started = time.monotonic()
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe, len(manifest.classes), with_weights=True)
    set_trainable(model, recipe.model.trainable)
    data = RunData(recipe, manifest, info)
    module = StreamModule(recipe, model, steps_per_epoch=data.steps_per_epoch)
    keeper = RunFolder(folder, recipe, listener, batches=data.batches_per_epoch)
    settings = recipe.train
    state = folder / "trainer.ckpt"
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
        trainer.fit(
            module, data, ckpt_path=str(state) if state.is_file() else None, weights_only=True
        )
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


class RunData(pl.LightningDataModule):
    """Loaders of a run; every rank sees its own part of each global batch."""

    def __init__(self, recipe: Recipe, manifest: Manifest, info: RunInfo) -> None:
        super().__init__()
        self.recipe = recipe
        self.info = info
        self.training = videos_of(manifest, recipe, "train")
        self.held_out = videos_of(manifest, recipe, "held_out") if recipe.data.hold_out else None
        self.batches_per_epoch = len(self._batches(rank=0, world_size=1))
        if info.limit is not None:
            self.batches_per_epoch = min(self.batches_per_epoch, info.limit)
        self.steps_per_epoch = -(-self.batches_per_epoch // recipe.train.accumulate)

    def _batches(self, *, rank: int, world_size: int) -> EpochBatches:
        labels = [record.label for record in self.training.records]
        size = self.recipe.train.batch_size
        return EpochBatches(
            labels,
            batch_size=size,
            seed=self.recipe.train.seed,
            shuffle=True,
            class_balanced=self.recipe.data.class_balanced,
            rank=rank,
            world_size=world_size,
            drop_last=len(labels) >= size,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        batches = self._batches(rank=self.trainer.global_rank, world_size=self.trainer.world_size)
        # The first epoch's iterator is made before on_train_epoch_start is called.
        batches.set_epoch(self.trainer.current_epoch)
        return make_loader(
            training_dataset(self.training, self.recipe, self.info),
            batches,
            workers=self.recipe.data.workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        if self.held_out is None:
            return []
        assert self.trainer is not None
        batches = EpochBatches(
            [record.label for record in self.held_out.records],
            batch_size=self.recipe.train.batch_size,
            seed=0,
            shuffle=False,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            drop_last=False,
        )
        dataset = validation_dataset(self.held_out, self.recipe, self.info)
        return make_loader(dataset, batches, workers=self.recipe.data.workers)


class RunFolder(pl.Callback):
    """Keeps the run folder current: after each epoch its state, weights and log are whole."""

    def __init__(
        self, folder: Path, recipe: Recipe, listener: Listener | None, *, batches: int
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.listener = listener
        self.batches = batches
        self.rows: list[dict[str, float]] = []
        self.saved_top1: float | None = None
        self.validations_without_gain = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "saved_top1": self.saved_top1,
            "validations_without_gain": self.validations_without_gain,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.saved_top1 = state_dict["saved_top1"]
        self.validations_without_gain = state_dict["validations_without_gain"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning tells the epoch to samplers of single items only, not to batch samplers.
        assert trainer.train_dataloader is not None
        trainer.train_dataloader.batch_sampler.set_epoch(trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        self._tell(trainer, batch=trainer.fit_loop.batch_idx + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StreamModule)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": float(trainer.current_epoch + 1),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        # Lightning keeps the metrics of an earlier validation.
        validated = (trainer.current_epoch + 1) % self.recipe.train.validate_every == 0
        fresh = LOG_COLUMNS if validated else ("train_loss", "train_top1")
        row |= {name: metrics[name] for name in fresh if name in metrics}
        self.rows.append(row)
        keep = self._worth_keeping(trainer, row.get("held_out_top1"))
        if trainer.is_global_zero:
            lines = [",".join(LOG_COLUMNS)]
            lines += [",".join(_cell(r.get(name)) for name in LOG_COLUMNS) for r in self.rows]
            write_text(self.folder / "log.csv", "\n".join(lines) + "\n")
            if keep:
                save_weights(self.folder, pl_module.tested_model.state_dict())
        trainer.save_checkpoint(self.folder / "trainer.ckpt")
        self._tell(trainer, batch=self.batches)

    def _worth_keeping(self, trainer: pl.Trainer, top1: float | None) -> bool:
        """Whether this epoch's weights become the run's: with early stop only the best do."""
        patience = self.recipe.train.early_stop_patience
        if patience is None:
            self.saved_top1 = top1
            return True
        if top1 is None:
            return self.saved_top1 is None
        if self.saved_top1 is None or top1 > self.saved_top1:
            self.saved_top1 = top1
            self.validations_without_gain = 0
            return True
        self.validations_without_gain += 1
        trainer.should_stop = self.validations_without_gain >= patience
        return False

    def _tell(self, trainer: pl.Trainer, *, batch: int) -> None:
        if self.listener is None or not trainer.is_global_zero:
            return
        last = self.rows[-1] if self.rows else {}
        self.listener(
            TrainProgress(
                epoch=trainer.current_epoch,
                epochs=self.recipe.train.epochs,
                batch=batch,
                batches=self.batches,
                train_loss=last.get("train_loss"),
                held_out_top1=last.get("held_out_top1"),
            )
        )


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Saves trainer states whole or not at all, beside their old version."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


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


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


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
