"""Files appear whole or not at all; text, JSON and checksums are read in one way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dualstream.errors import AnnotationError, CheckpointError, InputError
from dualstream.files import (
    cache_folder,
    file_sha256,
    first_line,
    read_json,
    read_lines,
    read_text,
    replacing,
    write_text,
)


def test_a_new_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.npz"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".tmp"
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]


def test_the_suffix_can_be_kept(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.mp4", keep_suffix=True) as temporary:
        assert temporary.name.endswith(".tmp.mp4")
        temporary.write_bytes(b"whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fill_the_disk() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fill_the_disk()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


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
    assert read_lines(file, error=AnnotationError) == lines


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"good\nbad \xe9t\xe9\n")
    with pytest.raises(AnnotationError, match=r"a\.txt:2: byte 0xe9 is not UTF-8"):
        read_lines(file, error=AnnotationError)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"a\.txt: there is no such file"):
        read_lines(tmp_path / "a.txt", error=AnnotationError)
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_lines(tmp_path, error=AnnotationError)


def test_first_line_reads_anything(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbf\r\n  \r\n first \xff\r\nsecond")
    assert first_line(file) == "first \ufffd"
    file.write_bytes(b"\n\n")
    assert first_line(file) == ""


def test_text_has_the_callers_error_and_remedy(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\rc")
    assert read_text(file) == "a\nb\nc"
    file.write_bytes(b"a\n\xdc")
    with pytest.raises(CheckpointError, match=r"a\.txt:2: byte 0xdc is not UTF-8 .* Copy it\.$"):
        read_text(file, error=CheckpointError, remedy="Copy it.")


def test_json(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"a":\n [1, null]}')
    assert read_json(file) == {"a": [1, None]}
    file.write_text('{"a":\n [1, null}')
    with pytest.raises(InputError, match=r"a\.json:2: this is not JSON .* Copy it\.$"):
        read_json(file, remedy="Copy it.")
    file.write_text("[" * 100_000)
    with pytest.raises(InputError, match="nested too deep"):
        read_json(file)


def test_checksum_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        file_sha256(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("DUALSTREAM_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "dualstream"
