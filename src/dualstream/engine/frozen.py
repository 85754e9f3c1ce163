"""Training behind frozen stages: what those give is computed once for a few views of each video.

With `model.trainable: n` or `last_layer`, most of the work of an epoch repeats what the epoch
before did. `data.frozen_views: V` draws V random views of each training video before training,
sends them through the frozen parts and keeps the result; each epoch then draws one of them for each
video. The files lie under `frozen` beside the manifest and serve every run that would compute the
same: other splits, other learning rates.

MANIFEST/frozen/<hash of all that matters>/<video>.npy    (V, S, ...) float16
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dualstream import __version__
from dualstream.atomic import replacing
from dualstream.clips.dataset import ClipDataset, SampleKey
from dualstream.clips.loader import make_loader
from dualstream.clips.manifest import Manifest
from dualstream.clips.transforms import normalize
from dualstream.engine.checkpoint import RunInfo
from dualstream.engine.data import RunData, training_dataset, validation_dataset
from dualstream.engine.recipe import Recipe
from dualstream.engine.stream_module import StreamModule
from dualstream.errors import RecipeError
from dualstream.models import Network
from dualstream.models.optimize import FastestForm
from dualstream.models.video_network import VideoNetwork
from dualstream.models.weights import state_sha256
from dualstream.types import Clip, InputSpec

Told = Callable[[int, int], None]
"""Called with the number of videos that are done, and of all."""


@dataclass(frozen=True, eq=False)
class FrozenBatch:
    """What the frozen parts gave for one view of each of N videos."""

    features: Tensor
    """(N, S, ...) float16."""
    label: Tensor
    """(N,) int64."""

    def to(self, device: Any, non_blocking: bool = False) -> FrozenBatch:
        """The same values on another device."""
        return FrozenBatch(
            self.features.to(device, non_blocking=non_blocking),
            self.label.to(device, non_blocking=non_blocking),
        )


class FrozenModule(StreamModule):
    """Trains what lies behind the frozen parts of a network."""

    def __init__(self, recipe: Recipe, model: VideoNetwork, *, steps_per_epoch: int) -> None:
        super().__init__(recipe, model, steps_per_epoch=steps_per_epoch)
        self.num_parts = model.num_frozen_parts()

    def answers(self, network: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits (N, K), mean over the segments, and labels (N,)."""
        assert isinstance(network, VideoNetwork)
        count, segments = batch.features.shape[:2]
        features = batch.features.flatten(0, 1).float()  # (N*S, ...)
        logits = network.finish(features, parts=self.num_parts)  # (N*S, K)
        return logits.reshape(count, segments, -1).mean(dim=1), batch.label


