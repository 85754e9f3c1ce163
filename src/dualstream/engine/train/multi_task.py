"""Multi-task training: one trunk, several data sets, a head for each.

The heads are the rows of one linear classifier, those of one data set after those of another: a
sample's loss is the cross entropy over the rows of its own data set, so that it reaches its own
head and the trunk, and no other head. The losses of the data sets, each a mean over its samples,
are summed. Any network serves that has a row of logits a class.

Source: Simonyan & Zisserman 2014, section 3.2 (multi-task learning): UCF-101 and HMDB-51 with a
softmax layer each on top of the last fully connected layer.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.nn import functional as F

from dualstream.clips.data.manifest import Manifest, folder_of_manifest
from dualstream.clips.dataset import JoinedDataset
from dualstream.clips.loader import MixedBatches
from dualstream.engine.datasets import Part
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.info import RunInfo
from dualstream.engine.train.module import TrainingModule
from dualstream.engine.train.run_data import RunData
from dualstream.errors import (
    AnnotationError,
    FlowStoreError,
    InputError,
    RecipeError,
    UnknownNameError,
    first_names,
)
from dualstream.models.network import Network

_log = logging.getLogger(__name__)


def named_folders(first: Path, also: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Data set -> folder of its manifest.

    Args:
        first: folder of the first data set, whose name is the folder's.
        also: of the others, a folder or "NAME=FOLDER".

    Raises:
        InputError: two data sets of one name, or a name that cannot be that of a folder.
    """
    folders = {first.name: first}
    for given in also:
        name, _, folder = str(given).rpartition("=")
        if not name or Path(given).exists():
            name, folder = "", str(given)
        place = folder_of_manifest(folder)
        name = name or place.name
        if name in folders:
            raise InputError(
                f"Two data sets are named {name!r}: {folders[name]} and {place}. Name the second "
                f"one: --also NAME={folder}"
            )
        folders[name] = place
    for name, place in folders.items() if also else ():
        if not re.fullmatch(r"[^/\\,\n]+", name) or not name.strip(". "):
            raise InputError(
                f"A data set cannot be named {name!r} ({place}). Give it a name without slashes "
                f"and commas: --also NAME={place}"
            )
    return folders


