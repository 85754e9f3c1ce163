"""The flow of one video in one file: a ZIP of JPEG images, checked when opened and when read."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
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
    unstack,
    write_errors,
)
from dualstream.flow.store.meta import FlowMeta
from dualstream.flow.store.unfinished import in_use

_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = [
    ("signature", "S4"),
    ("before", "V12"),  # versions, flags, compression, time
    ("checksum", "<u4"),
    ("stored", "<u4"),
    ("size", "<u4"),
    ("lengths", "<u2", 3),  # of name, extra field and comment
    ("place", "V8"),
    ("offset", "<u4"),
]
_ENTRY_BYTES = np.dtype(_ENTRY).itemsize

# What zipfile raises on a file that is truncated, overwritten, or of another kind.
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError)


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
    """`FlowStore.write` chunk by chunk: the file takes its place when the block ends well."""
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


class _Archive:
    """A ZIP of uncompressed members, of which a clip reads few; errors are FlowStoreError.

    Python's `zipfile` makes an object of every member when it opens a file, which takes as long as
    decoding several fields. Here the directory is read as one table.
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
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            self.names, self._table = self._regular_directory() or self._any_directory()
        except _ZIP_ERRORS as error:
            self._file.close()
            raise broken(path, str(error)) from error

    def read(self, name: str) -> bytes:
        """Content of a member, its checksum verified."""
        number = _numbers(self.names).get(name)
        if number is None:
            raise broken(self.path, f"{name} is missing")
        offset, size, checksum = (int(value) for value in self._table[number])
        try:
            self._file.seek(offset)
            start = _LOCAL.size + len(name.encode())
            data = self._exactly(start + size)
            signature, _, _, compression, *_, extra = _LOCAL.unpack_from(data)
            if signature != b"PK\3\4" or data[_LOCAL.size : start] != name.encode():
                raise ValueError("it does not begin with its name")
            if compression:
                raise ValueError("it is compressed")
            content = data[start + extra :] + (self._exactly(extra) if extra else b"")
        except (OSError, ValueError, struct.error) as error:
            raise broken(self.path, f"{name}: {error}") from error
        if zlib.crc32(content) != checksum:
            raise broken(self.path, f"the checksum of {name} is wrong")
        return content

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _exactly(self, count: int) -> bytes:
        # A broken size must not become as large a buffer.
        data = self._file.read(min(count, self._size))
        if len(data) != count:
            raise ValueError("the file ends before it")
        return data

    def _regular_directory(self) -> tuple[tuple[str, ...], NDArray[np.int64]] | None:
        """Names, and (offset, size, checksum) of each member, of a file as this package writes
        it below 2 GiB and 65,535 members: equally long names without extra fields, then
        meta.json. None for another."""
        self._file.seek(max(0, self._size - _END.size))
        end = self._file.read(_END.size)
        if len(end) < _END.size or end[:4] != b"PK\5\6":
            return None
        _, _, _, _, count, length, offset, comment = _END.unpack(end)
        last = _ENTRY_BYTES + len("meta.json")
        each, rest = divmod(length - last, max(1, count - 1))
        if comment or rest or not 0 < each - _ENTRY_BYTES < 64:
            return None
        if count < 2 or offset + length + _END.size != self._size:
            return None
        self._file.seek(offset)
        data = self._exactly(length)
        width = each - _ENTRY_BYTES
        images = np.frombuffer(data, _entry(width), count - 1)
        meta = np.frombuffer(data, _entry(len("meta.json")), 1, offset=length - last)
        for table, name_bytes in ((images, width), (meta, len("meta.json"))):
            if (table["lengths"] != (name_bytes, 0, 0)).any():
                return None
            if (table["stored"] != table["size"]).any():
                return None
        names = _decoded(images["name"].tobytes(), width)
        rows = [np.concatenate((images[c], meta[c])) for c in ("offset", "size", "checksum")]
        facts = np.stack(rows, -1).astype(np.int64)
        return (*names, meta["name"][0].decode()), facts

    def _any_directory(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        with zipfile.ZipFile(self.path) as archive:
            members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its members are compressed")
        table = [(member.header_offset, member.file_size, member.CRC) for member in members]
        return tuple(member.filename for member in members), np.array(table, np.int64)


@lru_cache(maxsize=8)
def _entry(name_bytes: int) -> np.dtype[np.void]:
    return np.dtype([*_ENTRY, ("name", f"S{name_bytes}")])


@lru_cache(maxsize=64)
def _decoded(names: bytes, width: int) -> tuple[str, ...]:
    """Names of `width` bytes each; most videos of a data set share them with another."""
    text = names.decode("ascii")
    return tuple(text[at : at + width] for at in range(0, len(text), width))


@lru_cache(maxsize=64)
def _numbers(names: tuple[str, ...]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}
