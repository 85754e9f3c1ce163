"""Files: written whole or not at all, locks, text and JSON with clear errors, checksums, cache."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dualstream.errors import DiskError, DualstreamError, InputError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left, a quota used up, a file larger than the user or the file system may have."""


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep_suffix: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it becomes `path`.

    The new content is synced before the rename, so that a crash, a kill or a full disk leaves
    either the old file or the new one. When the block fails, the temporary file is removed.
    A killed process leaves a file named `.<name>.<random>.tmp`; with `keep_suffix` the suffix of
    `path` follows, for writers that tell the format by it.

    Raises:
        DiskError: the folder or the file may not be written, or the disk is full, whatever error
            the library that writes in the block makes of that.
    """
    target = Path(path)
    suffix = f".tmp{target.suffix if keep_suffix else ''}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix, f".{target.name}.", target.parent)
    except OSError as error:
        raise DiskError(error.errno, error.strerror, str(target)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; what users share follows their umask.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        try:
            temporary.replace(target)
        except OSError as error:
            raise DiskError(error.errno, error.strerror, str(target)) from error
    except BaseException as error:
        code = _full_disk_code(error, temporary)
        temporary.unlink(missing_ok=True)
        if code is not None:
            raise DiskError(code, os.strerror(code), str(target)) from error
        raise


def _full_disk_code(error: BaseException, temporary: Path) -> int | None:
    """One of FULL_DISK, or another errno of the system, if that is why nothing was written.

    Only Python's own writing raises OSError with an errno: safetensors has it in the text of its
    SafetensorError, torch.save raises a RuntimeError and numpy an OSError about numbers of bytes.
    """
    if not isinstance(error, Exception) or isinstance(error, DualstreamError):
        return None
    errno_of_it = getattr(error, "errno", None)
    for code in FULL_DISK:
        if errno_of_it == code or os.strerror(code) in str(error):
            return code
    if errno_of_it is None and temporary.exists():
        try:
            with temporary.open("ab") as file:  # 64 KiB more: the system's own word
                file.write(bytes(65536))
        except OSError as problem:
            return problem.errno
    return None


@contextmanager
def in_use(path: str | os.PathLike[str]) -> Iterator[bool | None]:
    """Lock a file or folder while the block runs; the system frees it when the process dies.

    Yields whether the lock was free; None on file systems that have no locks.
    """
    if sys.platform == "win32":  # open files cannot be removed there: nothing needs a lock
        yield True
        return
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    is_free: bool | None = True
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
        except OSError:
            is_free = None
        yield is_free
    finally:
        os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text through `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(
    path: str | os.PathLike[str],
    *,
    error: type[DualstreamError] = InputError,
    remedy: str = "Save the file as UTF-8.",
) -> str:
    """Return the text of a UTF-8 file, with `\\n` at the end of each line.

    A byte-order mark is dropped; Windows and old Mac line ends are understood.

    Args:
        path: the file.
        error: class of the error that is raised.
        remedy: what to do about a file that is no text; the error ends with it.

    Raises:
        error: the file is missing, cannot be read, or is not UTF-8; the message names the line.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise error(f"{os.fspath(path)}: there is no such file.") from None
    except OSError as reason:
        raise error(f"{os.fspath(path)}: cannot be read ({reason.strerror}).") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        line = data.count(b"\n", 0, reason.start) + 1
        byte = data[reason.start]
        raise error(
            f"{os.fspath(path)}:{line}: byte 0x{byte:02x} is not UTF-8 text. {remedy}"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(
    path: str | os.PathLike[str],
    *,
    error: type[DualstreamError] = InputError,
    remedy: str = "Save the file as UTF-8.",
) -> list[str]:
    """Return the lines of a UTF-8 file without their ends; line i + 1 of the file is item i.

    Blanks at the end of a line are kept. Arguments and errors are those of `read_text`.
    """
    lines = read_text(path, error=error, remedy=remedy).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_json(
    path: str | os.PathLike[str],
    *,
    error: type[DualstreamError] = InputError,
    remedy: str = "Correct the file.",
) -> Any:
    """Return the value that a JSON file holds.

    Raises:
        error: as in `read_text`, or the file is not JSON; the message names the line.
    """
    text = read_text(path, error=error, remedy=remedy)
    try:
        return json.loads(text)
    except json.JSONDecodeError as reason:
        where = f"{os.fspath(path)}:{reason.lineno}"
        raise error(f"{where}: this is not JSON ({reason.msg}). {remedy}") from None
    except (RecursionError, ValueError) as reason:  # nested too deep, or a number too long
        raise error(f"{os.fspath(path)}: cannot be read as JSON ({reason}). {remedy}") from None


def read_csv(
    path: str | os.PathLike[str],
    *,
    error: type[DualstreamError] = InputError,
    strict: bool = True,
    delimiter: str = ",",
) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its last line, cells) of each row of a CSV file that is not blank.

    Args:
        path, error: as in `read_text`.
        strict: refuse text after a quoted cell, which is joined to the cell otherwise.
        delimiter: character between two cells.

    Raises:
        error: as in `read_text`, or a row that is not CSV; the message names the line.
    """
    try:
        with open(path, encoding="utf-8-sig") as lines:  # it may be larger than memory
            reader = csv.reader(lines, strict=strict, delimiter=delimiter)
            try:
                for cells in reader:
                    if any(cell.strip() for cell in cells):
                        yield reader.line_num, cells
            except csv.Error as reason:
                where = f"{os.fspath(path)}:{reader.line_num}"
                raise error(f"{where}: not a CSV row ({reason}).") from None
    except (OSError, UnicodeDecodeError):
        read_text(path, error=error)  # raises, and names the line
        raise


def first_line(path: str | os.PathLike[str]) -> str:
    """Return the first line of a file that is not empty; "" where there is none to be read.

    Bytes that are no text are replaced: it serves to tell a file's format.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return ""
    text = head.decode("utf-8-sig", errors="replace").replace("\r", "\n")
    return next((line.strip() for line in text.split("\n") if line.strip()), "")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the checksum of a file's bytes in lower-case hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return the folder of what can be fetched or computed again.

    It is $DUALSTREAM_CACHE, or else ~/.cache/dualstream.
    """
    given = os.environ.get("DUALSTREAM_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "dualstream"
