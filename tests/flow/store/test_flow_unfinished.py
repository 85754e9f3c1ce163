"""Unfinished files and folders."""

import subprocess
import sys

import numpy as np
import pytest

from dualstream.files import in_use
from dualstream.flow.store.file import writing_file
from dualstream.flow.store.folders import writing_folder
from dualstream.flow.store.meta import FlowMeta
from dualstream.flow.store.unfinished import remove_abandoned, replacing_folder


def test_what_no_one_writes_any_more_is_removed(tmp_path):
    (tmp_path / ".a.mp4.zip.abcd1234.tmp").write_bytes(b"half")
    folder = tmp_path / ".b.abcd_234.tmp"
    folder.mkdir()
    (folder / "flow_x_00001.jpg").write_bytes(b"half")
    for kept in ("a.mp4.zip", "notes.tmp", ".hidden", ".hidden.tmp"):
        (tmp_path / kept).write_bytes(b"")
    assert remove_abandoned(tmp_path) == 2
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.mp4.zip", "notes.tmp", ".hidden", ".hidden.tmp"}


def test_a_missing_folder_has_nothing_to_remove(tmp_path):
    assert remove_abandoned(tmp_path / "absent") == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows protects open files itself")
def test_what_another_process_writes_is_left_alone(tmp_path):
    path = tmp_path / ".a.mp4.zip.abcd1234.tmp"
    path.write_bytes(b"half")
    code = (
        "import sys; from pathlib import Path\n"
        "from dualstream.files import in_use\n"
        "with in_use(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"held\n"
        assert remove_abandoned(tmp_path) == 0
        with in_use(path) as free:
            assert not free
        writer.kill()
        writer.wait()
        assert remove_abandoned(tmp_path) == 1


def test_a_folder_takes_the_place_of_an_older_one(tmp_path):
    for text in ("old", "new"):
        with replacing_folder(tmp_path / "a") as folder:
            (folder / text).write_text(text)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    with replacing_folder(tmp_path / "a") as folder:
        (folder / "old").write_text("")
    with pytest.raises(IsADirectoryError), replacing_folder(tmp_path / "a") as folder:
        folder.write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old"]


@pytest.mark.parametrize("layout", ["store", "folders"])
def test_a_run_that_cleans_up_before_the_lock_costs_nothing(tmp_path, monkeypatch, layout):
    """Two runs on one store: the other one finds a file that is made and not locked yet."""
    from dualstream.flow.store import unfinished

    lock, found = unfinished.in_use, []

    def late(path):
        if len(found) < 3 and path not in found:
            found.append(path)
            with monkeypatch.context() as other_run:
                other_run.setattr(unfinished, "in_use", lock)
                unfinished.remove_abandoned(tmp_path)
        return lock(path)

    monkeypatch.setattr(unfinished, "in_use", late)
    writing = writing_file if layout == "store" else writing_folder
    target = tmp_path / "a.mp4.zip"
    field = np.zeros((2, 2, 8, 8), np.uint8 if layout == "store" else np.float32)
    with writing(target, FlowMeta(method="dis")) as writer:
        writer.add(field)
    assert len(found) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4.zip"]
    assert writer.meta.num_fields == 2
