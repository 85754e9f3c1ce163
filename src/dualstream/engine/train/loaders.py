"""The videos of a training run and their loaders."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.engine.datasets import Part, training_dataset, validation_dataset, videos_of
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.info import RunInfo
from dualstream.errors import AnnotationError

MOST_NAMES = 5
"""Videos that a warning names."""

_log = logging.getLogger(__name__)


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
        videos = {part: usable_videos(manifest, recipe, part) for part in parts}
        _warn_of_the_others(manifest, recipe, videos)
        self.training = videos["train"]
        self.held_out = videos.get("held_out")
        self.batches_per_epoch = len(self._batches(rank=0, world_size=1))
        if info.limit is not None:
            self.batches_per_epoch = min(self.batches_per_epoch, info.limit)
        self.steps_per_epoch = -(-self.batches_per_epoch // recipe.train.accumulate)
        """Steps of the optimiser, each over all devices."""

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

    def _own_batches(self) -> EpochBatches:
        """Training batches of this process, from the epoch that the trainer is in."""
        assert self.trainer is not None
        batches = self._batches(rank=self.trainer.global_rank, world_size=self.trainer.world_size)
        # The first epoch's iterator is made before on_train_epoch_start is called.
        batches.set_epoch(self.trainer.current_epoch)
        return batches

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return make_loader(
            training_dataset(self.training, self.recipe, self.info),
            self._own_batches(),
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
