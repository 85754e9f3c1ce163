"""Export: files answer as the networks do, for any number of clips, and bad ones are explained."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.deploy.networks import CLASSES, SMALL, small
from tests.engine.tiny import changed, tiny_recipe, untrained_run

from dualstream.clips.transforms import Normalizer
from dualstream.deploy import export as module
from dualstream.deploy import openvino_engine
from dualstream.deploy.card import KEY, Card, OnnxRuntime
from dualstream.deploy.export import export
from dualstream.deploy.graph import FusionLayer, make_card
from dualstream.deploy.onnx_file import OnnxFile
from dualstream.deploy.runtime import open_exported
from dualstream.deploy.torch_file import TorchFile
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.infer.recognizer import Recognizer, view_logits
from dualstream.engine.run.checkpoint import load_checkpoint
from dualstream.errors import ExportError, InputError, MissingDependencyError
from dualstream.scores import Fusion, softmax
from dualstream.scores.linear import LinearClassifier, LinearKind

SLOW = {"cnn_m", "conv_fusion", "i3d", "r2plus1d_18", "slowfast", "x3d"}
PAIR_ONLY = {"tsn on flow"}


def random_views(recognizer: Recognizer, count: int) -> dict[str, np.ndarray]:
    """Stream -> random bytes of so many views."""
    rng = np.random.default_rng(5)
    side = recognizer.spec.crop_size
    return {
        name: rng.integers(0, 256, (count, stream.channels, stream.steps, side, side), np.uint8)
        for name, stream in recognizer.spec.streams.items()
    }


def eager(recognizer: Recognizer, views: dict[str, np.ndarray], segments: int) -> np.ndarray:
    """Logits by the network itself."""
    normalizer = Normalizer(recognizer.spec)
    return view_logits(recognizer.model, views, normalizer, segments=segments)


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(title, marks=pytest.mark.slow if title in SLOW else ())
        for title in SMALL
        if title not in PAIR_ONLY
    ],
)
def test_an_onnx_file_gives_the_logits_of_the_network(title: str, tmp_path: Path) -> None:
    recognizer = small(title)
    result = export(recognizer, tmp_path / "a.onnx", segments=4)
    assert result.difference <= 1e-4
    assert result.probability_difference <= 1e-4
    (network,) = open_exported(result.path)
    assert (network.spec, network.classes) == (recognizer.spec, CLASSES)
    assert network.num_segments == (4 if recognizer.joins_segments else None)
    views = random_views(recognizer, 20)  # 4 segments x 5 crops
    expected = eager(recognizer, views, 4)
    assert expected.shape == (5 if recognizer.joins_segments else 20, 3)
    assert np.ptp(expected, axis=0).max() > 1e-3  # logits that hang on the clip
    np.testing.assert_allclose(network.running()(views, 4), expected, atol=1e-4)


@pytest.mark.parametrize("title", ["tsn", pytest.param("r2plus1d_18", marks=pytest.mark.slow)])
def test_a_file_for_openvino_gives_the_logits_of_the_network(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recognizer = small(title)
    result = export(recognizer, tmp_path / "a.onnx", runtime="openvino")
    assert result.difference <= 1e-4
    assert window_sizes(result.path) == ({3} if title == "r2plus1d_18" else {2})
    views = random_views(recognizer, 5)
    expected = eager(recognizer, views, 1)
    (there,) = open_exported(result.path)
    assert there.file.card.runtime == "openvino"
    monkeypatch.setattr(openvino_engine, "is_installed", lambda: False)
    (missing,) = open_exported(result.path)
    assert "written for OpenVINO, which is not installed" in caplog.text
    for network in (there, missing):
        np.testing.assert_allclose(network.running()(views, 1), expected, atol=1e-4)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[openvino\]'"):
        export(recognizer, tmp_path / "b.onnx", runtime="openvino")


def window_sizes(path: Path) -> set[int]:
    """Dimensions of the windows of a file's convolutions."""
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]
    sizes = [a.ints for node in nodes for a in node.attribute if a.name == "kernel_shape"]
    assert len(sizes) == len(nodes)
    return {len(size) for size in sizes}


