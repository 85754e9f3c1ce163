"""A training run as lightning sees it: loss, optimiser, schedule, mean of the weights, loaders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dualstream.clips.transforms import Normalizer
from dualstream.engine.datasets import Part
from dualstream.engine.recipe import Recipe
from dualstream.engine.recipe_sections import ScheduleSection
from dualstream.engine.train.run_data import RunData
from dualstream.errors import DivergedError, first_names
from dualstream.models.network import Network
from dualstream.models.trainable import parameter_groups
from dualstream.types import Clip


class TrainingModule(pl.LightningModule):
    """Trains one network by a recipe, on the batches of a `RunData`.

    Args:
        recipe: the resolved recipe.
        model: network of the recipe; (N, S, C, T, H, W) -> logits (N, K) of each head.
    """

    measure = "top-1"
    """What is called top-1 in the log."""

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        super().__init__()
        self.recipe = recipe
        self.spec = recipe.clip_spec()
        self._normalizer = Normalizer(self.spec)
        self.model = model
        self.scheduled_epochs = recipe.train.epochs
        """Epochs that the recipe's schedule is for."""
        self.average: AveragedModel | None = None
        if decay := recipe.train.ema_decay:
            mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch's own gap
            self.average = AveragedModel(model, multi_avg_fn=mean, use_buffers=True)
            self.average.requires_grad_(False)

    @property
    def optimized(self) -> nn.Module:
        """Part of the network that the recipe's optimiser moves: all of it."""
        return self.model

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

    def outputs_and_labels(
        self, network: nn.Module, batch: Clip, *, absent: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits (N, K) of each head for a batch, its answer first, and labels (N,).

        Args:
            network: the one that is trained, or the mean of its weights.
            absent: see `Network.outputs`.
        """
        assert isinstance(network, Network)
        return network.outputs(self._normalizer(batch.data), absent=absent), batch.label

    def loss(self, outputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """Loss of a training step: the heads' cross entropies by the recipe's weights.

        Args:
            outputs: head -> logits (N, K), the network's answer first.
            labels: (N,).
        """
        answer = next(iter(outputs))
        losses = [
            weight * self.cross_entropy(outputs[head], labels, "train")
            for head, weight in (self.recipe.train.losses or {answer: 1.0}).items()
        ]
        return torch.stack(losses).sum()

    def cross_entropy(self, logits: Tensor, labels: Tensor, part: Part) -> Tensor:
        """Mean cross entropy of logits (N, K) and labels (N,), smoothed in training."""
        smoothing = self.recipe.train.label_smoothing if part == "train" else 0.0
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)

    def top1(self, logits: Tensor, labels: Tensor, part: Part) -> Tensor:
        """Share of the labels (N,) whose logit is the largest of (N, K)."""
        return (logits.argmax(dim=1) == labels).float().mean()

    def on_train_batch_start(self, batch: Clip, batch_idx: int) -> None:
        # Dropout then depends on (seed, epoch, batch, rank) only, so that a resumed run draws
        # what an unbroken one would have drawn.
        key = (self.recipe.train.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def training_outputs(
        self, batch: Clip, absent: Mapping[str, Tensor] | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Logits of each head and labels for a training step; see `outputs_and_labels`."""
        return self.outputs_and_labels(self.model, batch, absent=absent)

    def training_step(self, batch: Clip, batch_idx: int) -> Tensor:
        absent, rate = None, self.recipe.train.modality_dropout
        if rate:
            absent = absent_streams(tuple(batch.data), len(batch), rate, device=self.device)
        outputs, labels = self.training_outputs(batch, absent)
        loss = self.loss(outputs, labels)
        if not torch.isfinite(loss):
            # Features of frozen stages have no names.
            at = _not_finite(outputs, getattr(batch, "name", ()))
            raise self._diverged(f"The loss is {loss.item()}{at}")
        self._log_means("train", loss, outputs, labels)
        return loss

    def validation_step(self, batch: Clip, batch_idx: int) -> None:
        outputs, labels = self.outputs_and_labels(self.tested_model.eval(), batch)
        answer = next(iter(outputs.values()))
        loss = self.cross_entropy(answer, labels, "held_out")
        self._log_means("held_out", loss, outputs, labels)

    def _log_means(
        self, part: Part, loss: Tensor, outputs: Mapping[str, Tensor], labels: Tensor
    ) -> None:
        """Log loss and top-1, which become means over the samples of the epoch.

        The heads after the answer are logged by their names: `train_rgb_top1`.
        """
        top1 = {
            f"{part}_{head}_top1" if place else f"{part}_top1": self.top1(logits, labels, part)
            for place, (head, logits) in enumerate(outputs.items())
        }
        self.log_dict(
            {f"{part}_loss": loss, **top1},
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
        groups = parameter_groups(
            self.optimized,
            weight_decay=settings.weight_decay,
            lr=settings.lr,
            lr_factors=settings.lr_factors,
        )
        optimizer = (
            torch.optim.AdamW(groups, lr=settings.lr)
            if settings.name == "adamw"
            else torch.optim.SGD(
                groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov
            )
        )
        data: RunData = self.trainer.datamodule  # type: ignore[attr-defined]  # set by `fit`
        factor = partial(
            learning_rate_factor,
            steps_per_epoch=data.steps_per_epoch,
            epochs=self.scheduled_epochs,
            schedule=self.recipe.train.schedule,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def _not_finite(outputs: Mapping[str, Tensor], names: Sequence[str]) -> str:
    """Return the samples whose logits (N, K) are no finite numbers, in brackets after a blank."""
    sound = torch.stack([logits.isfinite().all(dim=1) for logits in outputs.values()]).all(dim=0)
    found = [name for name, is_sound in zip(names, sound.tolist(), strict=False) if not is_sound]
    return f" ({first_names(found)})" if found else ""


def absent_streams(
    streams: Sequence[str], samples: int, rate: float, *, device: torch.device
) -> dict[str, Tensor]:
    """Draw which samples lack a stream: with probability `rate` one, any with the same chance.

    Returns:
        Stream -> (N,) booleans; no sample lacks more than one stream.
    """
    lacks = torch.rand(samples) < rate
    which = torch.randint(len(streams), (samples,))
    return {name: (lacks & (which == i)).to(device) for i, name in enumerate(streams)}


def learning_rate_factor(
    step: int, *, steps_per_epoch: int, epochs: int, schedule: ScheduleSection
) -> float:
    """Factor of the base learning rate at an optimiser step.

    A step schedule multiplies by `gamma` after each milestone; a cosine falls from 1 to 0, over the
    epochs after warm-up or over all of them; a constant stays. Warm-up rises linearly from
    `warmup_start` (not itself reached) to where the schedule is after it, over `warmup_epochs`.

    Args:
        step: 0-based optimiser step.
        steps_per_epoch: optimiser steps of one epoch, at least 1.
        epochs: epochs of the whole run.

    Example:
        10 steps an epoch, milestones (2,), gamma .1: steps 0..19 give 1, steps 20.. give .1.
    """
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    at = max(step, warmup_steps)
    factor = 1.0
    if schedule.name == "step":
        factor = schedule.gamma ** sum(at / steps_per_epoch >= m for m in schedule.milestones)
    elif schedule.name == "cosine":
        first = 0 if schedule.cosine_over == "all" else warmup_steps
        total_steps = max(1, epochs * steps_per_epoch - first)
        factor = 0.5 * (1 + math.cos(math.pi * min(1.0, (at - first) / total_steps)))
    if step >= warmup_steps:
        return factor
    start = schedule.warmup_start
    return start + (factor - start) * (step + 1) / warmup_steps
