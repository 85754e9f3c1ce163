"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dualstream.atomic import replacing, write_text


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
