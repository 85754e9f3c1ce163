"""The flow store: a folder with a flow file for each video."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowStoreError, InputError
from dualstream.flow.methods.params import Direction
from dualstream.flow.store.fields import check_indices
from dualstream.flow.store.file import FlowFile, writing_file
from dualstream.flow.store.folders import FlowFolder
from dualstream.flow.store.meta import FlowMeta
from dualstream.types import Flow


class FlowStore:
    """A folder of flow files whose names mirror the videos': `a/b.mp4` -> `a/b.mp4.zip`.

    Where a video has no flow file, a folder of flow images as denseflow and MMAction2 write
    them is read instead (`a/b/flow_x_00001.jpg`, see `FlowFolder`).

    Args:
        root: the folder; it need not exist yet.
        folder_bound_px: bound that such image folders were written with.
    """

    def __init__(self, root: str | os.PathLike[str], *, folder_bound_px: float = 20.0) -> None:
        self.root = Path(root)
        self.folder_bound_px = folder_bound_px

    def path(self, name: str) -> Path:
        """Flow file of the video `name` (a manifest path: posix, relative).

        Raises:
            InputError: the name is empty, absolute or leads out of the store.
        """
        video = PurePosixPath(name)
        if not video.parts or video.is_absolute() or ".." in video.parts:
            raise InputError(
                f"Video name {name!r} must be a relative path without '..', as in a manifest."
            )
        return self.root.joinpath(*video.parent.parts, f"{video.name}.zip")

    def folder_path(self, name: str) -> Path:
        """Image folder of the video `name`: `a/b.mp4` -> `a/b`."""
        return self.path(name).with_name(PurePosixPath(name).stem)

    def has(self, name: str) -> bool:
        """Whether there is flow of the video `name`, whatever is in it."""
        return self.path(name).exists() or FlowFolder.locate(self.root, name) is not None

    def open(self, name: str, *, source_sha256: str | None = None) -> FlowFile | FlowFolder:
        """Open the flow of the video `name`.

        Args:
            name: the video's name.
            source_sha256: SHA-256 of the video that the flow should belong to; None takes any.

        Raises:
            FlowStoreError: there is none, it is broken, or it belongs to another video.
        """
        path = self.path(name)
        folder = None if path.exists() else FlowFolder.locate(self.root, name)
        if folder is None:
            return FlowFile.open(path, source_sha256=source_sha256)
        return FlowFolder.open(folder, bound_px=self.folder_bound_px, source_sha256=source_sha256)

    def is_complete(self, name: str, meta: FlowMeta) -> bool:
        """Whether `name` has a flow file with every checksum right, made with the settings of
        `meta` and, where `meta.source_sha256` is given, from that video."""
        try:
            with FlowFile.open(self.path(name), source_sha256=meta.source_sha256) as file:
                if not file.meta.same_settings(meta):
                    return False
                file.verify()
        except FlowStoreError:
            return False
        return True

    def write(self, name: str, fields: Iterable[NDArray[np.uint8]], meta: FlowMeta) -> FlowMeta:
        """Write the flow file of the video `name`, whole or not at all.

        Args:
            name: the video's name.
            fields: chunks (n, 2, H, W) of bytes in order of time; n may differ.
            meta: everything but height, width and num_fields, which are counted here.

        Returns:
            The complete `meta` as written.

        Raises:
            ShapeError: a chunk has another shape or size than the first, or holds no bytes.
            FlowStoreError: no field came, or the file cannot be written (disk full, no right).
        """
        with writing_file(self.path(name), meta) as writer:
            for chunk in fields:
                writer.add(chunk)
        return writer.meta


class StoredFlow:
    """A `FlowSource` over what a store holds.

    Args:
        forward: what `FlowStore.open` gave.
        backward: the backward flow of the same video, where it is wanted too.
        fields: the part that is read, None for all: field i here is field `fields[i]` there.

    Raises:
        FlowStoreError: the two have another number of fields, size, or bound.
    """

    def __init__(
        self,
        forward: FlowFile | FlowFolder,
        backward: FlowFile | FlowFolder | None = None,
        *,
        fields: range | None = None,
    ) -> None:
        self.forward, self.backward = forward, backward
        self.size = forward.meta.height, forward.meta.width
        self._fields = range(forward.num_fields) if fields is None else fields
        self.num_fields = len(self._fields)
        for name in ("num_fields", "height", "width", "bound_px"):
            ours, theirs = (getattr(file.meta, name) for file in (forward, backward or forward))
            if backward is not None and ours != theirs:
                raise FlowStoreError(
                    f"{backward.path} has {name} {theirs}, the forward flow of the same video has "
                    f"{ours}. Run `dualstream flow --direction both` again."
                )

    def read(self, indices: Sequence[int], *, direction: Direction = "forward") -> Flow:
        """Fields `indices` as bytes, in any order and with repeats; see `FlowSource.read`.

        Raises:
            InputError: an index outside 0..num_fields - 1, or backward flow of a forward file.
            FlowStoreError: a field is broken.
        """
        file = self.forward if direction == "forward" else self.backward
        if file is None:
            raise InputError(
                f"{self.forward.path} holds forward flow only. Store backward flow with "
                "`dualstream flow --direction both`."
            )
        check_indices(indices, self.num_fields, str(file.path))
        stored = [self._fields[index] for index in indices]
        meta = file.meta
        return Flow(file.read(stored), meta.method, meta.source, meta.bound_px)
