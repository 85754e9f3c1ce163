"""The doctor: this machine is well; what is broken is found, named and given a remedy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import socket
import tempfile
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.command import dualstream

from dualstream.engine import doctor
from dualstream.engine.doctor import GIB, Check, examine
from dualstream.flow import kernel
from dualstream.models import list_weights

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def found() -> dict[str, Check]:
    return {check.name: check for check in examine()}


def test_this_machine_is_well(found: dict[str, Check]) -> None:
    assert list(found) == list(doctor.CHECKS)
    assert not [check for check in found.values() if check.state == "broken"]
    assert all(check.found for check in found.values())
    assert found["torch"].state == "ok"
    assert found["codecs"].found.startswith("read and written: H.264, MPEG-4, FFV1")
    assert all(check.remedy for check in found.values() if check.state == "broken")


@pytest.mark.skipif(not kernel.is_available(), reason="the kernel is not compiled here")
def test_the_kernel_finds_a_known_motion(found: dict[str, Check]) -> None:
    assert found["flow kernel"].state == "ok"
    assert found["flow kernel"].found.endswith("a motion of (2, 0) px is found")


def test_a_kernel_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_tvl1", None)
    state, text, remedy = doctor.check_kernel()
    assert state == "note"
    assert text == "not compiled; torch computes TV-L1, several times slower; no dense trajectories"
    assert remedy.startswith("Install GCC or Clang, then: ")


def test_a_kernel_that_gives_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    still = np.zeros((1, 2, 64, 64), np.float32)
    monkeypatch.setattr(kernel, "_tvl1", SimpleNamespace(instruction_sets=lambda: ["avx2"]))
    monkeypatch.setattr(kernel, "kernel_flow", lambda *_, **__: (still, None))
    state, text, _ = doctor.check_kernel()
    assert state == "broken"
    assert text == "avx2: finds (0.00, 0.00) px where the motion is (2, 0)"


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path / "file" / "cache"))
    state, text, remedy = doctor.check_cache()
    assert state == "broken"
    assert text == f"{tmp_path / 'file' / 'cache'} cannot be written (Not a directory)"
    assert "set DUALSTREAM_CACHE" in remedy


def test_a_cache_that_may_only_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    state, text, _ = doctor.check_cache()
    assert state == "broken"
    assert text.endswith("cannot be written (Permission denied)")


def test_versions_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["av>=17", "numpy>=2.0", "gone-for-good>=1", 'ray>=99; extra == "ray"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: needs)
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "1.26.4" if name == "numpy" else real(name)
    )
    state, text, remedy = doctor.check_versions()
    assert state == "broken"
    assert text.endswith("; numpy is 1.26.4, needed is >=2.0; gone-for-good>=1 is missing")
    assert remedy.endswith("-m pip install --upgrade dualstream")


def test_a_torchvision_of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def fail(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", fail)
    state, text, remedy = doctor.check_torch()
    assert state == "broken"
    assert "does not run beside it (operator torchvision::nms does not exist)" in text
    assert remedy.endswith("--force-reinstall torch torchvision")


@pytest.mark.parametrize(
    ("encoder", "state"), [("libx264", "broken"), ("libx265", "note"), ("mpeg4", "note")]
)
def test_a_codec_that_is_missing(encoder: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: doctor.CODECS[name] for name in ("H.264", "MPEG-4", "HEVC")}
    gone = {
        name: ("no-such-encoder", *rest) if given == encoder else (given, *rest)
        for name, (given, *rest) in few.items()
    }
    monkeypatch.setattr(doctor, "CODECS", gone)
    got, text, remedy = doctor.check_codecs()
    assert got == state
    assert "not: " in text
    assert "no-such-encoder" in text
    assert remedy.endswith("--force-reinstall av")


@pytest.mark.parametrize(
    ("free", "state"), [(50 * GIB, "ok"), (GIB, "note"), (GIB // 100, "broken")]
)
def test_space_on_disks(free: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100 * GIB, 0, free))
    assert doctor.check_disk()[0] == state


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm here")
def test_little_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**26, 0, 2**26))
    state, text, remedy = doctor.check_shared_memory()
    assert (state, text) == ("note", "0.06 of 0.06 GiB free in /dev/shm")
    assert "--shm-size=2g" in remedy


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory_bytes", lambda: 2 * GIB)
    state, text, _ = doctor.check_machine()
    assert state == "note"
    assert text.endswith(" cores, 2.0 GiB of memory")


def test_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "ray" or None)
    state, text, remedy = doctor.check_extras()
    assert (state, text) == ("note", "installed: ray")
    assert "pip install onnxruntime" in remedy
    assert "ray:" not in remedy


def test_weights_with_and_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    state, text, remedy = doctor.check_weights()
    assert state == "note"
    count = len(list_weights())
    assert text.startswith(f"0 of {count} in the cache, 0 can be fetched; not reached: ")
    assert "download.pytorch.org" in text
    assert "where by hand" in remedy

    class Connection:
        def __enter__(self) -> Connection:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(socket, "create_connection", lambda *_: Connection())
    assert doctor.check_weights() == (
        "ok",
        f"0 of {count} in the cache, {count} can be fetched",
        "",
    )


def test_a_check_that_fails_itself_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Any:
        raise ImportError("libGL.so.1: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor, "CHECKS", {"flow kernel": fails})
    (check,) = examine()
    assert check.state == "broken"
    assert check.found == "ImportError: libGL.so.1: cannot open shared object file"
    assert check.remedy


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("broken", 1)])
def test_the_command(state: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {"[gpu]": lambda: (state, "what [was] found", "what to do")}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    done = dualstream("doctor")
    assert done.code == code
    assert "what [was] found" in done.stdout
    assert "-> what to do" in done.stdout
    done = dualstream("doctor", "--json")
    assert done.code == code
    assert json.loads(done.stdout) == {
        "ok": state != "broken",
        "checks": [
            {
                "name": "[gpu]",
                "state": state,
                "found": "what [was] found",
                "remedy": "what to do",
            }
        ],
    }
