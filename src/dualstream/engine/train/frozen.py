"""Training after frozen stages: their features are computed once for a few views of each video.

With `model.trainable: n` or `last_layer`, most of the work of an epoch repeats what the epoch
before did. `data.frozen_views: V` draws V random views of each training video before training,
sends them through the frozen parts and keeps the features; each epoch then draws one of them for
each video. The files lie under `frozen` beside the manifest and serve every run that would compute
the same: other splits, other learning rates.

MANIFEST/frozen/<hash of all that matters>/<video>.npy          (V, S, ...) float16
                                           <video>.labels.txt   label of each view
                                           form.txt             form of the network that gave them
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.dataset import SampleKey
from dualstream.clips.loader import EpochBatches, MixedBatches, make_loader
from dualstream.clips.transforms import normalize
from dualstream.engine.datasets import Part
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.info import RunInfo
from dualstream.engine.train.module import TrainingModule
from dualstream.engine.train.run_data import RunData
from dualstream.engine.train.run_folder import Listener, TrainProgress
from dualstream.errors import InputError, RecipeError
from dualstream.files import read_text, replacing, write_text
from dualstream.models.fastest import FastestForm
from dualstream.models.network import Network
from dualstream.models.weights import state_sha256
from dualstream.types import Clip
from dualstream.version import __version__

FORM_FILE = "form.txt"

LAYOUT = 2
"""Of the files; 1 had no labels."""

_OF_TRAINING = ("dropout", "checkpointing")
"""Options of networks that change nothing in the features of frozen stages."""


class FrozenModule(TrainingModule):
    """Trains the parts of a network that come after the frozen ones."""

    def __init__(self, recipe: Recipe, model: Network) -> None:
        super().__init__(recipe, model)
        self.num_parts = model.num_frozen_parts()

    def outputs_and_labels(
        self, network: nn.Module, batch: Any, *, absent: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits (N, K), means over the segments, and the labels (N,)."""
        assert isinstance(network, Network)
        features, labels = batch  # (N, S, ...), (N,)
        logits = network.finish(features.flatten(0, 1).float(), parts=self.num_parts)  # (N*S, K)
        answer = logits.reshape(*features.shape[:2], -1).mean(dim=1)
        return {network.heads[0]: answer}, labels


class FrozenData(RunData):
    """The loaders of a run, of features instead of clips.

    Args:
        recipe, manifest, info: see `RunData`.
        model: whose frozen parts are meant, made and frozen as the recipe says (`check_frozen`).
        listener: called after every video of which features were computed or found.
    """

    def __init__(
        self,
        recipe: Recipe,
        manifest: Manifest,
        info: RunInfo,
        *,
        model: Network,
        listener: Listener | None,
    ) -> None:
        super().__init__(recipe, manifest, info)
        self.manifest = manifest
        self.model = model
        self._listener = listener
        self._folders: dict[Part, Path] = {}

    def setup(self, stage: str) -> None:
        """Compute the features that are not there yet; several processes share the work."""
        assert self.trainer is not None
        frozen = FrozenParts(self.model).to(self.trainer.strategy.root_device)
        begin = FastestForm(frozen, name=self.model.name)
        own = slice(self.trainer.global_rank, None, self.trainer.world_size)
        names = {part: videos[own] for part, videos in self._names().items()}
        done, total = 0, sum(map(len, names.values()))
        for part, videos in names.items():
            self._folders[part] = self._folder(part, frozen)
            for _ in self._computed(part, videos, begin):
                done += 1
                if self._listener is not None:
                    epochs = self.recipe.train.epochs
                    self._listener(TrainProgress(0, epochs, done, total, phase="frozen stages"))
        self.trainer.strategy.barrier()

    def _computed(self, part: Part, names: list[str], begin: FastestForm) -> Iterator[str]:
        """Send views of videos through the frozen parts; yield each video whose features are kept.

        Those whose file is there are passed over, so a stopped run goes on, and runs side by side
        share the work. All files of a folder are computed in one form of the network: the forms
        differ in their last digits, and which of them is the fastest may differ from one run to
        the next.

        Raises:
            VideoError, FlowStoreError: a video cannot be read.
            RecipeError: a feature is beyond float16, or the form of the folder cannot run here.
        """
        assert self.trainer is not None
        # Of the whole manifest: what is drawn for a video is the same for every split.
        dataset, folder = self._dataset(part, self.manifest), self._folders[part]
        places = {record.name: i for i, record in enumerate(self.manifest.records)}
        ((stream_name, stream),) = dataset.spec.streams.items()
        device = self.trainer.strategy.root_device

        def network_input(clip: Clip) -> Tensor:
            """Of a sample, or a batch of one video: (S, C, T, H, W)."""
            return normalize(clip.data[stream_name].to(device), stream).flatten(0, -5)

        form = folder / FORM_FILE
        if self.trainer.is_global_zero and names and not form.is_file():
            clips = network_input(dataset[(0, places[names[0]])])
            write_text(form, f"{begin.serving(clips)}\n")
        self.trainer.strategy.barrier()
        missing = [name for name in names if not feature_path(folder, name).is_file()]
        yield from (name for name in names if name not in set(missing))
        count = self.recipe.data.frozen_views if part == "train" else 1
        keys = [[(view, places[name])] for name in missing for view in range(count)]
        batches = iter(make_loader(dataset, keys, workers=self.recipe.data.workers))
        is_fixed = False
        for name in missing:
            views = [next(batches) for _ in range(count)]
            if feature_path(folder, name).is_file():  # a run beside this one has been there
                yield name
                continue
            inputs = [network_input(view) for view in views]
            if not is_fixed:
                _fix_form(begin, form, inputs[0])
                is_fixed = True
            features = torch.stack([begin(clips).half().cpu() for clips in inputs])  # (V, S, ...)
            if not features.isfinite().all():
                raise RecipeError(
                    f"The frozen stages give values for {name} that float16 cannot hold: set "
                    "data.frozen_views=0."
                )
            labels = " ".join(str(view.label.item()) for view in views)
            write_text(_label_path(folder, name), f"{labels}\n")
            with replacing(feature_path(folder, name), keep_suffix=True) as temporary:
                np.save(temporary, features.numpy())
            yield name

    def _names(self) -> dict[Part, list[str]]:
        """Part -> its videos; where epochs are cut (`limit`) only those that will be drawn."""
        names: dict[Part, list[str]] = {
            part: [record.name for record in videos.records] for part, videos in self.videos.items()
        }
        if self.info.limit is not None:
            drawn, batches = set(), self._batches()
            for epoch in range(self.recipe.train.epochs):
                batches.set_epoch(epoch)
                for batch in itertools.islice(batches, self.info.limit):
                    drawn |= {index % len(names["train"]) for _, index in batch}
            names["train"] = [names["train"][index] for index in sorted(drawn)]
        return names

    def _folder(self, part: Part, frozen: FrozenParts) -> Path:
        """Folder of the features; the same for every run that would compute the same."""
        recipe, info, is_training = self.recipe, self.info, part == "train"
        state = nn.ModuleList(self.model.parts()[: frozen.num_parts]).state_dict()
        options = {k: v for k, v in recipe.model.options.items() if k not in _OF_TRAINING}
        saved = recipe.model_dump(mode="json", include={"clip", "inputs", "augment"})
        matters = {
            "version": [__version__, LAYOUT],
            "weights": state_sha256({name: value.cpu() for name, value in state.items()}),
            "network": [recipe.model.name, options, frozen.num_parts],
            "device": next(frozen.parameters()).device.type,
            "clip": saved["clip"],
            "inputs": saved["inputs"],
            "augment": saved["augment"] if is_training else None,
            "segments": recipe.train.segments,
            "seed": recipe.train.seed if is_training else None,
            "views": recipe.data.frozen_views if is_training else 1,
            "flow": {name: asdict(origin) for name, origin in info.flow.items()},
            "manifest": info.manifest_sha256,
        }
        digest = hashlib.sha256(json.dumps(matters, sort_keys=True).encode()).hexdigest()
        return Path(info.manifest) / "frozen" / digest[:16]

    def _loader(self, part: Part, batches: EpochBatches | MixedBatches) -> DataLoader[Any]:
        seed = self.recipe.train.seed
        dataset = FrozenDataset(self.videos[part], self._folders[part], seed=seed)
        return DataLoader(dataset, batch_sampler=batches)


