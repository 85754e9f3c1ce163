"""`dualstream watch`: a line a window, a hook when a class comes in, errors of the call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from tests.engine.tiny import tiny_recipe, untrained_run
from typer.testing import CliRunner

from dualstream.cli.watch import watch as verb
from dualstream.errors import InputError, VideoNotFoundError


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(tiny_recipe("rgb"), tiny_data, tmp_path_factory.mktemp("watch") / "rgb")


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_line_of_json_for_each_window(run: Path, tiny_video: Callable[..., Path]) -> None:
    path = tiny_video("a.mp4", num_frames=50)
    options = ("--window", 1, "--step", 0.5, "--top", 2, "--json", "--no-cuts", "--enter", 0.1)
    # However busy the machine is, no window is left out of so short a file.
    result = invoke(path, "--checkpoint", run, *options, "--most-delay", 60)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["start"], line["time"]) for line in lines] == [(0, 1), (0.5, 1.5), (1, 2)]
    for line in lines:
        assert list(line) == ["time", "start", "label", "top", "delay_seconds", "dropped"]
        assert line["label"] == line["top"][0]["class"]
        assert sum(one["probability"] for one in line["top"]) == pytest.approx(1, abs=1e-5)
        assert line["dropped"] == 0


def test_a_hook_is_run_when_a_class_comes_in(
    run: Path, tiny_video: Callable[..., Path], tmp_path: Path
) -> None:
    path, told = tiny_video("a.mp4", num_frames=30), tmp_path / "told"
    hook = f'echo "$DUALSTREAM_LABEL $DUALSTREAM_PROBABILITY $DUALSTREAM_SECONDS" >> {told}'
    options = ("--window", 0.4, "--step", 0.4, "--enter", 0.1, "--hook", hook, "--most-delay", 60)
    result = invoke(path, "--checkpoint", run, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith("0.0-0.4 s: ")
    label, probability, seconds = told.read_text().splitlines()[0].split()
    assert label in ("right", "down")
    assert 0.5 <= float(probability) <= 1
    assert seconds == "0.400"


def test_bad_calls(run: Path, tmp_path: Path) -> None:
    assert isinstance(invoke("0").exception, InputError)
    for option in ("--window", "--step", "--most-delay", "--timeout"):
        error = invoke("0", "--checkpoint", run, option, 0).exception
        assert str(error) == f"{option} must be above 0 seconds, got 0."
    error = invoke(tmp_path / "no.mp4", "--checkpoint", run).exception
    assert isinstance(error, VideoNotFoundError)