def samples_of_batch(
    batch_size: int, names: Sequence[str], shares: Mapping[str, float]
) -> dict[str, int]:
    """Samples of each data set in a batch, by their shares; rounded by the largest remainders.

    Args:
        batch_size: samples of the whole batch.
        names: the data sets.
        shares: see `DataSection.shares`.

    Raises:
        UnknownNameError: a share of another data set.
        RecipeError: a batch has no room for one of them.

    Example:
        10 of a and b, shares {a: 2} -> 6.67 and 3.33 -> 7 and 3.
    """
    for name in shares:
        if name not in names:
            raise UnknownNameError("data set in data.shares", name, names)
    parts = np.array([shares.get(name, 1.0) for name in names])
    exact = batch_size * parts / parts.sum()
    counts = np.floor(exact).astype(int)
    behind = np.argsort(counts - exact, kind="stable")
    counts[behind[: batch_size - counts.sum()]] += 1
    if not counts.all():
        lacking = names[int(np.argmin(counts))]
        raise RecipeError(
            f"A batch of {batch_size} samples has no room for one of {lacking}: raise "
            "train.batch_size, or its part in data.shares."
        )
    return dict(zip(names, counts.tolist(), strict=True))


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say of which data set an error is."""
    try:
        yield
    except (AnnotationError, FlowStoreError) as error:
        raise type(error)(f"Data set {name}: {error}") from error


@rank_zero_only
def tell_shared_classes(classes: Mapping[str, Sequence[str]]) -> None:
    """Log which data sets have classes of the same names.

    Args:
        classes: data set -> its class names.
    """
    for one, other in combinations(classes, 2):
        if shared := [name for name in classes[one] if name in set(classes[other])]:
            _log.warning(
                "%d classes stand in both %s and %s (%s). Each data set has its own head, where "
                "they stay its own.",
                len(shared),
                one,
                other,
                first_names(shared),
            )


class MultiTaskData(RunData):
    """The loaders of a run on several data sets, of batches that mix them.

    Args:
        recipe: the resolved recipe.
        manifest: all videos of the first data set.
        info: of the run's own folder.
        others: data of each further data set, in the order of `info.heads`.

    Raises:
        AnnotationError: no video of the first data set is left to train on.
        UnknownNameError, RecipeError: as `samples_of_batch`.
    """

    def __init__(
        self, recipe: Recipe, manifest: Manifest, info: RunInfo, *, others: Sequence[RunData]
    ) -> None:
        super().__init__(recipe, manifest, info)
        self.each: tuple[RunData, ...] = (self, *others)
        self.counts = samples_of_batch(recipe.train.batch_size, info.names, recipe.data.shares)
        """Data set -> its samples in a batch."""
        self.sizes: dict[Part, dict[str, int]] = {"train": self.counts}
        """Part -> data set -> its samples in what a mean is taken over: a batch, or all held-out
        videos."""
        if "held_out" in self.videos:
            held_out = [len(data.videos["held_out"]) for data in self.each]
            self.sizes["held_out"] = dict(zip(info.names, held_out, strict=True))

    def _batches(self, **process: int) -> MixedBatches:
        return MixedBatches(
            [[record.label for record in data.videos["train"].records] for data in self.each],
            counts=tuple(self.counts.values()),
            seed=self.recipe.train.seed,
            class_balanced=self.recipe.data.class_balanced,
            **process,
        )

    def _num_videos(self, part: Part) -> int:
        return sum(len(data.videos[part]) for data in self.each)

    def _samples(self, part: Part) -> JoinedDataset:
        datasets = [data._dataset(part, data.videos[part]) for data in self.each]
        seeds = [np.random.SeedSequence([self.recipe.train.seed, i]) for i in range(len(datasets))]
        return JoinedDataset(
            [  # with the same seed, the samples of one place would be cropped alike
                replace(dataset, seed=int(seed.generate_state(1)[0]))
                for dataset, seed in zip(datasets, seeds, strict=True)
            ]
        )


class MultiTaskModule(TrainingModule):
    """Trains one network with a head for each of several data sets.

    Args:
        recipe: the resolved recipe.
        model: network whose logits are those of all heads, (N, sum of K).
        heads: data set -> its K, in the order of the logits.
        sizes: see `MultiTaskData.sizes`.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Network,
        *,
        heads: Mapping[str, int],
        sizes: Mapping[Part, Mapping[str, int]],
    ) -> None:
        super().__init__(recipe, model)
        self.heads = heads
        self.sizes = sizes

    def of_heads(self, logits: Tensor, labels: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Logits (N, sum of K), labels (N,) over all heads -> those of each data set's samples.

        Returns:
            Data set -> logits (n, K) of its head, labels (n,) from 0; n may be 0.
        """
        found, first = {}, 0
        for name, count in self.heads.items():
            own = (labels >= first) & (labels < first + count)
            found[name] = logits[own, first : first + count], labels[own] - first
            first += count
        return found

    def _weights(self, part: Part) -> dict[str, float]:
        """Data set -> weight of a sample that makes the mean over all the sum of their means."""
        total = sum(self.sizes[part].values())
        return {name: total / size for name, size in self.sizes[part].items()}

    def cross_entropy(self, logits: Tensor, labels: Tensor, part: Part) -> Tensor:
        """Sum over the data sets of the mean cross entropy of their samples, each by its head.

        A process that sees its part of a batch gives its share, so that the mean over processes is
        the loss of the batch.
        """
        weights = self._weights(part)
        smoothing = self.recipe.train.label_smoothing if part == "train" else 0.0
        losses = [
            weights[name] * F.cross_entropy(own, to, reduction="sum", label_smoothing=smoothing)
            for name, (own, to) in self.of_heads(logits, labels).items()
        ]
        return torch.stack(losses).sum() / len(labels)

    def top1(self, logits: Tensor, labels: Tensor, part: Part) -> Tensor:
        """Mean over the data sets of the share of their labels that are right."""
        weights = self._weights(part)
        rights = [
            weights[name] * (own.argmax(dim=1) == to).float().sum()
            for name, (own, to) in self.of_heads(logits, labels).items()
        ]
        return torch.stack(rights).sum() / len(labels) / len(rights)

    def _log_means(
        self, part: Part, loss: Tensor, outputs: Mapping[str, Tensor], labels: Tensor
    ) -> None:
        """Log the same and the top-1 of each data set: `train_top1_NAME`."""
        super()._log_means(part, loss, outputs, labels)
        answer = next(iter(outputs.values()))
        for name, (own, to) in self.of_heads(answer, labels).items():
            # In every process at every step, as they meet to take the mean.
            right = (own.argmax(dim=1) == to).float().sum() / max(1, len(to))
            self.log(
                f"{part}_top1_{name}",
                right,
                on_epoch=True,
                on_step=False,
                batch_size=len(to),
                sync_dist=True,
            )
