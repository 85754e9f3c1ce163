"""Training behind frozen stages: what those give is computed once for a few views of each video.

With `model.trainable: n` or `last_layer`, most of the work of an epoch repeats what the epoch
before did. `data.frozen_views: V` draws V random views of each training video before training,
sends them through the frozen parts and keeps the result; each epoch then draws one of them for each
video. The files lie under `frozen` beside the manifest and serve every run that would compute the
same: other splits, other learning rates.

MANIFEST/frozen/<hash of all that matters>/<video>.npy    (V, S, ...) float16
                                           form.txt       the form of the network that gave them
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dualstream import __version__
from dualstream.atomic import replacing, write_text
from dualstream.clips.dataset import ClipDataset, SampleKey
from dualstream.clips.loader import make_loader
from dualstream.clips.manifest import Manifest
from dualstream.clips.transforms import normalize
from dualstream.engine.checkpoint import RunInfo
from dualstream.engine.data import RunData
from dualstream.engine.datasets import training_dataset, validation_dataset
from dualstream.engine.recipe import Recipe
from dualstream.engine.stream_module import StreamModule
from dualstream.errors import InputError, RecipeError
from dualstream.models import Network
from dualstream.models.fastest import FastestForm
from dualstream.models.video_network import VideoNetwork
from dualstream.models.weights import state_sha256
from dualstream.types import Clip

_OF_TRAINING = ("dropout", "checkpointing")
"""Options of networks that change nothing in what frozen stages give."""

FORM_FILE = "form.txt"

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
        beginning = Beginning(self.model)
        device = self.trainer.strategy.root_device
        beginning.to(device)
        works = self._works(beginning)
        begin = FastestForm(beginning, name=self.model.name)
        done, total = 0, sum(len(work.names) for work in works.values())
        for part, work in works.items():
            self._folders[part] = work.folder
            if self.trainer.is_global_zero:
                settle_form(begin, work, device)
            self.trainer.strategy.barrier()
            for _ in compute_features(begin, work, device, workers=self.recipe.data.workers):
                done += 1
                self._told(done, total)
        self.trainer.strategy.barrier()

    def _works(self, beginning: Beginning) -> dict[str, FeatureWork]:
        """What this process computes of each part."""
        # Of the whole manifest: what is drawn for a video is the same for every split.
        works = {
            "train": FeatureWork(
                training_dataset(self.manifest, self.recipe, self.info),
                self._own(self._names_of_training()),
                views=self.recipe.data.frozen_views,
                folder=self._folder("train", beginning),
            )
        }
        if self.held_out is not None:
            works["held_out"] = FeatureWork(
                validation_dataset(self.manifest, self.recipe, self.info),
                self._own([record.path for record in self.held_out.records]),
                views=1,
                folder=self._folder("held_out", beginning),
            )
        return works

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
        options = {k: v for k, v in recipe.model.options.items() if k not in _OF_TRAINING}
        matters = {
            "version": __version__,
            "weights": state_sha256(beginning.frozen_state()),
            "network": [recipe.model.name, options, beginning.num_parts],
            "device": beginning.device.type,
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
    """A copy of a network's frozen parts."""

    def __init__(self, model: VideoNetwork) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.num_parts = model.num_frozen_parts()
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.parameters()).device

    def frozen_state(self) -> dict[str, Tensor]:
        """Tensors of the frozen parts, on the CPU."""
        parts = enumerate(self.model.parts()[: self.num_parts])
        return {
            f"{index}.{name}": value.cpu()
            for index, part in parts
            for name, value in part.state_dict().items()
        }

    def forward(self, clips: Tensor) -> Tensor:
        """(S, C, T, H, W) -> what the parts behind them are given: (S, ...)."""
        return self.model.begin(clips, parts=self.num_parts)


@dataclass(frozen=True)
class FeatureWork:
    """Features to compute: which views of which videos."""

    dataset: ClipDataset
    """Makes the views; view v is the sample of epoch v."""
    names: list[str]
    """The videos, by their paths in the manifest."""
    views: int
    """Of each video."""
    folder: Path
    """For the files."""

    def place(self, name: str) -> int:
        """Index of a video in the dataset."""
        return self._places[name]

    @cached_property
    def _places(self) -> dict[str, int]:
        records = self.dataset.manifest.records
        return {record.path: index for index, record in enumerate(records)}

    def ready(self, clip: Clip, device: torch.device) -> Tensor:
        """What the network takes, of a sample or a batch of one video: (S, C, T, H, W)."""
        ((modality, spec),) = self.dataset.specs.items()
        data = clip.data[modality]
        return normalize(data.reshape(-1, *data.shape[-4:]).to(device), spec)


def settle_form(begin: FastestForm, work: FeatureWork, device: torch.device) -> None:
    """Write down which form computes the features of a folder, the fastest for a first clip.

    All files of a folder are computed in one form: the forms differ in their last digits, and
    which of them is the fastest may differ from one run to the next.

    Args:
        begin: the frozen parts on `device`, measured where the folder has no form yet.
    """
    file = work.folder / FORM_FILE
    if work.names and not file.is_file():
        clips = work.ready(work.dataset[work.place(work.names[0])], device)
        begin(clips)
        write_text(file, f"{begin.forms[tuple(clips.shape)][0].name}\n")


def compute_features(
    begin: FastestForm, work: FeatureWork, device: torch.device, *, workers: int
) -> Iterator[str]:
    """Send views of videos through the frozen parts and keep the results.

    Videos whose file is there are passed over, so a stopped run goes on.

    Args:
        begin: the frozen parts on `device`.
        work: what to compute; `settle_form` has been called for it.
        workers: reading processes.

    Yields:
        Name of each video once its file is there.

    Raises:
        VideoError, FlowStoreError: a video cannot be read.
        RecipeError: a feature is beyond float16, or the form of the folder cannot run here.
    """
    missing = []
    for name in work.names:
        if feature_path(work.folder, name).is_file():
            yield name
        else:
            missing.append(name)
    if not missing:
        return
    keys = [[(view, work.place(name))] for name in missing for view in range(work.views)]
    batches = iter(make_loader(work.dataset, keys, workers=workers))
    for index, name in enumerate(missing):
        clips = [work.ready(next(batches), device) for _ in range(work.views)]
        if index == 0:
            _fix_form(begin, work.folder, clips[0])
        features = torch.stack([begin(clip).half().cpu() for clip in clips])  # (V, S, ...)
        if not features.isfinite().all():
            raise RecipeError(
                f"The frozen stages give values for {name} that float16 cannot hold: set "
                "data.frozen_views=0."
            )
        path = feature_path(work.folder, name)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, features.numpy())
        yield name


def _fix_form(begin: FastestForm, folder: Path, clips: Tensor) -> None:
    file = folder / FORM_FILE
    try:
        begin.fix(file.read_text().strip(), clips)
    except InputError as error:
        raise RecipeError(
            f"{file}: {error} All features of a folder are computed in one form: remove {folder} "
            "to compute them anew."
        ) from error
