"""Jobs of an extraction: videos, settings, outcomes and their shards."""

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
from dualstream.jobs import Shard

Layout = Literal["store", "folders"]
"""One ZIP a video, or folders of images as denseflow and MMAction2 read them."""

Status = Literal["done", "kept", "failed"]


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


def shard_jobs(jobs: Sequence[FlowJob], shard: Shard) -> list[FlowJob]:
    """The jobs of one shard, by their frames where every job has a number of them; see `Shard`."""
    known = [job.num_frames for job in jobs if job.num_frames is not None]
    return shard.part(jobs, sizes=known if len(known) == len(jobs) else None)


def target_folders(jobs: Sequence[FlowJob], settings: FlowSettings) -> list[Path]:
    """Folders that will be written to; InputError if two jobs have one target."""
    first = next(iter(settings.roots))
    names: dict[str, str] = {}
    parents: dict[str, str] = {}
    for job in jobs:  # there may be millions: their paths are not kept as objects
        target = settings.target(job.name, first)
        key = str(target)
        if key in names:
            raise InputError(f"Videos {names[key]!r} and {job.name!r} both go to {key}.")
        names[key] = job.name
        parents.setdefault(str(target.parent), job.name)
    return sorted(
        {settings.target(name, d).parent for d in settings.roots for name in parents.values()}
    )
