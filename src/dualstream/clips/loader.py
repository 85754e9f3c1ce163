"""Batches of an epoch and the workers that fill them.

The order of samples depends on (seed, epoch) only, and what is done to a sample on (seed, epoch,
index) only, so a run gives the same batches with any number of workers or processes.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import count
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, default_convert

from dualstream.clips.dataset import ClipDataset, JoinedDataset, SampleKey
from dualstream.errors import (
    DualstreamError,
    InputError,
    ShapeError,
    SharedMemoryError,
    check_least,
)
from dualstream.jobs import keep_freed_memory
from dualstream.types import Clip

LARGE_BATCH_BYTES = 64 * 2**20
"""Of batches above this, a worker prepares one ahead instead of two."""


@dataclass(eq=False)
class EpochBatches(Sampler[list[SampleKey]]):
    """The batches of one epoch, as lists of (epoch, index), for one of `world_size` processes.

    Batch b of an epoch holds the same samples whatever `world_size` is: process r takes every
    world_size-th of them from r on. Nothing is repeated to fill a batch, so an evaluation over
    several processes sees every sample once.

    Raises:
        InputError: numbers that do not fit together; the message says which.
    """

    labels: Sequence[int] | int
    """Class of each sample, or only their number."""
    _: KW_ONLY
    batch_size: int
    """Samples of one batch over all processes."""
    seed: int = 0
    """With the epoch, decides the order."""
    shuffle: bool = True
    """A new order each epoch; otherwise the data set's own."""
    class_balanced: bool = False
    """Draw each sample's class uniformly, then one of its samples (Simonyan & Zisserman 2014,
    section 5); an epoch has as many draws as there are samples. The r-th repetition of sample i in
    an epoch has the index i + r * number of samples, for which `ClipDataset` draws other random
    numbers."""
    drop_last: bool = False
    """Leave out a last batch that is not full."""
    rank: int = 0
    """Number of this process."""
    world_size: int = 1
    """Number of processes."""
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.num_samples = self.labels if isinstance(self.labels, int) else len(self.labels)
        if self.num_samples < 1:
            raise InputError("There are no samples to make batches of.")
        check_least(1, batch_size=self.batch_size, world_size=self.world_size)
        check_least(0, seed=self.seed)
        if not 0 <= self.rank < self.world_size:
            raise InputError(f"rank must lie in 0..{self.world_size - 1}, got {self.rank}.")
        if self.batch_size % self.world_size:
            raise InputError(
                f"batch_size ({self.batch_size}) counts the samples of all processes and must "
                f"be a multiple of world_size ({self.world_size})."
            )
        if self.class_balanced and (isinstance(self.labels, int) or not self.shuffle):
            raise InputError("class_balanced needs the samples' labels and shuffle=True.")
        if self.drop_last and self.num_samples < self.batch_size:
            raise InputError(
                f"drop_last leaves no batch: {self.num_samples} samples are fewer than "
                f"batch_size {self.batch_size}."
            )
        rest = self.num_samples % self.batch_size
        if self.shuffle and not self.drop_last and rest % self.world_size:
            raise InputError(
                f"The last batch has {rest} samples, which {self.world_size} processes cannot "
                "share equally: their gradients would count unequally. Use drop_last=True."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, from 0."""
        check_least(0, epoch=epoch)
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches that this process gets."""
        full, rest = divmod(self.num_samples, self.batch_size)
        return full + (rest > self.rank and not self.drop_last)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch = self.epoch
        order = self._order(epoch)
        for batch in range(len(self)):
            start = batch * self.batch_size
            mine = order[start : start + self.batch_size][self.rank :: self.world_size]
            yield [(epoch, int(index)) for index in mine]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.num_samples)
        rng = np.random.default_rng([self.seed, epoch])
        if not self.class_balanced:
            return rng.permutation(np.arange(self.num_samples))
        return _drawn_by_class(np.asarray(self.labels), self.num_samples, rng)


