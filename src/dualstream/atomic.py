"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dualstream.errors import DiskError, DualstreamError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left, a quota used up, a file larger than the user or the file system may have."""
PROBE_BYTES = 65536
"""Written after an unclear error to see whether the disk is full."""


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep_suffix: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it becomes `path`.

    The new content is synced before the rename, so that a crash, a kill or a full disk leaves
    either the old file or the new one. When the block fails, the temporary file is removed.
    A killed process leaves a file named `.<name>.<random>.tmp`; with `keep_suffix` the suffix of
    `path` follows, for writers that tell the format by it.

        with replacing("scores.npz") as temporary:
            temporary.write_bytes(content)

    Raises:
        DiskError: the folder may not be written in, or the disk is full, whatever error the
            library that writes in the block makes of that.
    """
    target = Path(path)
    temporary = _new_file_beside(target, suffix=target.suffix if keep_suffix else "")
    try:
        yield temporary
        _sync(temporary)
        # mkstemp makes files private; what users share follows their umask.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException as error:
        code = _full_disk_code(error, temporary)
        temporary.unlink(missing_ok=True)
        if code is not None:
            raise DiskError(code, os.strerror(code), str(target)) from error
        raise


def _new_file_beside(target: Path, *, suffix: str) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=f".tmp{suffix}"
        )
    except OSError as error:
        raise DiskError(error.errno, error.strerror, str(target)) from error
    os.close(handle)
    return Path(name)


def _full_disk_code(error: BaseException, temporary: Path) -> int | None:
    """One of FULL_DISK, or another errno of the system, if that is why nothing was written.

    Only Python's own writing raises OSError with an errno: safetensors has it in the text of its
    SafetensorError, torch.save raises a RuntimeError and numpy an OSError about numbers of bytes.
    """
    if not isinstance(error, Exception) or isinstance(error, DualstreamError):
        return None
    for code in FULL_DISK:
        if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
            return code
    if getattr(error, "errno", None) is None and temporary.exists():
        try:
            with temporary.open("ab") as file:  # the system's own word
                file.write(bytes(PROBE_BYTES))
        except OSError as problem:
            return problem.errno
    return None


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text through `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
