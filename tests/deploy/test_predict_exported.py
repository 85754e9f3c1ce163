"""Prediction by exported files is that of the runs, and ONNX files do it without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import dualstream, succeed
from tests.engine.tiny import changed, joint_recipe, tiny_recipe, untrained_pair, untrained_run

from dualstream.deploy.export import ExportFormat, export
from dualstream.deploy.runtime import open_exported
from dualstream.engine.infer.predictor import Predictor, explain, predict
from dualstream.engine.recipe_sections import Crops
from dualstream.errors import InputError
from dualstream.scores import Fusion


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("exported_runs")
    return [untrained_run(tiny_recipe(m), tiny_data, folder / m) for m in ("rgb", "flow")]


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    return Fusion("weighted", 2, weights=(0.4, 0.6), temperatures=(0.5, 0.7))


@pytest.fixture(scope="module")
def pair(runs: list[Path], fusion: Fusion) -> Path:
    return export(runs, runs[0].parent / "pair.onnx", fusion=fusion).path


@pytest.mark.slow
@pytest.mark.parametrize("crops", ["center", "ten"])
def test_a_pair_predicts_what_its_runs_predict(
    runs: list[Path], pair: Path, fusion: Fusion, tiny_data: Path, crops: Crops
) -> None:
    video = tiny_data / "videos/right/right_5.mp4"
    expected = predict(video, runs, fusion=fusion, crops=crops, window_seconds=0.2)
    networks = open_exported(pair)
    found = predict(
        video,
        networks,
        fusion=networks[0].file.card.fusion,
        crops=crops,
        window_seconds=0.2,
    )
    assert len(found.window_seconds) == 2
    assert list(found.streams) == ["rgb", "flow"]
    assert found.classes == expected.classes
    np.testing.assert_allclose(found.window_probabilities, expected.window_probabilities, atol=1e-5)
    for name, values in expected.streams.items():
        np.testing.assert_allclose(found.streams[name], values, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file"), [("two_stream", "a.onnx"), ("conv_fusion", "a.onnx"), ("two_stream", "a.pt2")]
)
def test_a_joint_network_predicts_what_its_run_predicts(
    name: str, file: str, tiny_data: Path, tmp_path: Path
) -> None:
    run = untrained_run(joint_recipe(name), tiny_data, tmp_path / "run")
    video = tiny_data / "videos/down/down_4.mp4"
    format: ExportFormat = "onnx" if file == "a.onnx" else "torch-export"
    (network,) = open_exported(export(run, tmp_path / file, format=format).path)
    expected = predict(video, run, segments=network.num_segments, window_seconds=0.2)
    found = predict(video, network, window_seconds=0.2)
    np.testing.assert_allclose(found.window_probabilities, expected.window_probabilities, atol=1e-5)


def test_segments_and_forms_that_a_file_has_not(tiny_data: Path, tmp_path: Path) -> None:
    recipe = changed(tiny_recipe(), model__options__consensus="max")
    run = untrained_run(recipe, tiny_data, tmp_path / "run")
    (network,) = open_exported(export(run, format="torch-export").path)
    assert Predictor(network, segments=2).segments == 2  # that of the test
    with pytest.raises(InputError, match="was exported for 2 segments, got 5"):
        Predictor(network, segments=5)
    with pytest.raises(InputError, match="an exported file runs as it is"):
        Predictor(network, optimize=True)
    with pytest.raises(InputError, match="no layers to look into"):
        explain(tiny_data / "videos/right/right_5.mp4", network)


def test_the_command_predicts_by_a_file(runs: list[Path], pair: Path, tiny_data: Path) -> None:
    video = tiny_data / "videos/right/right_5.mp4"
    found = json.loads(succeed("predict", video, "--model", pair, "--json"))
    (one,) = found["videos"]
    networks = open_exported(pair)
    expected = predict(video, networks, fusion=networks[0].file.card.fusion)
    assert [(e["class"], e["probability"]) for e in one["top"]] == [
        (name, pytest.approx(value, abs=1e-6)) for name, value in expected.top()
    ]
    assert list(one["streams"]) == ["rgb", "flow"]
    table = succeed("predict", video, "--model", pair, "--stream-weights", "1,0")
    assert "fused" in table
    done = dualstream("predict", video, "--model", pair, "--checkpoint", runs[0])
    assert (done.code, "leave out --checkpoint" in done.stderr) == (2, True)
    done = dualstream("predict", video, "--model", pair.with_name("gone.onnx"))
    assert (done.code, "gone.onnx: there is no such file" in done.stderr) == (1, True)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it fails
from dualstream.cli.app import run
sys.argv = ["dualstream", "predict", sys.argv[1], "--model", sys.argv[2], "--json"]
run()
"""


def test_no_torch_is_needed(pair: Path, tiny_data: Path) -> None:
    video = tiny_data / "videos/right/right_5.mp4"
    expected = succeed("predict", video, "--model", pair, "--json")
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(video), str(pair)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(expected)


@pytest.mark.slow
def test_the_command_exports_and_says_what(runs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "pair.onnx"
    printed = succeed("export", *runs, "--out", path, "--stream-weights", "1,3")
    assert "input rgb: bytes N x 3 x 1 x 32 x 32\n" in printed
    assert "input flow: bytes N x 2 x 3 x 32 x 32\n" in printed
    assert "outputs: rgb_logits, flow_logits, probabilities\n" in printed
    assert open_exported(path)[0].file.card.fusion.weights == (0.25, 0.75)
    report = json.loads(
        succeed(
            "export", runs[0], "--format", "torch-export", "--out", tmp_path / "a.pt2", "--json"
        )
    )
    assert report["inputs"] == {"rgb": [3, 1, 32, 32]}
    assert report["largest_difference"]["logits"] <= 1e-4
    assert report["bytes"] == (tmp_path / "a.pt2").stat().st_size
    done = dualstream("export", *runs)
    assert (done.code, "--out FILE" in done.stderr) == (2, True)


@pytest.mark.slow
def test_a_folder_of_several_streams_is_one_file(
    tiny_data: Path, fusion: Fusion, tmp_path: Path
) -> None:
    untrained_pair(tiny_data, tmp_path, fusion)
    succeed("export", tmp_path, "--format", "torch-export")
    networks = open_exported(tmp_path / "model.pt2")
    assert [one.name for one in networks] == ["rgb", "flow"]
    assert networks[0].file.card.fusion.temperatures == fusion.temperatures