@dataclass(eq=False)
class MixedBatches(Sampler[list[SampleKey]]):
    """The batches of one epoch over several data sets, each with its part of every batch.

    An epoch is one pass over the first data set: as many whole batches as its samples fill, at
    least one. The others are drawn without repetition as far as they go, then once more; of one
    that an epoch does not use up, every epoch takes other samples. Indices are those of a
    `JoinedDataset`; the r-th repetition of its sample i has the index i + r * number of samples.
    What a batch holds depends on seed, epoch and batch only; of `world_size` processes each takes
    every world_size-th of its samples.

    Raises:
        InputError: numbers that do not fit together; the message says which.
    """

    labels: Sequence[Sequence[int]]
    """Class of each sample, for each data set."""
    _: KW_ONLY
    counts: Sequence[int]
    """Samples of each data set in a batch, over all processes."""
    seed: int = 0
    """With the epoch, decides the order."""
    class_balanced: bool = False
    """Draw each sample's class uniformly, then one of its samples."""
    rank: int = 0
    """Number of this process."""
    world_size: int = 1
    """Number of processes."""
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.labels) or not all(len(labels) for labels in self.labels):
            raise InputError("Mixed batches need samples and a count for each data set.")
        check_least(1, counts=min(self.counts), world_size=self.world_size)
        if not 0 <= self.rank < self.world_size:
            raise InputError(f"rank must lie in 0..{self.world_size - 1}, got {self.rank}.")
        if sum(self.counts) % self.world_size:
            raise InputError(
                f"A batch of {sum(self.counts)} samples cannot be shared equally by "
                f"{self.world_size} processes."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, from 0."""
        check_least(0, epoch=epoch)
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of an epoch, the same for every process."""
        return max(1, len(self.labels[0]) // self.counts[0])

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch = self.epoch
        orders = [self._order(epoch, which) for which in range(len(self.counts))]
        for batch in range(len(self)):
            parts = [
                order[batch * count : (batch + 1) * count]
                for order, count in zip(orders, self.counts, strict=True)
            ]
            mine = np.concatenate(parts)[self.rank :: self.world_size]
            yield [(epoch, int(index)) for index in mine]

    def _order(self, epoch: int, which: int) -> NDArray[np.int64]:
        """Indices of the samples of one data set, in the order in which the batches take them."""
        sizes = [len(labels) for labels in self.labels]
        size, needed = sizes[which], len(self) * self.counts[which]
        rng = np.random.default_rng([self.seed, epoch, which])
        if self.class_balanced:
            drawn = _drawn_by_class(np.asarray(self.labels[which]), needed, rng)
        else:
            passes = [rng.permutation(size) + size * r for r in range(-(-needed // size))]
            drawn = np.concatenate(passes)[:needed]
        repeats, inside = np.divmod(drawn, size)
        return np.asarray(inside + sum(sizes[:which]) + repeats * sum(sizes), np.int64)


def _drawn_by_class(
    labels: NDArray[np.int64], number: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw samples, their classes uniformly; the r-th repetition of i is i + r * len(labels)."""
    _, inverse = np.unique(labels, return_inverse=True)
    by_class = np.argsort(inverse, kind="stable")
    sizes = np.bincount(inverse)
    drawn = rng.integers(len(sizes), size=number)
    inside = rng.integers(sizes[drawn])
    order: NDArray[np.int64] = by_class[(np.cumsum(sizes) - sizes)[drawn] + inside]
    # How often each sample was drawn before: 5, 7, 5, 5 -> 0, 0, 1, 2.
    earlier: defaultdict[int, Iterator[int]] = defaultdict(count)
    repeats = np.array([next(earlier[index]) for index in order.tolist()], np.int64)
    return np.asarray(order + repeats * len(labels))


def collate(clips: Sequence[Clip]) -> Clip:
    """Join N samples to a batch: data (N, V, C, T, H, W), labels (N,), targets (N, K) if any.

    Raises:
        ShapeError: samples of different shapes, such as the windows of videos of different
            lengths; these need batch_size=1.
    """
    first = clips[0]
    shapes = [{stream: tuple(data.shape) for stream, data in c.data.items()} for c in clips]
    for clip, found in zip(clips, shapes, strict=True):
        for stream, shape in shapes[0].items():
            if found.get(stream) != shape:
                raise ShapeError(
                    f"{clip.name[0]} has {stream} of {found.get(stream)}, {first.name[0]} of "
                    f"{shape}: samples of different shapes need batch_size=1."
                )
    # In a worker, default_collate stacks straight into memory shared with the parent.
    data = {stream: default_collate([clip.data[stream] for clip in clips]) for stream in first.data}
    names = tuple(name for clip in clips for name in clip.name)
    each = [clip.targets for clip in clips if clip.targets is not None]
    targets = torch.stack(each) if each else None
    return Clip(data, torch.stack([clip.label for clip in clips]), names, targets)


class _Batches(Dataset[Clip | DualstreamError]):
    """Gives whole batches, or the error of one: torch would make it a printed traceback."""

    def __init__(self, dataset: ClipDataset | JoinedDataset) -> None:
        self._dataset = dataset

    def __getitems__(self, keys: list[SampleKey]) -> Clip | DualstreamError:
        try:
            return collate([self._dataset[key] for key in keys])
        except DualstreamError as error:
            return error


class _RaisingIterator(Iterator[Clip]):
    """Iterator over batches that raises a worker's error and can go on after it."""

    def __init__(self, inner: Iterator[Clip | DualstreamError]) -> None:
        self._inner = inner

    def __next__(self) -> Clip:
        try:
            batch = next(self._inner)
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            raise SharedMemoryError(
                "The reading processes have too little shared memory (/dev/shm) for their batches. "
                "Give them more (docker run --shm-size=2g), or read without processes: "
                "data.workers=0 in training, --workers 0 in `dualstream test`."
            ) from error
        if isinstance(batch, DualstreamError):
            raise batch
        return batch


class ClipLoader(DataLoader[Clip]):
    """torch's DataLoader of clips; an error of this package arrives as it was raised.

    After an error, `next` on the same iterator goes on with the following batch.
    """

    def __iter__(self) -> Any:
        return _RaisingIterator(super().__iter__())


def make_loader(
    dataset: ClipDataset | JoinedDataset,
    batches: EpochBatches | MixedBatches | Sequence[list[SampleKey]],
    *,
    workers: int,
    pin_memory: bool = False,
) -> ClipLoader:
    """Return a loader that fills the planned batches in `workers` processes, 0 for this one.

    Workers are forked from a small server process that has imported torch and OpenCV once
    (start method "forkserver"), or spawned where that is missing (Windows). Forking this process
    itself would be quicker by one import, but copies whatever locks its threads (OpenMP, logging,
    gloo, CUDA) hold at that moment. As with every such start method, a script that calls this
    at its top level needs `if __name__ == "__main__":`.

    Workers use one thread each and stay alive between epochs. Each prepares two batches ahead, or
    one where batches are large: 25 x 10 views of ten flow fields at 224 x 224 are 250 MB a video.

    Args:
        dataset: the samples.
        batches: which of them form a batch; `set_epoch` is called before each epoch.
        workers: number of processes.
        pin_memory: copy batches to page-locked memory, for GPUs.

    Raises:
        InputError: `workers` is negative.
    """
    check_least(0, workers=workers)
    batch_bytes = dataset.sample_bytes * len(next(iter(batches), []))
    return ClipLoader(
        _Batches(dataset),  # type: ignore[arg-type]  # errors are raised by ClipLoader
        batch_sampler=batches,
        collate_fn=default_convert,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        prefetch_factor=(1 if batch_bytes > LARGE_BATCH_BYTES else 2) if workers else None,
        worker_init_fn=_settle_worker,
        multiprocessing_context=_worker_context() if workers else None,
        # An own generator leaves torch's global random numbers, which a resumed run must find
        # as they were, untouched by the start of an iteration.
        generator=torch.Generator(),
    )


def _worker_context() -> Any:
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dualstream.clips.dataset"])
    return context


def _settle_worker(worker: int) -> None:
    keep_freed_memory()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
