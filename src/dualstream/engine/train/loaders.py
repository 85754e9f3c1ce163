"""The loaders of a training run."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.engine.datasets import training_dataset, validation_dataset, videos_of
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.info import RunInfo


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
        dataset = validation_dataset(self.held_out, self.recipe, self.info)
        batches = self._held_out_batches(len(dataset))
        return make_loader(dataset, batches, workers=self.recipe.data.workers)

    def _held_out_batches(self, count: int) -> EpochBatches:
        assert self.trainer is not None
        return EpochBatches(
            count,
            batch_size=self.recipe.train.batch_size,
            shuffle=False,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
