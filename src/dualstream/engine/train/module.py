"""A training run as lightning sees it: loss, optimiser, schedule, mean of the weights, loaders."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.dataset import ClipDataset
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.clips.transforms import Normalizer
from dualstream.engine.datasets import Part, training_dataset, validation_dataset, videos_of
from dualstream.engine.recipe import Recipe, ScheduleSection
from dualstream.engine.run.info import RunInfo
from dualstream.errors import AnnotationError, DivergedError
from dualstream.models.network import parameter_groups
from dualstream.types import Clip

MOST_NAMES = 5
"""Videos that a warning names."""

_log = logging.getLogger(__name__)


class TrainingModule(pl.LightningModule):
    """Trains one network by a recipe, on the batches of a `RunData`.

    Args:
        recipe: the resolved recipe.
        model: network of the recipe; (N, S, C, T, H, W) -> logits (N, K).
    """

    measure = "top-1"
    """What is called top-1 in the log."""

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        super().__init__()
        self.recipe = recipe
        self.spec = recipe.clip_spec()
        self._normalizer = Normalizer(self.spec)
        self.model = model
        self.average: AveragedModel | None = None
        if decay := recipe.train.ema_decay:
            mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch's own gap
            self.average = AveragedModel(model, multi_avg_fn=mean, use_buffers=True)
            self.average.requires_grad_(False)

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
        groups = parameter_groups(
            self.model,
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
            epochs=self.recipe.train.epochs,
            schedule=self.recipe.train.schedule,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


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


class RunData(pl.LightningDataModule):
    """Loaders of a run; every rank sees its own part of each global batch.

    Args:
        recipe: the resolved recipe.
        manifest: all videos of the data set.
        info: where the run came from.

    Raises:
        AnnotationError: no video is left to train on.
    """

    def __init__(self, recipe: Recipe, manifest: Manifest, info: RunInfo) -> None:
        super().__init__()
        self.recipe = recipe
        self.info = info
        parts: tuple[Part, ...] = ("train", "held_out") if recipe.data.hold_out else ("train",)
        self.videos = {part: usable_videos(manifest, recipe, part) for part in parts}
        """Those of each part that the network can see."""
        _warn_of_the_others(manifest, recipe, self.videos)
        self.batches_per_epoch = len(self._batches())
        if info.limit is not None:
            self.batches_per_epoch = min(self.batches_per_epoch, info.limit)
        self.steps_per_epoch = -(-self.batches_per_epoch // recipe.train.accumulate)
        """Steps of the optimiser, each over all devices."""

    def _batches(self, **process: int) -> EpochBatches:
        """Training batches of one process, given by its rank and world_size, or of all."""
        labels = [record.label for record in self.videos["train"].records]
        size = self.recipe.train.batch_size
        return EpochBatches(
            labels,
            batch_size=size,
            seed=self.recipe.train.seed,
            shuffle=True,
            class_balanced=self.recipe.data.class_balanced,
            drop_last=len(labels) >= size,
            **process,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        batches = self._batches(rank=self.trainer.global_rank, world_size=self.trainer.world_size)
        # The first epoch's iterator is made before on_train_epoch_start is called.
        batches.set_epoch(self.trainer.current_epoch)
        return self._loader("train", batches)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        if "held_out" not in self.videos:
            return []
        assert self.trainer is not None
        batches = EpochBatches(
            len(self.videos["held_out"]),
            batch_size=self.recipe.train.batch_size,
            shuffle=False,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        return self._loader("held_out", batches)

    def _loader(self, part: Part, batches: EpochBatches) -> DataLoader[Any]:
        """The clips of a part; on a GPU through page-locked memory."""
        assert self.trainer is not None
        return make_loader(
            self._dataset(part, self.videos[part]),
            batches,
            workers=self.recipe.data.workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def _dataset(self, part: Part, videos: Manifest) -> ClipDataset:
        make = training_dataset if part == "train" else validation_dataset
        return make(videos, self.recipe, self.info)


def usable_videos(manifest: Manifest, recipe: Recipe, part: Part) -> Manifest:
    """Videos of one part of the recipe's split that the recipe's network can see.

    A video of one frame has no flow: where a stream reads flow it is left out. Errors are those of
    `videos_of`, and AnnotationError where no video has two frames.
    """
    videos = videos_of(manifest, recipe, part)
    if not recipe.flow_streams():
        return videos
    kept = tuple(record for record in videos.records if record.frames > 1)
    if not kept:
        raise AnnotationError(
            f"All {part} videos of {videos.root} have one frame, and flow needs two. Give longer "
            "videos, or choose a recipe that sees RGB only."
        )
    return replace(videos, records=kept)


@rank_zero_only
def _warn_of_the_others(manifest: Manifest, recipe: Recipe, used: dict[Part, Manifest]) -> None:
    """Log which videos are not among the usable ones, if any."""
    left_out = [
        record.path
        for part, videos in used.items()
        for record in set(videos_of(manifest, recipe, part).records) - set(videos.records)
    ]
    if left_out:
        names = [*sorted(left_out)[:MOST_NAMES], *["..."] * (len(left_out) > MOST_NAMES)]
        _log.warning(
            "Left out of training: %d of the videos, which have one frame, and flow needs two "
            "(%s).",
            len(left_out),
            ", ".join(names),
        )
