"""A network as lightning sees it: loss, optimiser, schedule, running mean of the weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dualstream.clips.transforms import Normalizer
from dualstream.engine.recipe import Recipe
from dualstream.engine.train.loaders import RunData
from dualstream.engine.train.schedule import learning_rate_factor
from dualstream.errors import DivergedError
from dualstream.models.trainable import parameter_groups
from dualstream.types import Clip


class TrainingModule(pl.LightningModule):
    """Trains one network by a recipe, on the batches of a `RunData`.

    Args:
        recipe: the resolved recipe.
        model: network of the recipe; (N, S, C, T, H, W) -> logits (N, K).
    """

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        super().__init__()
        self.recipe = recipe
        self.spec = recipe.clip_spec()
        self._normalizer = Normalizer(self.spec)
        self.model = model
        self.average: AveragedModel | None = None
        if recipe.train.ema_decay:
            self.average = AveragedModel(
                model,
                multi_avg_fn=get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]  # torch's own gap
                    recipe.train.ema_decay
                ),
                use_buffers=True,
            ).requires_grad_(False)

    @property
    def tested_model(self) -> nn.Module:
        """The network that is validated and saved: the running mean where there is one."""
        if self.average is None:
            return self.model
        averaged: nn.Module = self.average.module
        return averaged

    @property
    def saved_model(self) -> nn.Module:
        """The network whose weights the run folder gets."""
        return self.tested_model

    def logits_and_labels(self, network: nn.Module, batch: Clip) -> tuple[Tensor, Tensor]:
        """Return the logits (N, K) that `network` gives to a batch, and the labels (N,)."""
        return network(self._normalizer(batch.data)), batch.label

    def on_train_batch_start(self, batch: Clip, batch_idx: int) -> None:
        # Dropout then depends on (seed, epoch, batch, rank) only, so that a resumed run draws
        # what an unbroken one would have drawn.
        key = (self.recipe.train.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def training_step(self, batch: Clip, batch_idx: int) -> Tensor:
        logits, labels = self.logits_and_labels(self.model, batch)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.train.label_smoothing)
        if not torch.isfinite(loss):
            raise self._diverged(f"The loss is {loss.item()}")
        self._log_means("train", loss, logits, labels)
        return loss

    def validation_step(self, batch: Clip, batch_idx: int) -> None:
        logits, labels = self.logits_and_labels(self.tested_model.eval(), batch)
        self._log_means("held_out", F.cross_entropy(logits, labels), logits, labels)

    def _log_means(self, part: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Log loss and top-1, which become means over the samples of the epoch."""
        correct = (logits.argmax(dim=1) == labels).float().mean()
        self.log_dict(
            {f"{part}_loss": loss, f"{part}_top1": correct},
            on_epoch=True,
            on_step=False,
            batch_size=len(labels),
            sync_dist=True,
        )

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(
            f"{what} in epoch {self.current_epoch + 1}. Lower train.optimizer.lr "
            f"({self.recipe.train.optimizer.lr}), set train.clip_norm, or check the input with "
            "train.precision=32-true."
        )

    def on_train_batch_end(self, outputs: Any, batch: Clip, batch_idx: int) -> None:
        # No further loss tells what the last step of an epoch did to the weights that are saved.
        if self.trainer.is_last_batch and not all(p.isfinite().all() for p in self.parameters()):
            raise self._diverged("Weights are no finite numbers")
        stepped = (batch_idx + 1) % self.recipe.train.accumulate == 0 or self.trainer.is_last_batch
        if self.average is not None and stepped:
            self.average.update_parameters(self.model)

    def configure_optimizers(self) -> Any:
        settings = self.recipe.train.optimizer
        groups = parameter_groups(self.model, weight_decay=settings.weight_decay)
        optimizer: torch.optim.Optimizer
        if settings.name == "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov
            )
        else:
            optimizer = torch.optim.AdamW(groups, lr=settings.lr)
        data: RunData = self.trainer.datamodule  # type: ignore[attr-defined]  # set by `fit`
        factor = partial(
            learning_rate_factor,
            steps_per_epoch=data.steps_per_epoch,
            epochs=self.recipe.train.epochs,
            schedule=self.recipe.train.schedule,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
