"""`dualstream serve`: errors of the call, before anything heavy is imported."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.command import dualstream
from tests.engine.tiny import tiny_recipe, untrained_run

from dualstream.cli import serve as verb


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(tiny_recipe("rgb"), tiny_data, tmp_path_factory.mktemp("serve") / "rgb")


def test_calls_that_cannot_be(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    data = ("--data", tmp_path / "data")
    for options, message in (
        ((), "No network was named"),
        ((run, "--host", "0.0.0.0", *data), "give a token too"),
        ((run, "--port", "99999", *data), "0..65535"),
        ((run, "--root", tmp_path / "no", *data), "no folder"),
        ((run, "--max-queue", "0", *data), "queue must be at least 1"),
        (("--weights", "nothing"), "Unknown weights"),
    ):
        done = dualstream("serve", *options)
        assert done.code == 2, done.stderr
        assert message in done.stderr
    assert not (tmp_path / "data").exists()


def test_an_address_that_is_taken(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = dualstream("serve", run, "--port", port, "--data", tmp_path)
    assert done.code == 2
    assert f"Cannot listen at 127.0.0.1:{port}" in done.stderr


def test_the_extra_is_named_where_it_is_missing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "NEEDED", ("a_module_that_there_is_not",))
    done = dualstream("serve", run)
    assert done.code == 1
    assert "pip install 'dualstream[serve]'" in done.stderr


def test_help_imports_no_web_server() -> None:
    code = (
        "import dualstream.cli.app, sys; "
        "print([m for m in ('fastapi', 'uvicorn', 'prometheus_client') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"