@pytest.mark.slow
def test_a_torch_export_file_gives_the_logits_of_the_network(tmp_path: Path) -> None:
    recognizer = small("conv_fusion")
    result = export(recognizer, tmp_path / "a.pt2", format="torch-export", segments=4)
    assert result.difference <= 1e-4
    (network,) = open_exported(result.path)
    views = random_views(recognizer, 20)
    expected = eager(recognizer, views, 4)
    np.testing.assert_allclose(network.running()(views, 4), expected, atol=1e-4)


def classified(kind: LinearKind) -> Fusion:
    """A fusion that knows the first and the last of three classes."""
    rng = np.random.default_rng(3)
    known = np.array([0, 2])
    rows = LinearClassifier(kind, 1.0, known, rng.normal(size=(2, 6)), rng.normal(size=2))
    return Fusion(kind, 2, classifier=rows)


FUSIONS = [
    Fusion("mean", 2),
    Fusion("weighted", 2, weights=(0.3, 0.7)),
    Fusion("weighted", 2, weights=(0.3, 0.7), temperatures=(0.8, 1.7)),
    Fusion("max", 2),
    Fusion("product", 2),
    classified("svm"),
    classified("logistic"),
]


@pytest.mark.parametrize("title", ["tsn", pytest.param("x3d", marks=pytest.mark.slow)])
def test_no_bias_is_computed_on_the_way(title: str, tmp_path: Path) -> None:
    """Else ONNX runtime joins neither batch norms nor activations with convolutions."""
    path = export(small(title), tmp_path / "a.onnx").path
    graph = onnx.load(path).graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 5
    # A padded parameter is a constant, which runtimes fold when they begin.
    constants = {parameter.name for parameter in graph.initializer}
    constants |= {
        node.output[0]
        for node in graph.node
        if node.op_type == "Pad" and node.input[0] in constants
    }
    assert {bias for node in convolutions for bias in node.input[2:]} <= constants


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_the_fusion_in_the_graph_is_that_of_the_scores(fusion: Fusion) -> None:
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)) * 3
    predictor = Predictor([small("tsn"), small("tsn on flow")], fusion=fusion)
    expected = predictor.fuse(softmax(logits.numpy()))
    found = FusionLayer(fusion, num_classes=3)(list(logits))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(dim=1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "runtime"),
    [("onnx", "onnxruntime"), ("onnx", "openvino"), ("torch-export", "onnxruntime")],
)
def test_both_streams_and_their_fusion_are_one_file_with_two_inputs(
    format: module.ExportFormat, runtime: OnnxRuntime, tmp_path: Path
) -> None:
    rgb, flow = small("tsn", name="rgb"), small("tsn on flow", name="flow", seed=1)
    rgb.model.train()
    fusion = Fusion("weighted", 2, weights=(0.25, 0.75))
    path = tmp_path / f"pair{module.SUFFIXES[format]}"
    result = export([rgb, flow], path, format=format, runtime=runtime, fusion=fusion)
    assert result.card.shapes() == {"rgb": (3, 1, 32, 32), "flow": (2, 3, 32, 32)}
    assert result.card.outputs() == ("rgb_logits", "flow_logits", "probabilities")
    assert rgb.model.training  # left as it was
    assert all(parameter.requires_grad for parameter in rgb.model.parameters())
    rgb.model.eval()
    file = OnnxFile(path) if format == "onnx" else TorchFile(path)
    views = {**random_views(rgb, 6), **random_views(flow, 6)}
    found = file.run(views, file.card.outputs())
    logits = [eager(one, views, 6) for one in (rgb, flow)]
    np.testing.assert_allclose(found["rgb_logits"], logits[0], atol=1e-4)
    np.testing.assert_allclose(found["flow_logits"], logits[1], atol=1e-4)
    shares = [torch.from_numpy(one).softmax(dim=1) for one in logits]
    np.testing.assert_allclose(
        found["probabilities"], 0.25 * shares[0] + 0.75 * shares[1], atol=1e-4
    )
    # One stream alone needs no clips of the other.
    alone = file.run({"flow": views["flow"]}, ["flow_logits"])
    np.testing.assert_allclose(alone["flow_logits"], logits[1], atol=1e-4)


