"""Files appear whole or not at all; text, JSON and checksums are read in one way."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dualstream.errors import (
    AnnotationError,
    CheckpointError,
    DiskError,
    DualstreamError,
    InputError,
)
from dualstream.files import (
    cache_folder,
    file_sha256,
    first_line,
    in_use,
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


@pytest.fixture
def no_large_files() -> Iterator[None]:
    """No file of this process may have more than 64 KiB: a full disk that needs no root."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(100_000))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.usefixtures("no_large_files")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(400_000)),
        save_array,
        lambda path: torch.save({"a": torch.zeros(100_000)}, path),
        lambda path: save_file({"a": torch.zeros(100_000)}, path),
    ],
    ids=["python", "numpy", "torch", "safetensors"],
)
def test_a_full_disk_is_named_whoever_writes(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    def fill() -> None:
        with replacing(path) as temporary:
            write(temporary)

    with pytest.raises(DiskError, match="cannot be written") as raised:
        fill()
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(path))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_what_to_do() -> None:
    full = DiskError(errno.ENOSPC, "No space left on device", "runs/a/model.safetensors")
    assert str(full) == (
        "runs/a/model.safetensors: cannot be written (No space left on device). Free space there, "
        "then try again."
    )


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="Choose another place") as raised:
        write_text(tmp_path / "file" / "a.txt", "text")
    assert raised.value.filename == str(tmp_path / "file" / "a.txt")


def test_other_errors_of_the_block_come_through(tmp_path: Path) -> None:
    for error in (
        ValueError("a number"),
        FileNotFoundError(2, "not there", "x"),
        DualstreamError(),
    ):

        def fail(error: Exception = error) -> None:
            with replacing(tmp_path / "a.txt"):
                raise error

        with pytest.raises(type(error)) as raised:
            fail()
        assert raised.value is error
    assert list(tmp_path.iterdir()) == []


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
    assert first_line(tmp_path) == ""


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
    with pytest.raises(InputError, match=r"a\.json: cannot be read as JSON .*recursion"):
        read_json(file)
    file.write_text("1" * 5000)
    with pytest.raises(InputError, match=r"a\.json: cannot be read as JSON .*4300 digits"):
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows protects open files itself")
def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with in_use(tmp_path) as first, in_use(tmp_path) as second:
        assert (first, second) == (True, False)
    with in_use(tmp_path) as again:
        assert again is True
