"""Files and folders that are whole or not there: temporary name, sync, rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".flow-tmp"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an error.

    It is written beside `path` under a temporary name, locked as long as its writer lives (so
    that `remove_stale` leaves it alone), and removed when the block fails.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is as it was.
    """
    with _temporary(path.parent, lambda name: name.touch(exist_ok=False)) as temporary:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    _sync(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Make a new folder that takes the place of `path` when the block ends without an error.

    Files in it are synced. A folder cannot take another's place in one step: a kill between
    the two leaves neither, and the next run writes it again.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is as it was.
    """
    with _temporary(path.parent, Path.mkdir) as temporary:
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        if path.exists():
            old = _temporary_name(path.parent)
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    _sync(path.parent)


def remove_stale(folder: Path) -> int:
    """Remove what killed writers left under temporary names in `folder`; returns how many."""
    removed = 0
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError), _lock(path) as free:
            if free:
                _remove(path)
                removed += 1
    return removed


@contextlib.contextmanager
def _temporary(folder: Path, create: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or folder in `folder`, locked inside the block; gone after an error in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while True:
            path = _temporary_name(folder)
            create(path)
            # Before the lock holds, `remove_stale` of another run may take the new name away.
            with contextlib.suppress(FileNotFoundError):
                stack.enter_context(_lock(path))
                if path.exists():
                    break
        try:
            yield path
        except BaseException:
            _remove(path)
            raise


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold a lock on a file or folder; yields False where a living process holds it."""
    if sys.platform == "win32":  # an open file cannot be removed there, so nothing needs a lock
        yield True
        return
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or a file system without locks: then nothing is known
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _temporary_name(folder: Path) -> Path:
    return folder / f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Force a file or folder to the disk, where the system can."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