class FrozenData(RunData):
    """The loaders of a run, of features instead of clips.

    Args:
        model: whose frozen parts are meant, made and frozen as the recipe says (`check_frozen`).
        told: called after every video of which features were computed or found.
    """

    def __init__(
        self,
        recipe: Recipe,
        manifest: Manifest,
        info: RunInfo,
        *,
        model: VideoNetwork,
        told: Told,
    ) -> None:
        super().__init__(recipe, manifest, info)
        self.manifest = manifest
        self.model = model
        self._told = told
        self._folders: dict[str, Path] = {}

    def setup(self, stage: str) -> None:
        """Compute what is not there yet; several processes share the work."""
        assert self.trainer is not None
        # Of the whole manifest: what is drawn for a video is the same for every split.
        works = [
            FeatureWork(
                training_dataset(self.manifest, self.recipe, self.info),
                self._own(self._names_of_training()),
                views=self.recipe.data.frozen_views,
            )
        ]
        if self.held_out is not None:
            names = [record.path for record in self.held_out.records]
            dataset = validation_dataset(self.manifest, self.recipe, self.info)
            works.append(FeatureWork(dataset, self._own(names), views=1))
        beginning = Beginning(self.model, self.recipe.input.spec())
        beginning.to(self.trainer.strategy.root_device)
        done, total = 0, sum(len(work.names) for work in works)
        for part, work in zip(("train", "held_out"), works, strict=False):
            folder = self._folders[part] = self._folder(part, beginning)
            for _ in compute_features(beginning, work, folder, workers=self.recipe.data.workers):
                done += 1
                self._told(done, total)
        self.trainer.strategy.barrier()

    def _names_of_training(self) -> list[str]:
        """Videos of the batches that will be drawn: all, unless epochs are cut (`limit`)."""
        records = self.training.records
        if self.info.limit is None:
            return [record.path for record in records]
        batches, drawn = self._batches(rank=0, world_size=1), set()
        for epoch in range(self.recipe.train.epochs):
            batches.set_epoch(epoch)
            for batch in itertools.islice(batches, self.info.limit):
                drawn |= {index % len(records) for _, index in batch}
        return [records[index].path for index in sorted(drawn)]

    def _own(self, names: list[str]) -> list[str]:
        """This process's part."""
        assert self.trainer is not None
        return names[self.trainer.global_rank :: self.trainer.world_size]

    def _folder(self, part: str, beginning: Beginning) -> Path:
        """Folder of the features; the same for every run that would compute the same."""
        recipe, info, is_training = self.recipe, self.info, part == "train"
        matters = {
            "version": __version__,
            "weights": state_sha256(beginning.frozen_state()),
            "network": [recipe.model.name, recipe.model.options, beginning.num_parts],
            "input": recipe.input.model_dump(mode="json"),
            "augment": recipe.augment.model_dump(mode="json") if is_training else None,
            "segments": recipe.train.segments,
            "seed": recipe.train.seed if is_training else None,
            "views": recipe.data.frozen_views if is_training else 1,
            "flow": [info.flow_store, info.backward_store, info.flow_params],
            "manifest": info.manifest_sha256,
        }
        text = json.dumps(matters, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Path(info.manifest) / "frozen" / name

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        batches = self._batches(rank=self.trainer.global_rank, world_size=self.trainer.world_size)
        batches.set_epoch(self.trainer.current_epoch)
        dataset = FrozenDataset(self.training, self._folders["train"], seed=self.recipe.train.seed)
        return DataLoader(dataset, batch_sampler=batches, collate_fn=_collate)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        if self.held_out is None:
            return []
        assert self.trainer is not None
        dataset = FrozenDataset(self.held_out, self._folders["held_out"], seed=0)
        return DataLoader(
            dataset, batch_sampler=self._held_out_batches(len(dataset)), collate_fn=_collate
        )


class FrozenDataset(Dataset[FrozenBatch]):
    """One of the kept views of each video: `dataset[(epoch, index)]`, drawn by seed and key."""

    def __init__(self, videos: Manifest, folder: Path, *, seed: int) -> None:
        self.videos = videos
        self.folder = folder
        self.seed = seed

    def __len__(self) -> int:
        return len(self.videos.records)

    def __getitem__(self, key: SampleKey) -> FrozenBatch:
        epoch, index = key
        record = self.videos.records[index % len(self)]
        views = np.load(feature_path(self.folder, record.path), mmap_mode="r")  # (V, S, ...)
        view = np.random.default_rng([self.seed, epoch, index]).integers(len(views))
        return FrozenBatch(torch.from_numpy(views[view].copy()), torch.tensor(record.label))


def _collate(samples: list[FrozenBatch]) -> FrozenBatch:
    return FrozenBatch(
        torch.stack([sample.features for sample in samples]),
        torch.stack([sample.label for sample in samples]),
    )


def check_frozen(model: Network, recipe: Recipe) -> VideoNetwork:
    """The network, if it has frozen parts to keep the results of.

    Raises:
        RecipeError: it has not.
    """
    if not isinstance(model, VideoNetwork) or not model.parts():
        raise RecipeError(
            f"data.frozen_views needs a network that is a chain of parts, {model.name} is not. "
            "Set data.frozen_views=0."
        )
    if not model.num_frozen_parts():
        raise RecipeError(
            "data.frozen_views needs frozen stages: set model.trainable to last_layer or to a "
            f"number of last stages, got {recipe.model.trainable}."
        )
    return model


def feature_path(folder: Path, name: str) -> Path:
    """File of the video `name`: `a/b.mp4` -> `<folder>/a/b.mp4.npy`."""
    return folder / f"{name}.npy"


class Beginning(nn.Module):
    """A copy of a network's frozen parts that takes the bytes of a clip, (S, C, T, H, W)."""

    def __init__(self, model: VideoNetwork, spec: InputSpec) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.spec = spec
        self.num_parts = model.num_frozen_parts()
        self.eval()

    def frozen_state(self) -> dict[str, Tensor]:
        """Tensors of the frozen parts, on the CPU."""
        parts = enumerate(self.model.parts()[: self.num_parts])
        return {
            f"{index}.{name}": value.cpu()
            for index, part in parts
            for name, value in part.state_dict().items()
        }

    def forward(self, clip: Tensor) -> Tensor:
        """What the parts behind them are given: (S, ...)."""
        return self.model.begin(normalize(clip, self.spec), parts=self.num_parts)


@dataclass(frozen=True)
class FeatureWork:
    """Features to compute: which views of which videos."""

    dataset: ClipDataset
    """Makes the views; view v is the sample of epoch v."""
    names: list[str]
    """The videos, by their paths in the manifest."""
    views: int
    """Of each video."""


def compute_features(
    beginning: Beginning, work: FeatureWork, folder: Path, *, workers: int
) -> Iterator[str]:
    """Send views of videos through the frozen parts and keep the results.

    Videos whose file is there are passed over, so a stopped run goes on.

    Args:
        folder: for the files.
        workers: reading processes.

    Yields:
        Name of each video once its file is there.

    Raises:
        VideoError, FlowStoreError: a video cannot be read.
    """
    missing = []
    for name in work.names:
        if feature_path(folder, name).is_file():
            yield name
        else:
            missing.append(name)
    if not missing:
        return
    place = {record.path: index for index, record in enumerate(work.dataset.manifest.records)}
    keys = [[(view, place[name])] for name in missing for view in range(work.views)]
    clips = iter(make_loader(work.dataset, keys, workers=workers))
    begin = FastestForm(beginning, name=beginning.model.name)
    for name in missing:
        kept = [begin(_frames_of(next(clips), beginning)).half().cpu() for _ in range(work.views)]
        with replacing(feature_path(folder, name)) as temporary, open(temporary, "wb") as file:
            np.save(file, torch.stack(kept).numpy())
        yield name


def _frames_of(clip: Clip, beginning: Beginning) -> Tensor:
    """(S, C, T, H, W) of a batch of one video, where the parts are."""
    device = next(beginning.parameters()).device
    return clip.data[beginning.spec.modality][0].to(device)
