"""Data of a run: which videos, which views, which batches, from recipe and manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from dualstream.clips.dataset import ClipDataset, Cropping, Sampling
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.clips.manifest import Manifest
from dualstream.clips.transforms import ColorJitter
from dualstream.engine.checkpoint import RunInfo
from dualstream.engine.recipe import Recipe
from dualstream.errors import RecipeError
from dualstream.flow import FlowStore

Part = Literal["train", "held_out", "test"]


def videos_of(manifest: Manifest, recipe: Recipe, part: Part) -> Manifest:
    """The videos of one part of the recipe's split.

    `train` and `held_out` share the split's training videos as `data.hold_out` says; `test` is
    the split's test videos, which training never sees.

    Raises:
        AnnotationError: the part has no video.
        RecipeError: held-out videos are asked for and the recipe holds out none.
    """
    split = recipe.data.split
    if part == "test":
        return manifest.subset(split, "test")
    training = manifest.subset(split, "train")
    if not recipe.data.hold_out:
        if part == "held_out":
            raise RecipeError("The recipe holds out no videos: set data.hold_out above 0.")
        return training
    kept, held_out = training.hold_out(recipe.data.hold_out, seed=recipe.data.hold_out_seed)
    return kept if part == "train" else held_out


def training_dataset(videos: Manifest, recipe: Recipe, info: RunInfo) -> ClipDataset:
    """Random snippets, crops, flips and colours."""
    augment = recipe.augment
    jitter = ColorJitter(
        brightness=augment.brightness,
        contrast=augment.contrast,
        saturation=augment.saturation,
        hue_turns=augment.hue_turns,
    )
    return ClipDataset(
        videos,
        [recipe.input.spec()],
        sampling=Sampling("random_segments", segments=recipe.train.segments),
        cropping=Cropping(augment.crop, scales=augment.scales, zoom=augment.zoom),
        jitter=jitter,
        flip=augment.flip,
        flow_store=_store(info.flow_store),
        backward_store=_store(info.backward_store),
        seed=recipe.train.seed,
    )


def validation_dataset(videos: Manifest, recipe: Recipe, info: RunInfo) -> ClipDataset:
    """The centre of each segment, the centre crop."""
    return ClipDataset(
        videos,
        [recipe.input.spec()],
        sampling=Sampling("segment_centers", segments=recipe.train.segments),
        cropping=Cropping("center"),
        flow_store=_store(info.flow_store),
        backward_store=_store(info.backward_store),
    )


def test_dataset(videos: Manifest, recipe: Recipe, info: RunInfo) -> ClipDataset:
    """All segments x crops views of the recipe's test."""
    return ClipDataset(
        videos,
        [recipe.test_spec()],
        sampling=Sampling("evenly_spaced", segments=recipe.test.segments),
        cropping=Cropping(recipe.test.crops),
        flow_store=_store(info.flow_store),
        backward_store=_store(info.backward_store),
    )


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


def _store(root: str | None) -> FlowStore | None:
    return FlowStore(Path(root)) if root else None
