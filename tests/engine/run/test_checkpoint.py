"""Trained networks: made by their recipe, with the weights of a run folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.engine.tiny import changed, tiny_recipe, untrained_run

from dualstream.engine.recipe import Recipe, load_recipe
from dualstream.engine.run.checkpoint import (
    build_model,
    load_checkpoint,
    save_weights,
)
from dualstream.engine.run.consistency import check_streams
from dualstream.errors import CheckpointError, RecipeError, ShapeError
from dualstream.flow import DISParams, TVL1FastParams
from dualstream.models.accepts import Accepts
from dualstream.models.network import Network


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(tiny_recipe("flow"), tiny_data, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_a_checkpoint_is_what_was_saved(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    assert checkpoint.folder == run
    assert checkpoint.classes == ("right", "down")
    assert not checkpoint.model.training
    torch.manual_seed(0)
    made = build_model(checkpoint.recipe, 2, with_weights=False).state_dict()
    loaded = checkpoint.model.state_dict()
    assert loaded.keys() == made.keys()
    assert all(torch.equal(loaded[name], value) for name, value in made.items())


def test_its_input_is_that_of_a_test(copy: Path) -> None:
    recipe = (copy / "recipe.yaml").read_text()
    changed = recipe.replace("whole_side: false", "whole_side: true")
    assert changed != recipe
    (copy / "recipe.yaml").write_text(changed)
    assert load_checkpoint(copy).spec.crop_size == 48


def test_flow_is_computed_as_the_store_was(copy: Path) -> None:
    checkpoint = load_checkpoint(copy)
    assert checkpoint.spec.streams["flow"].flow_short_side == 48
    assert checkpoint.flow_params == {"flow": TVL1FastParams()}
    values = json.loads((copy / "run.json").read_text())
    values["flow"]["flow"]["params"] = {"preset": "fast"}
    (copy / "run.json").write_text(json.dumps(values))
    recipe = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(recipe.replace("tvl1-fast", "dis"))
    assert load_checkpoint(copy).flow_params == {"flow": DISParams(preset="fast")}


@pytest.mark.parametrize(
    ("network", "test", "message"),
    [
        ("c3d", "test.whole_side=true", "takes one image_size only, 112 in training and 128 in"),
        ("early_fusion", "test.num_frames=12", "takes one length only, 10 in training and 12 in"),
    ],
)
def test_fully_connected_layers_see_the_sizes_of_training(
    network: str, test: str, message: str
) -> None:
    with torch.device("meta"), pytest.raises(RecipeError, match=message):
        build_model(load_recipe(network, [test]), 2, with_weights=False)


def test_fully_connected_layers_are_made_for_the_input_of_the_recipe() -> None:
    recipe = load_recipe("c3d", ["input.crop_size=48", "input.num_frames=32"])
    with torch.device("meta"):
        model = build_model(recipe, 2, with_weights=False)
    (accepts,) = model.inputs.values()
    assert (accepts.length, accepts.side) == (32, 48)


class TwoStreams(Network):
    """Sees frames and flow."""

    def __init__(self) -> None:
        super().__init__(num_classes=2, inputs={"rgb": Accepts(3), "flow": Accepts(2, length=4)})

    def outputs(self, x, *, absent=None):  # type: ignore[no-untyped-def]
        return {"answer": x["rgb"].new_zeros(1, 2)}

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.outputs(self._checked(x))["answer"]


def test_streams_of_the_recipe_are_those_of_the_network() -> None:
    model = TwoStreams()

    def check(**inputs: dict[str, int]) -> None:
        check_streams(model, changed(tiny_recipe(), inputs=inputs))

    check(flow={"num_frames": 4}, rgb={})
    with pytest.raises(
        RecipeError, match=r"sees the streams rgb, flow, the recipe's .* rgb, rgb_diff"
    ):
        check(rgb={}, rgb_diff={})
    with pytest.raises(ShapeError, match="T = 4"):
        check(rgb={}, flow={"num_frames": 3})
    with pytest.raises(ShapeError, match="T = 4"):
        check_streams(
            model,
            changed(
                tiny_recipe(), inputs={"rgb": {}, "flow": {"num_frames": 4}}, test__num_frames=3
            ),
        )


def test_a_run_without_weights_says_how_to_go_on(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no weights yet: .*--resume"):
        load_checkpoint(copy)


def test_broken_weights_are_named(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is broken"):
        load_checkpoint(copy)


def test_weights_of_another_network_are_listed(copy: Path) -> None:
    (copy / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(CheckpointError, match=r"2 of another shape: classifier\.bias \(2,\)"):
        load_checkpoint(copy)


def test_a_start_that_knows_no_classes_is_refused(copy: Path) -> None:
    values = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**values, "teacher": "efficientnet_lite0_imagenet"}))
    with pytest.raises(CheckpointError, match=r"a start made by `dualstream transfer`"):
        load_checkpoint(copy)


def starting(recipe: Recipe, run: Path) -> Recipe:
    model = recipe.model.model_copy(update={"weights": str(run)})
    return recipe.model_copy(update={"model": model})


def test_a_run_is_a_start(run: Path) -> None:
    trained = load_checkpoint(run).model.state_dict()
    same = build_model(starting(tiny_recipe("flow"), run), 2, with_weights=True).state_dict()
    assert all(torch.equal(same[name], value) for name, value in trained.items())
    more = build_model(starting(tiny_recipe("flow"), run), 3, with_weights=True).state_dict()
    for name, value in trained.items():
        assert name.startswith("classifier.") or torch.equal(more[name], value)
    assert more["classifier.weight"].shape[0] == 3


def test_a_start_of_another_stream_is_brought_to_its_channels(run: Path) -> None:
    trained = load_checkpoint(run).model.state_dict()
    made = build_model(starting(tiny_recipe("rgb"), run), 2, with_weights=True).state_dict()
    differ = [name for name in trained if not torch.equal(made[name], trained[name])]
    assert differ == ["backbone.conv1.0.weight"]
    mean = trained[differ[0]].mean(dim=1, keepdim=True)  # (O, 1, kh, kw) of 6 channels
    torch.testing.assert_close(made[differ[0]], mean.expand(-1, 3, -1, -1))


def test_a_start_of_another_network_is_refused(run: Path) -> None:
    other = starting(load_recipe("lecture_early_fusion"), run)
    with pytest.raises(CheckpointError, match="is a run of tsn, this recipe makes lecture_early"):
        build_model(other, 2, with_weights=True)


def test_weights_are_saved_whole(tmp_path: Path) -> None:
    save_weights(tmp_path, {"a": torch.arange(6.0).reshape(2, 3).T})
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
