"""Jobs of an extraction: videos, settings, outcomes and shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dualstream.errors import InputError
from dualstream.flow.methods.lookup import find_method
from dualstream.flow.methods.params import Direction, FlowParams
from dualstream.flow.methods.record import Method
from dualstream.flow.store.meta import FlowMeta
from dualstream.flow.store.store import FlowStore

Layout = Literal["store", "folders"]
"""One ZIP a video, or folders of images as denseflow and MMAction2 read them."""

Status = Literal["done", "kept", "failed"]


@dataclass(frozen=True)
class FlowJob:
    """One video whose flow is wanted."""

    name: str
    """Name in the store (manifest path)."""
    path: str
    """The video file."""
    sha256: str | None = None
    """SHA-256 of the file where it is known; the file is checked against it."""
    num_frames: int | None = None
    """Frames of the video where they are known; weighs it in shards and in progress."""


@dataclass(frozen=True)
class FlowOutcome:
    """Outcome of one job."""

    name: str
    status: Status
    """`kept`: the store had it already, complete and made in the same way."""
    num_fields: int
    seconds: float
    error: str | None = None
    """Why it failed."""
    is_store_full: bool = False
    """The store takes no more (disk or quota full, read-only): other videos would fail too."""


@dataclass(frozen=True)
class FlowSettings:
    """Settings of a run: how flow is made and where it goes."""

    roots: dict[Direction, Path]
    """Flow store of each direction that is wanted."""
    params: FlowParams | None
    """None for a method without settings."""
    device: str
    layout: Layout
    overwrite: bool
    template: FlowMeta
    """Facts that meta.json has of every video, but for its direction: method, bound, ..."""
    max_fields: int | None = None
    """End after about that many fields of each video; None computes all (see `estimate_flow`)."""

    @property
    def root(self) -> Path:
        """Flow store of the first direction."""
        return next(iter(self.roots.values()))

    def target(self, name: str, direction: Direction) -> Path:
        """Flow file or image folder of the video `name`."""
        store = FlowStore(self.roots[direction])
        return store.path(name) if self.layout == "store" else store.folder_path(name)

    @property
    def method(self) -> Method[Any]:
        """Record of the method."""
        return find_method(self.template.method)


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a list of jobs, counted from 1."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"A shard is i/n with i in 1..n, for instance 1/4; got {self}.")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/4` -> the second of four.

        Raises:
            InputError: another form, or a number out of range.
        """
        index, _, count = text.strip().partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise InputError(f"A shard is i/n with i in 1..n, for instance 1/4; got {text!r}.")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def shard_jobs(jobs: Sequence[FlowJob], shard: Shard) -> list[FlowJob]:
    """The jobs of one shard, in their order; the shards of one list share no job and leave none.

    Where every job has its number of frames, the longest videos are dealt out first, each to
    the shard that has the fewest frames so far (frames 9, 5, 4 in two shards: 9 | 5, 4). Else
    they are dealt out in turn. The same list gives the same shards on every machine.
    """
    if any(job.num_frames is None for job in jobs):
        return list(jobs[shard.index - 1 :: shard.count])
    order = sorted(range(len(jobs)), key=lambda n: (-(jobs[n].num_frames or 0), jobs[n].name))
    load = [0] * shard.count
    mine = []
    for n in order:
        lightest = load.index(min(load))
        load[lightest] += jobs[n].num_frames or 0
        if lightest == shard.index - 1:
            mine.append(n)
    return [jobs[n] for n in sorted(mine)]


def target_folders(jobs: Sequence[FlowJob], settings: FlowSettings) -> list[Path]:
    """Folders that will be written to; InputError if two jobs have one target."""
    names: dict[Path, str] = {}
    for direction in settings.roots:
        for job in jobs:
            target = settings.target(job.name, direction)
            if target in names:
                raise InputError(f"Videos {names[target]!r} and {job.name!r} both go to {target}.")
            names[target] = job.name
    return sorted({target.parent for target in names})
