"""Journal of a long job: a JSON-lines file that grows by whole lines and outlives a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dualstream.errors import DiskError, InputError
from dualstream.files import in_use, read_json, replacing
from dualstream.version import __version__


class Journal:
    """A file of one line a source: JSON objects with `source`, and `error` where it failed.

    See `open_journal`.
    """

    def __init__(self, path: Path, kept: Mapping[str, str | None], file: IO[bytes]) -> None:
        self.path = path
        self.kept = kept
        """Source -> its error, None where it went well, of the lines that were there."""
        self._file = file

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write the line of a source; once this returns, a kill of the process leaves it whole.

        Raises:
            DiskError: it cannot be written.
        """
        with _told(self.path):
            self._file.write(json.dumps(entry).encode("ascii") + b"\n")
            self._file.flush()

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield what each line holds, one at a time."""
        for line in _whole_lines(self.path):
            yield json.loads(line)


def settings_path(path: Path) -> Path:
    """File beside a journal that says how its lines are made: `a.jsonl` -> `a.settings.json`."""
    return path.with_suffix(".settings.json")


@contextmanager
def open_journal(
    path: Path, settings: Mapping[str, Any], *, retry_failed: bool = False
) -> Iterator[Journal]:
    """Open a journal to go on with it, or begin it.

    What a killed process left of its last line is cut off. A file beside it (`settings_path`)
    holds the settings, and is locked meanwhile.

    Args:
        path: of the journal.
        settings: how lines are made, as JSON; those of the lines that are there must be equal.
        retry_failed: take out the lines of sources that failed.

    Raises:
        InputError: another process writes it, it was made with other settings, or it is no journal.
        DiskError: it cannot be written.
    """
    beside = settings_path(path)
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.open("ab").close()
    with in_use(beside) as is_free:
        if is_free is False:
            raise InputError(
                f"{path}: another process is writing it. Wait for its end, or give another file."
            )
        _check_settings(path, beside, settings)
        kept = _read(path)
        if retry_failed and any(error is not None for error in kept.values()):
            kept = _without_failed(path)
        with _told(path):
            file = path.open("ab")
        with file:
            yield Journal(path, kept, file)
            with _told(path):
                os.fsync(file.fileno())


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(error.errno, error.strerror, str(path)) from error


def _check_settings(path: Path, beside: Path, settings: Mapping[str, Any]) -> None:
    """Raise InputError where the journal's lines have other settings; without lines write them.

    Settings are written in place, as the file is the one that is locked: until the journal has a
    line they say nothing, and a half of them is written again.
    """
    wanted = json.loads(json.dumps(settings))
    if not path.exists() or path.stat().st_size == 0:
        with _told(beside):
            text = json.dumps({"version": __version__, "settings": wanted}, indent=1)
            beside.write_text(text + "\n", encoding="utf-8")
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            path.open("ab").close()
        return
    if beside.stat().st_size == 0:
        beside.unlink()
        raise InputError(
            f"{path} is there already, and {beside.name}, which says how it was made, is not. "
            "Give another file, or move this one away."
        )
    text = read_json(beside)
    found = text.get("settings", {}) if isinstance(text, dict) else {}
    differing = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    if differing:
        told = "; ".join(
            f"{key} was {json.dumps(found.get(key))}, now {json.dumps(wanted.get(key))}"
            for key in differing
        )
        raise InputError(
            f"{path} was made with other settings: {told}. Give another file for these, or the "
            "settings that it was made with to go on."
        )


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _read(path: Path) -> dict[str, str | None]:
    """Source -> error of the lines of a journal; what is half of a line is cut off."""
    kept: dict[str, str | None] = {}
    end = 0
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            entry = json.loads(line)
            source, error = entry["source"], entry.get("error")
            if not isinstance(source, str) or not isinstance(error, str | None):
                raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(
                f"{path}:{number}: this is not a line of a video. Remove it, or give another file."
            ) from None
        kept[source] = error
        end += len(line)
    if end < path.stat().st_size:
        with _told(path), path.open("rb+") as file:
            file.truncate(end)
    return kept


def _without_failed(path: Path) -> dict[str, str | None]:
    """Take the lines of failed sources out of a journal; return the others."""
    kept: dict[str, str | None] = {}
    with replacing(path) as temporary, temporary.open("wb") as file:
        for line in _whole_lines(path):
            entry = json.loads(line)
            if "error" not in entry:
                kept[entry["source"]] = None
                file.write(line)
    return kept
