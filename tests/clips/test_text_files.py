"""Text files of a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualstream.clips.text_files import first_line, read_lines
from dualstream.errors import AnnotationError


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\r", ["a", "b"]),
        (b"\xef\xbb\xbfa 1 \n\nb\n", ["a 1 ", "", "b"]),
        ("v_été\u2028x.avi\n".encode(), ["v_été\u2028x.avi"]),
    ],
)
def test_read_lines(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    assert read_lines(file) == lines


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"good\nbad \xe9t\xe9\n")
    with pytest.raises(AnnotationError, match=r"a\.txt:2: byte 0xe9 is not UTF-8"):
        read_lines(file)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"a\.txt: there is no such file"):
        read_lines(tmp_path / "a.txt")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_lines(tmp_path)


def test_first_line_reads_anything(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbf\r\n  \r\n first \xff\r\nsecond")
    assert first_line(file) == "first \ufffd"
    file.write_bytes(b"\n\n")
    assert first_line(file) == ""
