"""Unfinished files and folders of a flow store; a lock shows that their writer still runs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dualstream.files import in_use

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")  # names that `tempfile` makes


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Make a new folder that takes the place of `path` when the block ends without an error.

    Its files are synced first. A folder cannot take another's place in one step: a kill between
    the two leaves neither, and the next run writes it again. After an OSError `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(".tmp", f".{path.name}.", path.parent, True) as name,
        in_use(Path(name)),
    ):
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
