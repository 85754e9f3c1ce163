"""Recognizers: from a run folder, a checkpoint or a network that knows its input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.tiny import tiny_recipe, untrained_run

from dualstream.engine.infer.predictor import predict
from dualstream.engine.infer.recognizer import as_recognizer, as_recognizers
from dualstream.engine.run.checkpoint import load_checkpoint
from dualstream.errors import CheckpointError, InputError


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recognizer")
    return [untrained_run(tiny_recipe(m), tiny_data, folder / m) for m in ("rgb", "flow")]


def test_a_run_folder_brings_name_input_classes_and_flow(runs: list[Path]) -> None:
    rgb, flow = as_recognizers(runs)
    assert (rgb.name, flow.name) == ("rgb", "flow")
    assert rgb.classes == flow.classes == ("right", "down")
    assert rgb.flow_params == {}
    checkpoint = load_checkpoint(runs[1])
    assert flow.spec == checkpoint.recipe.test_spec()
    assert flow.spec.streams["flow"].flow_short_side == 48  # that of the store
    assert flow.flow_params == checkpoint.flow_params
    assert list(flow.flow_params) == ["flow"]


def test_a_network_that_knows_its_input_predicts(runs: list[Path], tiny_data: Path) -> None:
    checkpoint = load_checkpoint(runs[0])
    video = tiny_data / "videos/right/right_5.mp4"
    network = checkpoint.model
    with pytest.raises(InputError, match="does not know its input"):
        as_recognizer(network)
    network.spec, network.classes = checkpoint.spec, checkpoint.classes
    expected = predict(video, checkpoint).probabilities
    np.testing.assert_array_equal(predict(video, network).probabilities, expected)
    np.testing.assert_array_equal(predict(video, str(runs[0])).probabilities, expected)
    assert as_recognizer(network).name == "tsn"


def test_recognizers_of_one_name_are_numbered(runs: list[Path]) -> None:
    rgb, flow = as_recognizers(runs)
    assert [one.name for one in as_recognizers([rgb, flow, rgb, rgb])] == [
        "rgb",
        "flow",
        "rgb (2)",
        "rgb (3)",
    ]
    assert as_recognizers(rgb) == (rgb,)


def test_different_classes_are_refused(runs: list[Path]) -> None:
    rgb, flow = as_recognizers(runs)
    other = replace(flow, classes=("x", "y"))
    with pytest.raises(CheckpointError, match="rgb and flow have different classes"):
        as_recognizers([rgb, other])


def test_at_least_one_network_is_needed() -> None:
    with pytest.raises(InputError, match="at least one network"):
        as_recognizers([])


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run folder"):
        as_recognizer(tmp_path)
