"""int8: integers inside, and accuracy before and after on videos kept from training."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tests.cli.command import succeed
from tests.deploy.networks import small
from tests.engine.tiny import tiny_recipe

from dualstream.deploy.export import export
from dualstream.deploy.quantize import quantize
from dualstream.deploy.runtime import open_exported
from dualstream.engine.infer.evaluate import evaluate
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.infer.recognizer import Recognizer
from dualstream.engine.train.fit import train
from dualstream.errors import InputError
from dualstream.models import create_model
from dualstream.types import ClipSpec, StreamSpec


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("int8_runs")
    for modality in ("rgb", "flow"):
        train(tiny_recipe(modality, hold_out=0.25), tiny_data, folder / modality)
    return [folder / modality for modality in ("rgb", "flow")]


@pytest.mark.slow
def test_a_pair_of_integers_answers_nearly_as_its_runs(
    runs: list[Path], tiny_data: Path, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []

    def listener(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    result = export(runs, tmp_path / "a.onnx", int8=True, workers=0, listener=listener)
    assert result.int8 is not None
    # 8 training videos, of which a quarter is held out.
    assert (result.int8.part, result.int8.calibration_videos) == ("held_out", 6)
    assert result.int8.before.num_videos == result.int8.after.num_videos == 2
    assert {what for what, _, _ in told} == {
        "calibrate",
        *(f"test {kind} {name}" for kind in ("float32", "int8") for name in ("rgb", "flow")),
    }
    networks = open_exported(result.path)
    assert result.card.precision == networks[0].file.card.precision == "int8"
    video = tiny_data / "videos/right/right_5.mp4"
    found = Predictor(networks).predict(video).probabilities
    expected = Predictor(runs).predict(video).probabilities
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert not np.allclose(found, expected, atol=1e-6)
    model = onnx.load(result.path)
    convolutions = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    integers = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    assert convolutions
    assert convolutions <= integers  # their weights


def test_ranges_are_those_after_the_activation_and_depthwise_weights_have_8_bits(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = create_model("tsn", backbone="mobilenetv2_035", num_classes=3).eval()
    spec = ClipSpec({"rgb": StreamSpec("rgb")}, short_side=32, crop_size=32)
    exported = export(Recognizer("rgb", model, spec, ("a", "b", "c")), tmp_path / "a.onnx")
    rng = np.random.default_rng(0)
    samples = [{"rgb": rng.integers(0, 256, (1, 3, 1, 32, 32), np.uint8)} for _ in range(4)]
    quantize(exported.path, tmp_path / "int8.onnx", exported.card, iter(samples))
    graph = onnx.load(tmp_path / "int8.onnx").graph
    assert any(node.op_type == "Clip" for node in onnx.load(exported.path).graph.node)
    assert not any(node.op_type == "Clip" for node in graph.node)  # ReLU6 is a range
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    given = {node.output[0]: node.input[0] for node in graph.node}
    widest = defaultdict(set)
    for node in graph.node:
        if node.op_type == "Conv":
            weights = arrays[given[node.input[1]]]
            widest[weights.shape[1] == 1].add(int(np.abs(weights.astype(int)).max()))
    assert (widest[True], widest[False]) == ({127}, {64})


def test_accuracy_before_is_that_of_the_run(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    printed = succeed("export", runs[1], "--int8", "--workers", 0, "--out", out, "--json")
    expected = evaluate(
        runs[1], part="held_out", crops="center", workers=0, out=tmp_path / "scores.npz"
    )
    report = json.loads(printed)["int8"]
    assert report["before"] == expected.accuracy.as_dict()
    assert (report["part"], report["calibration_videos"]) == ("held_out", 6)


def test_int8_needs_runs_and_onnx(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="int8 needs run folders"):
        export(small("tsn"), tmp_path / "a.onnx", int8=True)
    with pytest.raises(InputError, match="int8 is for the format onnx"):
        export(runs[0], tmp_path / "a.pt2", format="torch-export", int8=True)
