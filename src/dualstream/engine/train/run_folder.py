"""Files of a training run, whole after every epoch: state, weights and log."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import save_weights
from dualstream.engine.run.info import COPY_AGAIN
from dualstream.engine.train.module import TrainingModule
from dualstream.errors import CheckpointError
from dualstream.files import replacing, write_text

LOG_COLUMNS = ("epoch", "lr", "train_loss", "train_top1", "held_out_loss", "held_out_top1")

STATE_KEYS = frozenset(
    {"epoch", "global_step", "state_dict", "loops", "callbacks", "optimizer_states"}
)
"""Entries of a state, among others, that training goes on from."""

Phase = Literal["train", "frozen stages", "trajectories", "codebook", "encode", "test"]


@dataclass(frozen=True)
class TrainProgress:
    """Where a run stands; handed to the listener after every batch and epoch."""

    epoch: int
    """0-based."""
    epochs: int
    batch: int
    """Batches done of this epoch."""
    batches: int
    train_loss: float | None = None
    """Mean over the batches of this epoch so far (of this process)."""
    held_out_top1: float | None = None
    """Of the last validation, 0..1."""
    phase: Phase = "train"
    """With "frozen stages", which come before training, and "test", which comes after it in the
    training of a pair, `batch` and `batches` count videos; so they do with what comes before the
    SVM of trajectories, but the descriptors of their "codebook"."""
    is_epoch_end: bool = False
    """Whether the epoch is over, its validation too, and its files are written."""


Listener = Callable[[TrainProgress], None]


class RunFolder(pl.Callback):
    """Keeps the run folder current: after each epoch its state, weights and log are whole."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        listener: Listener | None,
        *,
        batches: int,
        data_sets: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        # Where there are several data sets, a top-1 of each beside the mean.
        tops = [f"{part}_top1_{name}" for part in ("train", "held_out") for name in data_sets]
        self.columns = (*LOG_COLUMNS, *tops)
        self.recipe = recipe
        self.listener = listener
        self.batches = batches
        self.rows: list[dict[str, float]] = []
        self.saved_top1: float | None = None
        self.saved_row: dict[str, float] = {}
        self.validations_without_gain = 0
        self._loss_sum = 0.0

    def state_dict(self) -> dict[str, Any]:
        kept = ("rows", "saved_top1", "saved_row", "validations_without_gain")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning tells the epoch to samplers of single items only, not to batch samplers.
        assert trainer.train_dataloader is not None
        trainer.train_dataloader.batch_sampler.set_epoch(trainer.current_epoch)
        self._loss_sum = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        # Lightning hands over the loss divided by the batches of an optimiser step.
        self._loss_sum += float(outputs["loss"]) * trainer.accumulate_grad_batches
        batch = trainer.fit_loop.batch_idx + 1
        self._tell(trainer, batch, self._loss_sum / batch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": float(trainer.current_epoch + 1),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        # Lightning keeps the metrics of an earlier validation.
        validated = (trainer.current_epoch + 1) % self.recipe.train.validate_every == 0
        fresh = [name for name in self.columns if validated or name.startswith("train_")]
        row |= {name: metrics[name] for name in fresh if name in metrics}
        self.rows.append(row)
        keep = self._worth_keeping(trainer, row.get("held_out_top1"))
        self.saved_row = row if keep else self.saved_row
        if trainer.is_global_zero:
            lines = [
                ",".join(f"{row[name]:.6g}" if name in row else "" for name in self.columns)
                for row in self.rows
            ]
            write_text(self.folder / "log.csv", "\n".join([",".join(self.columns), *lines, ""]))
            if keep:
                save_weights(self.folder, pl_module.saved_model.state_dict())
        trainer.save_checkpoint(self.folder / "trainer.ckpt")
        self._tell(trainer, self.batches, row.get("train_loss"), is_epoch_end=True)

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

    def _tell(
        self, trainer: pl.Trainer, batch: int, loss: float | None, *, is_epoch_end: bool = False
    ) -> None:
        if self.listener is None or not trainer.is_global_zero:
            return
        epoch, epochs = trainer.current_epoch, self.recipe.train.epochs
        held_out_top1 = self.rows[-1].get("held_out_top1") if self.rows else None
        told = (epoch, epochs, batch, self.batches, loss, held_out_top1)
        self.listener(TrainProgress(*told, is_epoch_end=is_epoch_end))


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Saves trainer states whole or not at all, beside their old version."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a state; CheckpointError if the file is broken, or no state of training."""
        try:
            state = super().load_checkpoint(Path(path), map_location, weights_only)
        except Exception as error:  # of torch's zip files and pickles: damage comes in many forms
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"{path} is broken ({reason}). {COPY_AGAIN}") from error
        if not isinstance(state, dict) or not state.keys() >= STATE_KEYS:
            raise CheckpointError(f"{path} is no state of a training run. {COPY_AGAIN}")
        return state
