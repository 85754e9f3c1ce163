"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from dualstream.cli.app import app
from dualstream.cli.options import flow_folders
from dualstream.engine.infer.drawn_map import MOMENTS
from dualstream.engine.infer.sensitivity import PIECES
from dualstream.errors import InputError
from dualstream.report.explanation import JPEG_QUALITY


def test_defaults_are_those_of_the_library() -> None:
    """The command line tells them without importing what takes seconds."""
    command: Any = typer.main.get_command(app)
    defaults = {option.name: option.default for option in command.commands["explain"].params}
    assert (defaults["moments"], defaults["pieces"]) == (MOMENTS, PIECES)
    assert defaults["quality"] == JPEG_QUALITY


def test_folders_of_flow(tmp_path: Path) -> None:
    assert flow_folders(None, "--flow") is None
    assert flow_folders(["work/flow"], "--flow") == Path("work/flow")
    assert flow_folders(["flow=a", "warped=b=c"], "--flow") == {
        "flow": Path("a"),
        "warped": Path("b=c"),
    }
    assert flow_folders(["warped=b"], "--flow") == {"warped": Path("b")}
    there = tmp_path / "x=y"
    there.mkdir()
    assert flow_folders([str(there)], "--flow") == there


@pytest.mark.parametrize("given", [["a", "b"], ["flow=a", "b"], ["flow=a", "flow=b"], ["flow="]])
def test_folders_that_are_not_told_apart(given: list[str]) -> None:
    with pytest.raises(InputError, match="--flow is one FOLDER, or STREAM=FOLDER once for each"):
        flow_folders(given, "--flow")
