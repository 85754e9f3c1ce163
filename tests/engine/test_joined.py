"""Networks of two towers train, resume, test, predict and are fused like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.engine.tiny import changed, joint_recipe, stop_in_epoch, tiny_recipe, untrained_run

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import build_model, load_checkpoint, save_weights
from dualstream.engine.run.info import start_run
from dualstream.engine.train.fit import open_run
from dualstream.engine.train.module import TrainingModule, absent_streams
from dualstream.errors import (
    CheckpointError,
    DualstreamError,
    FlowStoreError,
    InputError,
    RecipeError,
    ShapeError,
    UnknownNameError,
)
from dualstream.models import MODELS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two_stream", "conv_fusion"])
def test_it_trains_resumes_tests_and_predicts(name: str, tiny_data: Path, tmp_path: Path) -> None:
    run, broken, recipe = tmp_path / "run", tmp_path / "broken", joint_recipe(name)
    recipe = changed(recipe, train__ema_decay=0.5)
    assert ds.train(recipe, tiny_data, run).held_out_top1 is not None
    with pytest.raises(RuntimeError, match="stopped by the test"):
        ds.train(recipe, tiny_data, broken, listener=stop_in_epoch(2))
    ds.resume(broken)
    one, other = (load_file(folder / "model.safetensors") for folder in (run, broken))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (run / "log.csv").read_text() == (broken / "log.csv").read_text()

    tested = ds.evaluate(run, workers=0)
    assert tested.failures == {}
    assert tested.scores.scores.shape == (4, 2)
    video = tiny_data / "videos" / tested.scores.names[0]
    predicted = ds.predict(video, str(run), segments=2, crops="three")
    # Of the video itself: stored flow went through JPEG.
    np.testing.assert_allclose(predicted.probabilities, tested.scores.scores[0], atol=0.02)


def started(recipe: Recipe, data: Path, folder: Path, **model: object) -> Path:
    """A run folder with the weights that training starts from."""
    recipe = changed(recipe, **{f"model__{key}": value for key, value in model.items()})
    run = open_run(recipe, data, folder)
    start_run(folder, run.recipe, run.manifest.classes, run.info)
    save_weights(folder, build_model(run.recipe, 2, with_weights=True).state_dict())
    return folder


def single_runs(data: Path, folder: Path) -> dict[str, str]:
    """Stream -> run folder of random weights."""
    runs = {"rgb": tiny_recipe(), "flow": tiny_recipe("flow")}
    return {
        stream: str(untrained_run(recipe, data, folder / stream, seed=seed))
        for seed, (stream, recipe) in enumerate(runs.items())
    }


def test_a_network_of_two_runs_tests_as_their_fusion(tiny_data: Path, tmp_path: Path) -> None:
    runs = single_runs(tiny_data, tmp_path)
    recipe = changed(joint_recipe("two_stream"), model__options__average="probabilities")
    joint = started(recipe, tiny_data, tmp_path / "joint", weights=runs)
    rgb, flow, both = (ds.evaluate(run, workers=0).scores for run in (*runs.values(), joint))
    fused = ds.fuse([rgb, flow], method="mean")
    assert not np.allclose(rgb.scores, flow.scores)
    np.testing.assert_allclose(both.scores, fused.scores, rtol=1e-4, atol=1e-6)


def test_each_tower_starts_from_its_own_weights(tiny_data: Path, tmp_path: Path) -> None:
    rgb = single_runs(tiny_data, tmp_path)["rgb"]
    recipe = changed(joint_recipe("two_stream"), model__weights={"rgb": rgb, "flow": rgb})
    theirs = load_file(Path(rgb) / "model.safetensors")
    for classes in (2, 5):
        towers = build_model(recipe, classes, with_weights=True).towers()
        for stream, tower in towers.items():
            state = tower.state_dict()
            differ = {name for name in state if not torch.equal(state[name], theirs[name])}
            fresh = {"classifier.weight", "classifier.bias"} if classes == 5 else set()
            assert differ - fresh == ({"backbone.conv1.0.weight"} if stream == "flow" else set())
    # Flow sees 3 fields of 2 channels: the mean over RGB, six times.
    mean = theirs["backbone.conv1.0.weight"].mean(dim=1, keepdim=True)
    first = towers["flow"].state_dict()["backbone.conv1.0.weight"]
    torch.testing.assert_close(first, mean.expand(-1, 6, -1, -1))


def test_a_run_of_both_streams_is_a_start(tiny_data: Path, tmp_path: Path) -> None:
    recipe = joint_recipe("conv_fusion")
    run = untrained_run(recipe, tiny_data, tmp_path / "run")
    again = changed(recipe, model__weights=str(run))
    theirs = load_file(run / "model.safetensors")
    for classes, fresh in ((2, 0), (3, 4)):  # weight and bias of two classifiers
        state = build_model(again, classes, with_weights=True).state_dict()
        differ = [name for name in state if not torch.equal(state[name], theirs[name])]
        assert len(differ) == fresh
        assert all(".classifier." in name for name in differ)


def test_starts_that_do_not_fit(tiny_data: Path, tmp_path: Path) -> None:
    recipe = joint_recipe("two_stream")
    run = untrained_run(recipe, tiny_data, tmp_path / "run")
    for weights, error, message in (
        ({"rgb": str(run)}, CheckpointError, "is a run of two_stream, this recipe makes tsn"),
        ({"audio": str(run)}, UnknownNameError, "tower of two_stream 'audio'. Allowed: rgb, flow"),
        ({"rgb": "i3d_rgb_kinetics400"}, DualstreamError, "are for 'i3d', not for 'tsn'"),
        ({"rgb": "nothing"}, UnknownNameError, "Unknown weights 'nothing'"),
    ):
        with pytest.raises(error, match=message):
            build_model(changed(recipe, model__weights=weights), 2, with_weights=True)
        if error is UnknownNameError:
            with pytest.raises(error, match=message):
                ds.train(changed(recipe, model__weights=weights), tiny_data, tmp_path / "new")
    one = changed(tiny_recipe(), model__weights={"rgb": str(run)})
    with pytest.raises(UnknownNameError, match="tsn has no towers"):
        build_model(one, 2, with_weights=True)


def test_a_checkpoint_asks_no_hub_for_weights(tiny_data: Path, tmp_path: Path) -> None:
    recipe = joint_recipe("two_stream", pretrained=True)
    run = untrained_run(recipe, tiny_data, tmp_path / "run")
    assert load_checkpoint(run).recipe.model.options["towers"]["rgb"]["pretrained"] is True


def test_a_frozen_tower_stays_as_it_was(tiny_data: Path, tmp_path: Path) -> None:
    recipe = changed(joint_recipe("two_stream"), model__trainable={"rgb": "none", "flow": 1})
    recipe = changed(recipe, train__epochs=1, train__losses={"fused": 1.0})
    torch.manual_seed(recipe.train.seed)
    before = build_model(recipe, 2, with_weights=False).state_dict()
    ds.train(recipe, tiny_data, tmp_path / "run")
    after = load_file(tmp_path / "run" / "model.safetensors")
    changed_names = {name for name in before if not torch.equal(before[name], after[name])}
    head = {"tower.flow.classifier.weight", "tower.flow.classifier.bias"}
    assert head <= changed_names
    assert {name.split(".")[1] for name in changed_names} == {"flow"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"train__losses": {"fuse": 1.0}},
            UnknownNameError,
            "loss of two_stream in train.losses 'fuse'. Did you mean 'fused'. Allowed: fused, rgb",
        ),
        (
            {"train__losses": {"rgb": 1.0}},
            RecipeError,
            r"\(rgb\) trains nothing of tower.flow.* Weigh their head too \(of fused, rgb, flow\)",
        ),
        ({"model__trainable": {"audio": 1}}, UnknownNameError, "tower of two_stream 'audio'"),
        ({"model__options__towers": {"rgb": "i3d"}}, InputError, "given for rgb, the streams are"),
        ({"model__options__length": {"rgb": 2}}, RecipeError, "Leave it out, the inputs decide"),
        ({"data__frozen_views": 1}, RecipeError, "a chain of parts, two_stream is not"),
        ({"test__num_frames": 5}, RecipeError, "takes one length only, 1 in training and 5 in"),
    ],
)
def test_recipes_that_do_not_fit(
    changes: dict[str, object],
    error: type[Exception],
    message: str,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        ds.train(changed(joint_recipe("two_stream"), **changes), tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_numbers_of_recipes_are_checked() -> None:
    with pytest.raises(ValueError, match="modality_dropout needs inputs of several streams"):
        tiny_recipe(modality_dropout=0.2)
    for losses in ({"fused": 0.0}, {"fused": -1.0}):
        with pytest.raises(ValueError, match="greater than 0"):
            changed(joint_recipe("two_stream"), train__losses=losses)
    with pytest.raises(ValueError, match="of a tower also none"):
        changed(joint_recipe("two_stream"), model__trainable={"rgb": "head"})
    with pytest.raises(ValueError, match="must be all, last_layer"):
        changed(tiny_recipe(), model__trainable="none")


def test_streams_of_different_lengths_are_refused_before_training(
    tiny_data: Path, tmp_path: Path
) -> None:
    recipe = joint_recipe("conv_fusion")
    options = {"towers": "lecture_3d_cnn", "after": "conv1"}
    recipe = changed(recipe, model__options=options, inputs__rgb__num_frames=4)
    recipe = changed(recipe, inputs__flow__num_frames=5)
    with pytest.raises(ShapeError, match=r"rgb has 4 x .*, flow 5 x .*inputs\.rgb\.num_frames"):
        ds.train(recipe, tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_video_without_flow_is_named_before_training(tiny_data: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    name = Manifest.read(data).records[0].path
    (data / "flow" / f"{name}.zip").unlink()
    recipe = joint_recipe("two_stream")
    with pytest.raises(FlowStoreError) as caught:
        ds.train(recipe, data, tmp_path / "run")
    assert f"has no flow of 1 of the 8 videos to train on ({name!r})" in str(caught.value)
    assert f"`dualstream flow {data} --out {data / 'flow'}`" in str(caught.value)
    shutil.rmtree(data / "flow")
    with pytest.raises(FlowStoreError, match=r"no flow of 8 of the 8 videos .* and 5 more\)"):
        ds.train(recipe, data, tmp_path / "run")
    both = changed(recipe, inputs__flow__stacking="bidirectional", inputs__flow__num_frames=4)
    shutil.copytree(tiny_data / "flow", data / "flow")
    with pytest.raises(FlowStoreError, match=r"flow_backward has no .* --direction both`"):
        ds.train(both, data, tmp_path / "run")
    ds.train(changed(tiny_recipe(epochs=1), data__hold_out=0.0), data, tmp_path / "rgb")


def test_losses_are_weighed() -> None:
    recipe = joint_recipe("two_stream")
    module = TrainingModule(recipe, build_model(recipe, 2, with_weights=False))
    labels = torch.tensor([0, 1])
    # Cross entropies of 0 and of log 2: logits far apart and the same.
    sure, unsure = torch.tensor([[99.0, 0], [0, 99.0]]), torch.zeros(2, 2)
    loss = module.loss({"fused": unsure, "rgb": sure, "flow": unsure}, labels)
    assert loss.item() == pytest.approx(1.5 * np.log(2))
    plain = changed(recipe, train__losses={})
    module = TrainingModule(plain, build_model(plain, 2, with_weights=False))
    loss = module.loss({"fused": unsure, "rgb": sure, "flow": sure}, labels)
    assert loss.item() == pytest.approx(np.log(2))


def test_modality_dropout_leaves_each_sample_a_stream() -> None:
    torch.manual_seed(0)
    drawn = absent_streams(("rgb", "flow"), 10_000, 0.2, device=torch.device("cpu"))
    assert {name: value.dtype for name, value in drawn.items()} == dict.fromkeys(
        ("rgb", "flow"), torch.bool
    )
    assert not (drawn["rgb"] & drawn["flow"]).any()
    for lacks in drawn.values():  # a tenth each; five standard deviations are .015
        assert lacks.float().mean().item() == pytest.approx(0.1, abs=0.015)
    none = absent_streams(("rgb", "flow"), 100, 0.0, device=torch.device("cpu"))
    assert not any(lacks.any() for lacks in none.values())


def test_modality_dropout_of_other_networks_blanks_the_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(MODELS, "tiny_two_inputs", "tests.engine.tiny_two_inputs")
    channels = {"rgb": 3, "flow": 2}
    model = ds.create_model("tiny_two_inputs", num_classes=2, in_channels=channels).eval()
    clips = {stream: torch.randn(2, c, 1, 8, 8) for stream, c in channels.items()}
    absent = {"rgb": torch.tensor([True, False])}
    blank = {**clips, "rgb": clips["rgb"] * torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1)}
    assert torch.equal(model.outputs(clips, absent=absent)["answer"], model(blank))
