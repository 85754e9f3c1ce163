"""The flow store: one ZIP of JPEG planes for each video, checked when opened and when read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowStoreError, InputError, ShapeError
from dualstream.files import replacing
from dualstream.flow.abandoned import in_use
from dualstream.flow.folders import FlowFolder
from dualstream.flow.meta import FlowMeta
from dualstream.flow.planes import (
    META_NAME,
    PLANES,
    broken,
    check_chunk,
    check_indices,
    check_source,
    decode_plane,
    encode_plane,
    plane_name,
    read_fields,
)

# What zipfile raises on a file that is truncated, overwritten, or of another kind.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


class FlowFile:
    """The stored flow of one video, a context manager.

    `open` checks the structure and reads `meta`; `read` checks the checksum of each plane that
    it decodes; `verify` checks them all.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, meta: FlowMeta) -> None:
        self.path = path
        self.meta = meta
        self._archive = archive

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, source_sha256: str | None = None) -> FlowFile:
        """Open a flow file.

        Args:
            path: the ZIP file.
            source_sha256: SHA-256 of the video that the flow should belong to; None takes any.

        Raises:
            FlowStoreError: the file is missing, broken, not a flow file, or of another video.
        """
        path = Path(path)
        try:
            archive = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise FlowStoreError(
                f"{path} does not exist. Compute the flow with `dualstream flow`."
            ) from error
        except _ZIP_ERRORS as error:
            raise broken(path, str(error)) from error
        try:
            meta = _read_meta(path, archive)
            check_source(path, meta, source_sha256)
        except BaseException:
            archive.close()
            raise
        return cls(path, archive, meta)

    @property
    def num_fields(self) -> int:
        """Number of flow fields: frames of the video minus one."""
        return self.meta.num_fields

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Fields `indices`, in any order and with repeats, as stored bytes.

        Returns:
            (n, 2, H, W) uint8, x before y, in the mapping of `quantize` with `meta.bound_px`.

        Raises:
            InputError: an index outside 0..num_fields - 1.
            FlowStoreError: a plane is broken.
        """
        check_indices(self.path, indices, self.num_fields)
        return read_fields(self._plane, indices, self.meta)

    def verify(self) -> None:
        """Check the checksum of every member; FlowStoreError names the first broken one."""
        try:
            bad = self._archive.testzip()
        except _ZIP_ERRORS as error:
            raise broken(self.path, str(error)) from error
        if bad is not None:
            raise broken(self.path, f"the checksum of {bad} is wrong")

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def __enter__(self) -> FlowFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FlowFile({str(self.path)!r}, num_fields={self.num_fields})"

    def _plane(self, plane: str, index: int) -> NDArray[np.uint8]:
        name = plane_name(plane, index)
        try:
            data = self._archive.read(name)
        except _ZIP_ERRORS as error:
            raise broken(self.path, f"{name}: {error}") from error
        size = (self.meta.height, self.meta.width)
        return decode_plane(data, size=size, path=self.path, name=name)


StoredFlow = FlowFile | FlowFolder
"""What a store opens: both have `meta`, `num_fields`, `read`, `verify` and `close`."""


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
        parts = _name_parts(name)
        return self.root.joinpath(*parts[:-1], f"{parts[-1]}.zip")

    def folder_path(self, name: str) -> Path:
        """Where the image folder of `name` is written: `a/b.mp4` -> `a/b`."""
        parts = _name_parts(name)
        return self.root.joinpath(*parts[:-1], PurePosixPath(parts[-1]).stem)

    def open(self, name: str, *, source_sha256: str | None = None) -> StoredFlow:
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
        path = self.path(name)
        try:
            with (
                replacing(path) as temporary,
                in_use(temporary),
                zipfile.ZipFile(temporary, "w") as archive,
            ):
                size, count = _write_planes(archive, fields, quality=meta.quality)
                if size is None or not count:
                    raise FlowStoreError(f"{path}: there is no flow field to write.")
                meta = replace(meta, height=size[0], width=size[1], num_fields=count)
                archive.writestr(zipfile.ZipInfo(META_NAME), meta.to_json())
        except OSError as error:
            raise FlowStoreError(
                f"{path} cannot be written: {error.strerror or error}. Nothing was left there."
            ) from error
        return meta


def _name_parts(name: str) -> tuple[str, ...]:
    video = PurePosixPath(name)
    if not video.parts or video.is_absolute() or ".." in video.parts:
        raise InputError(
            f"Video name {name!r} must be a relative path without '..', as in a manifest."
        )
    return video.parts


def _read_meta(path: Path, archive: zipfile.ZipFile) -> FlowMeta:
    try:
        text = archive.read(META_NAME)
    except _ZIP_ERRORS as error:
        raise broken(path, f"{META_NAME}: {error}") from error
    meta = FlowMeta.from_json(text, path=path)
    planes = len(archive.namelist()) - 1
    if planes != 2 * meta.num_fields:
        raise broken(path, f"{planes} planes are there, {META_NAME} tells of {meta.num_fields} x 2")
    return meta


def _write_planes(
    archive: zipfile.ZipFile, fields: Iterable[NDArray[np.uint8]], *, quality: int
) -> tuple[tuple[int, int] | None, int]:
    """Write every plane; returns ((H, W), number of fields)."""
    size: tuple[int, int] | None = None
    count = 0
    for chunk in fields:
        size = check_chunk(chunk, size)
        if chunk.dtype != np.uint8:
            raise ShapeError(f"A flow file holds uint8 fields (see `quantize`), got {chunk.dtype}.")
        for field in chunk:
            for plane, image in zip(PLANES, field, strict=True):
                # ZipInfo without a date: the same video gives the same file, byte for byte.
                member = zipfile.ZipInfo(plane_name(plane, count))
                archive.writestr(member, encode_plane(image, quality=quality))
            count += 1
    return size, count