class FrozenDataset(Dataset[tuple[Tensor, int]]):
    """One of the kept views of each video: `dataset[(epoch, index)]`, drawn by seed and key.

    Gives features (S, ...) float16 and the label of the view, which is another than the video's
    where the view is mirrored and the class is one of left and right.
    """

    def __init__(self, videos: Manifest, folder: Path, *, seed: int) -> None:
        self.videos = videos
        self.folder = folder
        self.seed = seed

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, int]:
        epoch, index = key
        record = self.videos.records[index % len(self)]
        views = np.load(feature_path(self.folder, record.name), mmap_mode="r")  # (V, S, ...)
        view = np.random.default_rng([self.seed, epoch, index]).integers(len(views))
        labels = read_text(_label_path(self.folder, record.name), error=RecipeError).split()
        return torch.from_numpy(views[view].copy()), int(labels[view])


def check_frozen(model: Network, recipe: Recipe) -> None:
    """Check that a network has frozen parts to keep the features of.

    Raises:
        RecipeError: it has not.
    """
    if not model.parts():
        raise RecipeError(
            f"data.frozen_views needs a network that is a chain of parts, {model.name} is not. "
            "Set data.frozen_views=0."
        )
    if not model.num_frozen_parts():
        raise RecipeError(
            "data.frozen_views needs frozen stages: set model.trainable to last_layer or to a "
            f"number of last stages, got {recipe.model.trainable}."
        )


def _fix_form(begin: FastestForm, file: Path, clips: Tensor) -> None:
    """Run the frozen parts in the form that the file of a folder names."""
    try:
        begin.fix(read_text(file, error=RecipeError).strip(), clips)
    except InputError as error:
        raise RecipeError(
            f"{file}: {error} All features of a folder are computed in one form: remove "
            f"{file.parent} to compute them anew."
        ) from error


def feature_path(folder: Path, name: str) -> Path:
    """File of the video `name`: `a/b.mp4` -> `<folder>/a/b.mp4.npy`."""
    return folder / f"{name}.npy"


def _label_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.labels.txt"


class FrozenParts(nn.Module):
    """A copy of a network's frozen parts."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.num_parts = model.num_frozen_parts()
        self.eval()

    def forward(self, clips: Tensor) -> Tensor:
        """(S, C, T, H, W) -> the features that the next part takes: (S, ...)."""
        return self.model.begin(clips, parts=self.num_parts)
