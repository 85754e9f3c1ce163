"""A network that sees both streams needs its one file and one line in `MODELS`, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.cli.command import succeed
from tests.engine.tiny import changed, stop_in_epoch

import dualstream as ds
from dualstream.engine.recipe import Recipe
from dualstream.errors import InputError, RecipeError
from dualstream.models import MODELS


@pytest.fixture(autouse=True)
def _network_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "tiny_two_inputs", "tests.engine.tiny_two_inputs")


def two_input_recipe() -> Recipe:
    """Two frames and three fields of flow, of the same place and time."""
    return Recipe.model_validate(
        {
            "title": "two inputs",
            "model": {"name": "tiny_two_inputs"},
            "clip": {"short_side": 32, "crop_size": 24},
            "inputs": {"rgb": {"num_frames": 2}, "flow": {"num_frames": 3}},
            "data": {"workers": 0, "hold_out": 0.25},
            "train": {
                "epochs": 4,
                "batch_size": 3,
                "segments": 2,
                "accelerator": "cpu",
                "optimizer": {"name": "adamw", "lr": 0.01},
            },
            "test": {"segments": 2, "crops": "three"},
        }
    )


def test_it_trains_resumes_tests_predicts_and_is_inspected(tiny_data: Path, tmp_path: Path) -> None:
    run, broken = tmp_path / "run", tmp_path / "broken"
    result = ds.train(two_input_recipe(), tiny_data, run)
    assert result.epochs == 4
    assert result.held_out_top1 is not None
    info = json.loads((run / "run.json").read_text())
    assert {name: origin["store"] for name, origin in info["flow"].items()} == {
        "flow": str(tiny_data / "flow")
    }

    with pytest.raises(RuntimeError, match="stopped by the test"):
        ds.train(two_input_recipe(), tiny_data, broken, listener=stop_in_epoch(2))
    ds.resume(broken)
    one, other = (load_file(folder / "model.safetensors") for folder in (run, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)

    tested = ds.evaluate(run, workers=0)
    assert tested.failures == {}
    assert tested.scores.scores.shape == (4, 2)
    video = tiny_data / "videos" / tested.scores.names[0]
    predicted = ds.predict(video, str(run), segments=2, crops="three")
    # Of the video itself: stored flow went through JPEG.
    np.testing.assert_allclose(predicted.probabilities, tested.scores.scores[0], atol=0.02)


def test_it_is_inspected() -> None:
    call = ["inspect", "tiny_two_inputs", "--option", "in_channels={rgb: 3, flow: 2}"]
    call += ["--option", "num_classes=2"]
    assert "tiny_two_inputs on rgb 3x16x112x112, flow 2x16x112x112" in succeed(*call)
    table = json.loads(succeed(*call, "--json"))
    # 3 x 3 filters and batch norms of 8 channels each, and 16 features to 2 classes.
    assert table["parameters"] == 8 * 9 * (3 + 2) + 2 * 16 + 16 * 2 + 2


def test_both_streams_reach_the_network(tiny_data: Path, tmp_path: Path) -> None:
    ds.train(changed(two_input_recipe(), train__epochs=1), tiny_data, tmp_path / "run")
    state = load_file(tmp_path / "run" / "model.safetensors")
    torch.manual_seed(0)
    start = ds.create_model("tiny_two_inputs", num_classes=2, in_channels={"rgb": 3, "flow": 2})
    for name, value in start.named_parameters():
        assert not torch.equal(state[name], value), name


def test_frozen_stages_need_a_chain_of_parts(tiny_data: Path, tmp_path: Path) -> None:
    recipe = changed(two_input_recipe(), data__frozen_views=1)
    with pytest.raises(RecipeError, match="a chain of parts, tiny_two_inputs is not"):
        ds.train(recipe, tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_one_stream_does_not_suit(tiny_data: Path, tmp_path: Path) -> None:
    recipe = changed(two_input_recipe(), inputs={"rgb": {}})
    with pytest.raises(InputError, match="in_channels of tiny_two_inputs must be"):
        ds.train(recipe, tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
