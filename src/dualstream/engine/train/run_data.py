"""The loaders of a training run, and the videos that its network can see."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.dataset import ClipDataset, JoinedDataset
from dualstream.clips.loader import EpochBatches, MixedBatches, make_loader
from dualstream.engine.datasets import Part, training_dataset, validation_dataset, videos_of
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.info import RunInfo
from dualstream.errors import AnnotationError, first_names

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
        self.videos = {part: usable_videos(manifest, recipe, part) for part in parts}
        """Those of each part that the network can see."""
        _warn_of_the_others(manifest, recipe, self.videos)

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of an epoch, cut to the run's limit."""
        batches = len(self._batches())
        return batches if self.info.limit is None else min(batches, self.info.limit)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimiser, each over all devices."""
        return -(-self.batches_per_epoch // self.recipe.train.accumulate)

    def _batches(self, **process: int) -> EpochBatches | MixedBatches:
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
            self._num_videos("held_out"),
            batch_size=self.recipe.train.batch_size,
            shuffle=False,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        return self._loader("held_out", batches)

    def _num_videos(self, part: Part) -> int:
        return len(self.videos[part])

    def _loader(self, part: Part, batches: EpochBatches | MixedBatches) -> DataLoader[Any]:
        """The clips of a part; on a GPU through page-locked memory."""
        assert self.trainer is not None
        return make_loader(
            self._samples(part),
            batches,
            workers=self.recipe.data.workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def _samples(self, part: Part) -> ClipDataset | JoinedDataset:
        return self._dataset(part, self.videos[part])

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
        record.name
        for part, videos in used.items()
        for record in set(videos_of(manifest, recipe, part).records) - set(videos.records)
    ]
    if left_out:
        _log.warning(
            "Left out of training: %d of the videos, which have one frame, and flow needs two "
            "(%s).",
            len(left_out),
            first_names(sorted(left_out)),
        )
