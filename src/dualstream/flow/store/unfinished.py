"""Unfinished files and folders of a flow store; a lock shows that their writer still runs."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

from dualstream.files import in_use

Item = TypeVar("Item", str, Path)

_MOST_TRIES = 100

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")  # names that `tempfile` makes


@contextlib.contextmanager
def held(make: Callable[[], AbstractContextManager[Item]]) -> Iterator[Item]:
    """Make an unfinished file or folder and lock it, so that `remove_abandoned` leaves it.

    Another run that cleans up may find it before the lock and remove it: then it is made anew.

    Args:
        make: makes it anew at each call, and gives its path.
    """
    for _ in range(_MOST_TRIES):
        with contextlib.ExitStack() as stack:
            item: Item | None = None
            with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as attempt:
                made = attempt.enter_context(make())
                is_free = attempt.enter_context(in_use(made))
                if is_free is False or not os.path.exists(made):
                    raise FileNotFoundError  # so that it is not taken for a finished one
                stack.enter_context(attempt.pop_all())
                item = made
            if item is not None:
                yield item
                return
    raise FileNotFoundError(errno.ENOENT, "other runs removed it again and again")


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Make a new folder that takes the place of `path` when the block ends without an error.

    Its files are synced first. A folder cannot take another's place in one step: a kill between
    the two leaves neither, and the next run writes it again. After an OSError `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    make = partial(tempfile.TemporaryDirectory, ".tmp", f".{path.name}.", path.parent, True)
    with held(make) as name:
        temporary = Path(name, "new")
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        if path.exists():
            os.replace(path, Path(name, "old"))
        os.replace(temporary, path)


def remove_abandoned(folder: Path) -> int:
    """Remove what killed writers left in `folder`, not what a living one writes; give the count."""
    removed = 0
    for path in folder.glob(".*.tmp"):
        if not _TEMPORARY.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError), in_use(path) as free:
            if not free:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed += 1
    return removed
