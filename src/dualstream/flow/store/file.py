"""The flow of one video in one file: a ZIP of JPEG images, checked when opened and when read."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowStoreError, ShapeError
from dualstream.files import replacing
from dualstream.flow.store.fields import (
    META_NAME,
    FlowWriter,
    StoredFields,
    broken,
    check_source,
    checked_image,
    encode_image,
    stacked,
    stacked_size,
    write_errors,
)
from dualstream.flow.store.meta import FlowMeta
from dualstream.flow.store.unfinished import held

_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
# Checksum, stored size, size, bytes of name, extra field and comment, offset.
_ENTRY = struct.Struct("<16x3L3H8xL")

# What zipfile raises on a file that is truncated, overwritten, or of another kind.
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError),
    struct.error,
)


class FlowFile(StoredFields):
    """The stored flow of one video in a ZIP file.

    `open` checks the structure and reads `meta`; `read` checks the checksum of each image that
    it decodes; `verify` checks them all.
    """

    def __init__(self, path: Path, archive: _Archive, meta: FlowMeta) -> None:
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
        archive = _Archive(path)
        try:
            found = archive.count - 1
            meta = FlowMeta.from_json(archive.read(found, META_NAME), path=path)
            images = meta.num_fields * (2 if meta.format == 1 else 1)
            if found != images:
                raise broken(path, f"{found} images are there, {META_NAME} calls for {images}")
            check_source(path, meta, source_sha256)
        except BaseException:
            archive.close()
            raise
        return cls(path, archive, meta)

    def verify(self) -> None:
        """Check the checksum of every image; FlowStoreError names the first broken one."""
        for index in range(self.num_fields):
            self._members(index)

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def _members(self, index: int) -> list[tuple[str, bytes]]:
        """Names and contents of the images of a field."""
        planes = ("x_", "y_") if self.meta.format == 1 else ("",)
        names = [f"flow_{plane}{index:05d}.jpg" for plane in planes]
        first = index * len(names)
        return [(name, self._archive.read(first + i, name)) for i, name in enumerate(names)]

    def _read_field(self, index: int, out: NDArray[np.uint8]) -> None:
        height, width = out.shape[1:]
        size = (height, width) if self.meta.format == 1 else stacked_size(height, width)
        images = [
            checked_image(data, size=size, path=self.path, name=name)
            for name, data in self._members(index)
        ]
        out[0], out[1] = images[0][:height], images[-1][-height:]


@contextmanager
def writing_file(path: Path, meta: FlowMeta) -> Iterator[FlowWriter]:
    """`FlowStore.write` chunk by chunk: the file takes its place when the block ends well."""
    with (
        write_errors(path),
        held(partial(replacing, path)) as temporary,
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


class _Archive:
    """A ZIP of uncompressed members, of which a clip reads few; errors are FlowStoreError.

    Python's `zipfile` makes an object of every member when it opens a file, which takes as long as
    decoding several fields. In a file as this package writes it below 2 GiB and 65,535 members,
    the images' names are equally long and meta.json is last: the number of a member tells where
    its entry in the directory is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise FlowStoreError(
                f"{path} does not exist. Compute the flow with `dualstream flow`."
            ) from error
        except OSError as error:
            raise broken(path, str(error)) from error
        self._entries: dict[str, tuple[int, int, int]] | None = None
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            if not self._read_directory():
                self._entries = self._all_entries()
        except _ZIP_ERRORS as error:
            self._file.close()
            raise broken(path, str(error)) from error

    def read(self, number: int, name: str) -> bytes:
        """Content of the member `name`, most likely the one of that number; checks its checksum."""
        try:
            entry = self._entry(number, name)
            if entry is None:
                raise broken(self.path, f"{name} is missing")
            offset, size, checksum = entry
            self._file.seek(offset)
            start = _LOCAL.size + len(name.encode())
            data = self._exactly(start + size)
            signature, _, _, compression, *_, extra = _LOCAL.unpack_from(data)
            if signature != b"PK\3\4" or data[_LOCAL.size : start] != name.encode():
                raise ValueError("it does not begin with its name")
            if compression:
                raise ValueError("it is compressed")
            content = data[start + extra :] + (self._exactly(extra) if extra else b"")
        except _ZIP_ERRORS as error:
            raise broken(self.path, f"{name}: {error}") from error
        if zlib.crc32(content) != checksum:
            raise broken(self.path, f"the checksum of {name} is wrong")
        return content

    def close(self) -> None:
        self._file.close()

    def _exactly(self, count: int) -> bytes:
        # A broken size must not become as large a buffer.
        data = self._file.read(min(count, self._size))
        if len(data) != count:
            raise ValueError("the file ends before it")
        return data

    def _read_directory(self) -> bool:
        """Read the directory; False if only zipfile can."""
        self._file.seek(max(0, self._size - _END.size))
        end = self._file.read(_END.size)
        if len(end) < _END.size or end[:4] != b"PK\5\6":
            return False
        _, _, _, _, self.count, length, offset, comment = _END.unpack(end)
        if comment or self.count < 2 or offset + length + _END.size != self._size:
            return False
        self._file.seek(offset)
        self._directory = self._exactly(length)
        last = _ENTRY.size + len(META_NAME)
        self._entry_bytes = (length - last) // (self.count - 1)
        return True

    def _entry(self, number: int, name: str) -> tuple[int, int, int] | None:
        """Offset, size and checksum of a member, None if there is none of that name."""
        if self._entries is None:
            at = number * self._entry_bytes
            checksum, stored, size, *lengths, offset = _ENTRY.unpack_from(self._directory, at)
            at += _ENTRY.size
            found = self._directory[at : at + len(name)]
            if found == name.encode() and lengths == [len(name), 0, 0] and stored == size:
                return offset, size, checksum
            self._entries = self._all_entries()
        return self._entries.get(name)

    def _all_entries(self) -> dict[str, tuple[int, int, int]]:
        with zipfile.ZipFile(self.path) as archive:
            members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its members are compressed")
        self.count = len(members)
        return {
            member.filename: (member.header_offset, member.file_size, member.CRC)
            for member in members
        }
