"""The flow of one video in one file: a ZIP of JPEG images, checked when opened and when read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import ShapeError
from dualstream.files import replacing
from dualstream.flow.store.archive import Archive
from dualstream.flow.store.fields import (
    META_NAME,
    FlowWriter,
    StoredFields,
    broken,
    check_source,
    checked_image,
    write_errors,
)
from dualstream.flow.store.jpeg import encode_image, stacked, stacked_size, unstack
from dualstream.flow.store.meta import FlowMeta
from dualstream.flow.store.unfinished import in_use


class FlowFile(StoredFields):
    """The stored flow of one video in a ZIP file.

    `open` checks the structure and reads `meta`; `read` checks the checksum of each image that
    it decodes; `verify` checks them all.
    """

    def __init__(self, path: Path, archive: Archive, meta: FlowMeta) -> None:
        super().__init__(path, meta)
        self._archive = archive

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, source_sha256: str | None = None) -> FlowFile:
        """Open a flow file of format 1 or 2.

        Args:
            path: the ZIP file.
            source_sha256: SHA-256 of the video that the flow should belong to; None takes any.

        Raises:
            FlowStoreError: the file is missing, broken, not a flow file, or of another video.
        """
        path = Path(path)
        archive = Archive(path)
        try:
            meta = FlowMeta.from_json(archive.read(META_NAME), path=path)
            found, images = len(archive.names) - 1, meta.num_fields * (2 if meta.format == 1 else 1)
            if found != images:
                raise broken(path, f"{found} images are there, {META_NAME} calls for {images}")
            check_source(path, meta, source_sha256)
        except BaseException:
            archive.close()
            raise
        return cls(path, archive, meta)

    def verify(self) -> None:
        """Check the checksum of every member; FlowStoreError names the first broken one."""
        for name in self._archive.names:
            self._archive.read(name)

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def _read_field(self, index: int, out: NDArray[np.uint8]) -> None:
        size = out.shape[1], out.shape[2]
        if self.meta.format == 1:
            for plane, channel in zip("xy", out, strict=True):
                channel[:] = self._image(f"flow_{plane}_{index:05d}.jpg", size)
        else:
            unstack(self._image(f"flow_{index:05d}.jpg", stacked_size(*size)), out)

    def _image(self, name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
        data = self._archive.read(name)
        return checked_image(data, size=size, path=self.path, name=name)


@contextmanager
def writing_file(path: Path, meta: FlowMeta) -> Iterator[FlowWriter]:
    """Write a flow file of format 2 chunk by chunk; it takes its place when the block ends well.

    Raises:
        ShapeError: a chunk has another shape or size than the first, or holds no bytes.
        FlowStoreError: no field came, or the file cannot be written (disk full, no right).
    """
    with (
        write_errors(path),
        replacing(path) as temporary,
        in_use(temporary),
        zipfile.ZipFile(temporary, "w") as archive,
    ):

        def put(index: int, field: NDArray[np.generic]) -> None:
            if field.dtype != np.uint8:
                raise ShapeError(
                    f"A flow file holds uint8 fields (see `quantize`), got {field.dtype}."
                )
            image = stacked(field.astype(np.uint8, copy=False))
            # ZipInfo without a date: the same video gives the same file, byte for byte.
            member = zipfile.ZipInfo(f"flow_{index:05d}.jpg")
            archive.writestr(member, encode_image(image, quality=meta.quality))

        writer = FlowWriter(path, meta, put)
        yield writer
        archive.writestr(zipfile.ZipInfo(META_NAME), writer.finish().to_json())
