"""Text files of a data set, whatever system they were written on."""

from __future__ import annotations

from pathlib import Path

from dualstream.errors import AnnotationError


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 text file without their ends; line i + 1 of the file is item i.

    A byte-order mark is dropped, Windows and old Mac line ends are understood, blanks at the
    end of a line are kept.

    Raises:
        AnnotationError: the file is missing, cannot be opened, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}).") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AnnotationError(
            f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8 text. "
            "Save the file as UTF-8."
        ) from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def first_line(path: Path) -> str:
    """First line of a file that is not empty, to tell its format by; "" where there is none."""
    with path.open("rb") as file:
        head = file.read(4096)
    text = head.decode("utf-8-sig", errors="replace").replace("\r", "\n")
    return next((line.strip() for line in text.split("\n") if line.strip()), "")