def test_streams_of_one_name_are_told_apart() -> None:
    networks = [small("tsn", name="a b"), small("tsn", name="a-b")]
    card = make_card(networks, Fusion("mean", 2), segments=[8, 8])
    assert list(card.shapes()) == ["a_b_rgb", "a_b__rgb"]
    assert card.outputs() == ("a_b_logits", "a_b__logits", "probabilities")


def test_the_card_says_how_clips_are_read(tiny_data: Path, tmp_path: Path) -> None:
    run = untrained_run(tiny_recipe("flow"), tiny_data, tmp_path / "run")
    result = export(run)
    assert result.path == run / "model.onnx"
    written = onnx.load(result.path)
    text = {one.key: one.value for one in written.metadata_props}[KEY]
    card = Card.from_json(text, path="a.onnx")
    (network,) = card.networks
    checkpoint = load_checkpoint(run)
    assert network.spec == checkpoint.spec
    assert network.flow_params == checkpoint.flow_params
    assert (network.name, network.model, card.classes) == ("run", "tsn", ("right", "down"))
    (shape,) = (one.type.tensor_type.shape for one in written.graph.input)
    assert [dim.dim_param or dim.dim_value for dim in shape.dim] == ["batch", 2, 3, 32, 32]
    assert str(tmp_path) not in str(written)  # no folders of this machine


def test_segments_are_those_of_the_test_of_a_run(tiny_data: Path, tmp_path: Path) -> None:
    test = {"segments": 5, "crops": "center"}
    recipe = changed(tiny_recipe(), model__options__consensus="max", test=test)
    run = untrained_run(recipe, tiny_data, tmp_path / "run")
    result = export(run, format="torch-export")
    assert result.path == run / "model.pt2"
    assert result.card.shapes() == {"rgb": (5, 3, 1, 32, 32)}


def test_a_file_that_answers_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TorchFile.run

    def wrong(file: TorchFile, *arguments: object) -> dict[str, np.ndarray]:
        found = run(file, *arguments)  # type: ignore[arg-type]
        return {name: value + 1e-3 for name, value in found.items()}

    monkeypatch.setattr(TorchFile, "run", wrong)
    with pytest.raises(ExportError, match=r"differs from the network in logits by 1\.0e-03"):
        export(small("tsn"), tmp_path / "a.pt2", format="torch-export")
    assert list(tmp_path.iterdir()) == []


def test_bad_calls_are_explained(tmp_path: Path) -> None:
    one = small("tsn")
    with pytest.raises(InputError, match=r"ends in \.onnx, got .*a\.pt2"):
        export(one, tmp_path / "a.pt2")
    with pytest.raises(InputError, match="give `out`"):
        export(one)
    with pytest.raises(InputError, match="joins 2 streams, got 1 networks"):
        export(one, tmp_path / "a.onnx", fusion=Fusion("mean", 2))
    with pytest.raises(InputError, match="either fusion or weights"):
        export(one, tmp_path / "a.onnx", fusion=Fusion("mean", 1), weights=[1])
    with pytest.raises(InputError, match="Allowed: onnx, torch-export"):
        export(one, tmp_path / "a.onnx", format="tflite")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="runtime openvino is for the format onnx"):
        export(one, tmp_path / "a.pt2", format="torch-export", runtime="openvino")
    with pytest.raises(InputError, match="int8 is for the runtime onnxruntime"):
        export(one, tmp_path / "a.onnx", runtime="openvino", int8=True)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[export\]'"):
        export(small("tsn"), tmp_path / "a.onnx")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"needs onnxscript: pip install"):
        export(small("tsn"), tmp_path / "a.onnx")
