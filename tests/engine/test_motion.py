"""Hidden Two-Stream as runs: three stages, one from the other, and the flow of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.engine.tiny import changed, stop_in_epoch, tiny_recipe, untrained_run

import dualstream as ds
from dualstream.engine.infer.motion import motion_flow
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import build_model, load_checkpoint
from dualstream.engine.train.motion import MotionModule
from dualstream.errors import (
    CheckpointError,
    DivergedError,
    InputError,
    RecipeError,
    ShapeError,
    UnknownNameError,
)
from dualstream.types import Frames

HIDDEN = {"temporal_options": {"backbone": "test_resnet"}, "base_channels": 4, "flow_std": 5.0}


def motion_recipe(
    name: str = "motionnet",
    *,
    losses: dict[str, float] | None = None,
    weights: Path | None = None,
    trainable: object = "all",
    hold_out: float = 0.25,
    **train: object,
) -> Recipe:
    """Four frames of 24 pixels through a narrow MotionNet, alone or before a small network."""
    options = HIDDEN if name == "hidden_two_stream" else {"base_channels": 4}
    return Recipe.model_validate(
        {
            "title": "motion",
            "model": {
                "name": name,
                "options": options,
                "weights": weights and str(weights),
                "trainable": trainable,
            },
            "clip": {"short_side": 32, "crop_size": 24},
            "inputs": {"rgb": {"num_frames": 4, "mean": [0.5] * 3, "std": [1, 1, 1]}},
            "data": {"workers": 0, "hold_out": hold_out},
            "train": {
                "epochs": 2,
                "batch_size": 3,
                "segments": 2,
                "losses": {"motion": 1} if losses is None else losses,
                "accelerator": "cpu",
                "optimizer": {"name": "adamw", "lr": 0.003},
                **train,
            },
            "test": {"segments": 2, "crops": "three"},
        }
    )


def state_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], start: str) -> set[bool]:
    """Whether the tensors whose names start so are equal."""
    return {torch.equal(v, other[name]) for name, v in one.items() if name.startswith(start)}


@pytest.fixture(scope="module")
def without_labels(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of stage 1."""
    run = tmp_path_factory.mktemp("motion") / "run"
    ds.train(motion_recipe(epochs=4), tiny_data, run)
    return run


@pytest.fixture(scope="module")
def on_frozen_flow(
    tiny_data: Path, without_labels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Run of stage 2."""
    run = tmp_path_factory.mktemp("hidden") / "run"
    recipe = motion_recipe("hidden_two_stream", losses={}, weights=without_labels, trainable=1)
    ds.train(recipe, tiny_data, run)
    return run


def test_stage_1_learns_without_labels(without_labels: Path, tiny_data: Path) -> None:
    rows = list(csv.DictReader((without_labels / "log.csv").read_text().splitlines()))
    assert float(rows[-1]["train_loss"]) < 0.9 * float(rows[0]["train_loss"])
    assert float(rows[-1]["held_out_loss"]) < float(rows[0]["held_out_loss"])
    # In place of top-1: the similarity of frames and what is warped back to them.
    assert float(rows[-1]["train_top1"]) > float(rows[0]["train_top1"])
    metrics = json.loads((without_labels / "metrics.json").read_text())
    assert -1 < metrics["held_out_top1"] < 1
    torch.manual_seed(0)
    start = build_model(motion_recipe(), 2, with_weights=False).state_dict()
    state = state_of(without_labels)
    assert same(state, start, "classifier.") == {True}  # no label has been looked at
    assert False in same(state, start, "motion.")


def test_labels_make_no_difference_without_them(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = motion_recipe(epochs=1, hold_out=0)
    result = ds.train(recipe, tiny_data, tmp_path / "one")
    assert result.measure == "similarity of warped frames"
    judged = MotionModule._judged

    def with_other_labels(self, network, batch, *rest):  # type: ignore[no-untyped-def]
        batch.label.fill_(1)
        return judged(self, network, batch, *rest)

    monkeypatch.setattr(MotionModule, "_judged", with_other_labels)
    ds.train(recipe, tiny_data, tmp_path / "two")
    assert same(state_of(tmp_path / "one"), state_of(tmp_path / "two"), "") == {True}


def test_stage_2_starts_from_stage_1_and_leaves_its_flow(
    without_labels: Path, on_frozen_flow: Path
) -> None:
    motion, hidden = state_of(without_labels), state_of(on_frozen_flow)
    assert same(motion, hidden, "motion.") == {True}
    recipe = load_checkpoint(on_frozen_flow).recipe
    torch.manual_seed(recipe.train.seed)
    start = build_model(recipe, 2, with_weights=False).state_dict()
    assert False in same(hidden, start, "temporal.")


def test_stage_3_trains_both_and_tests_and_predicts_from_rgb_alone(
    on_frozen_flow: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    recipe = motion_recipe(
        "hidden_two_stream",
        losses={"answer": 1, "motion": 0.1},
        weights=on_frozen_flow,
        optimizer={"name": "sgd", "lr": 0.01, "lr_factors": {"motion": 0.01}},
    )
    result = ds.train(recipe, tiny_data, run)
    assert result.measure == "top-1"
    before, after = state_of(on_frozen_flow), state_of(run)
    for part in ("motion.", "temporal.", "classifier."):
        assert False in same(after, before, part), part
    assert json.loads((run / "run.json").read_text())["flow"] == {}

    tested = ds.evaluate(run, workers=0)
    assert tested.failures == {}
    assert tested.scores.scores.shape == (4, 2)
    video = tiny_data / "videos" / tested.scores.names[0]
    predicted = ds.predict(video, str(run), segments=2, crops="three")
    np.testing.assert_allclose(predicted.probabilities, tested.scores.scores[0], atol=1e-5)


def test_the_class_loss_alone_moves_motionnet(
    on_frozen_flow: Path, tiny_data: Path, tmp_path: Path
) -> None:
    recipe = motion_recipe(
        "hidden_two_stream", losses={}, weights=on_frozen_flow, epochs=1, hold_out=0
    )
    ds.train(recipe, tiny_data, tmp_path / "run")
    assert False in same(state_of(tmp_path / "run"), state_of(on_frozen_flow), "motion.")


def test_parts_learn_at_their_own_rate(
    on_frozen_flow: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Without momentum and decay the first step is the gradient times the rate."""
    steps = []
    for factor in (1.0, 0.5):
        optimizer = {"name": "sgd", "lr": 1e-3, "momentum": 0, "weight_decay": 0}
        recipe = motion_recipe(
            "hidden_two_stream",
            losses={"answer": 1, "motion": 0.1},
            weights=on_frozen_flow,
            epochs=1,
            hold_out=0,
            optimizer={**optimizer, "lr_factors": {"motion": factor}},
        )
        ds.train(recipe, tiny_data, tmp_path / str(factor), limit=1)
        before, after = state_of(on_frozen_flow), state_of(tmp_path / str(factor))
        steps.append({name: after[name] - value for name, value in before.items()})
    whole, half = steps
    name = "motion.flow.4.weight"
    torch.testing.assert_close(half[name], whole[name] / 2, rtol=1e-2, atol=1e-6)
    assert torch.equal(half["classifier.weight"], whole["classifier.weight"])


@pytest.mark.parametrize("losses", [{"motion": 1}, {"answer": 1, "motion": 0.1}])
def test_resumed_is_bit_equal_to_unbroken(
    losses: dict[str, float], tiny_data: Path, tmp_path: Path
) -> None:
    run, broken = tmp_path / "run", tmp_path / "broken"
    recipe = motion_recipe("hidden_two_stream", losses=losses, epochs=3, ema_decay=0.5)
    ds.train(recipe, tiny_data, run)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        ds.train(recipe, tiny_data, broken, listener=stop_in_epoch(2))
    result = ds.resume(broken)
    assert (result.measure == "top-1") == ("answer" in losses)
    assert same(state_of(run), state_of(broken), "") == {True}


def test_a_start_knows_no_classes(without_labels: Path, tiny_data: Path) -> None:
    with pytest.raises(CheckpointError, match="made without labels; it knows no classes yet"):
        load_checkpoint(without_labels)
    with pytest.raises(CheckpointError, match=f"model.weights={without_labels}"):
        ds.evaluate(without_labels, workers=0)


def test_motionnet_learns_classes_too(
    without_labels: Path, tiny_data: Path, tmp_path: Path
) -> None:
    recipe = motion_recipe(losses={}, weights=without_labels, epochs=1)
    ds.train(recipe, tiny_data, tmp_path / "run")
    assert ds.evaluate(tmp_path / "run", workers=0).scores.scores.shape == (4, 2)


def test_a_diverging_run_stops_with_advice(tiny_data: Path, tmp_path: Path) -> None:
    recipe = motion_recipe(optimizer={"name": "sgd", "lr": 1e30}, hold_out=0)
    with pytest.raises(DivergedError, match=r"epoch 1\. Lower train\.optimizer\.lr"):
        ds.train(recipe, tiny_data, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"train__losses": {"motoin": 1}}, UnknownNameError, "Did you mean 'motion'"),
        ({"model__trainable": 1}, RecipeError, "freezes MotionNet"),
        ({"model__trainable": "last_layer"}, RecipeError, "freezes MotionNet"),
        (
            {"train__optimizer__lr_factors": {"moton": 0.1}},
            UnknownNameError,
            "Did you mean 'motion'",
        ),
    ],
)
def test_recipes_that_do_not_fit(
    changes: dict[str, object],
    error: type[Exception],
    message: str,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    recipe = changed(motion_recipe("hidden_two_stream"), **changes)
    with pytest.raises(error, match=message):
        ds.train(recipe, tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_networks_without_motion_have_no_such_loss(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"loss of tsn in train\.losses 'motion'"):
        ds.train(tiny_recipe(losses={"motion": 1}), tiny_data, tmp_path / "run")


def test_other_runs_are_no_start(without_labels: Path, tiny_data: Path, tmp_path: Path) -> None:
    other = untrained_run(tiny_recipe(), tiny_data, tmp_path / "tsn")
    recipe = motion_recipe("hidden_two_stream", losses={}, weights=other)
    with pytest.raises(CheckpointError, match="start from a run of hidden_two_stream or motionnet"):
        ds.train(recipe, tiny_data, tmp_path / "run")
    wider = changed(
        motion_recipe("hidden_two_stream", losses={}, weights=without_labels),
        model__options={**HIDDEN, "base_channels": 8},
    )
    with pytest.raises(CheckpointError, match=r"of another shape: motion\.encoder"):
        ds.train(wider, tiny_data, tmp_path / "run")


def test_a_trained_network_needs_no_published_weights() -> None:
    """Where the temporal network started from is not looked for again."""
    recipe = changed(
        motion_recipe("hidden_two_stream"),
        model__options={**HIDDEN, "temporal_weights": "nowhere"},
    )
    build_model(recipe, 2, with_weights=False)
    with pytest.raises(UnknownNameError, match="nowhere"):
        build_model(recipe, 2, with_weights=True)


def test_a_run_of_motionnet_leaves_the_temporal_network_its_start(
    without_labels: Path, on_frozen_flow: Path
) -> None:
    options = {**HIDDEN, "temporal_weights": "nowhere"}
    for weights, starts_elsewhere in ((without_labels, False), (on_frozen_flow, True)):
        recipe = motion_recipe("hidden_two_stream", losses={}, weights=weights)
        recipe = changed(recipe, model__options=options)
        if starts_elsewhere:  # the run has all of it
            build_model(recipe, 2, with_weights=True)
        else:
            with pytest.raises(UnknownNameError, match="nowhere"):
                build_model(recipe, 2, with_weights=True)


def frames_of(count: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def test_flow_of_a_run_window_by_window(without_labels: Path) -> None:
    """Four frames at once: fields 0-2 of frames 0-3, 3-5 of 3-6, 6 of 6, 7, 7, 7."""
    frames = frames_of(8)
    flow = motion_flow(without_labels, frames, short_side=40)
    assert flow.data.shape == (7, 2, 40, 60)
    assert (flow.data.dtype, flow.method, flow.bound_px) == (np.float32, "motionnet", None)
    network = load_checkpoint(without_labels, with_classes=False).model
    for first, fields in ((0, 3), (3, 3), (6, 1)):
        window = frames[np.minimum(np.arange(first, first + 4), 7)]
        clip = torch.from_numpy(window).permute(3, 0, 1, 2)[None] / 255 - 0.5
        with torch.no_grad():
            finest = network.motion(clip)[-1][0]  # (3, 2, 20, 30)
        larger = 20 * torch.nn.functional.interpolate(finest, size=(40, 60), mode="bilinear")
        np.testing.assert_allclose(
            flow.data[first : first + fields], larger[:fields].numpy(), atol=1e-3
        )


def test_flow_is_in_pixels_of_the_frames(without_labels: Path) -> None:
    """On a grid of half the size displacements are twice those that the network tells."""
    frames = np.repeat(np.repeat(frames_of(4), 2, axis=1), 2, axis=2)  # (4, 80, 120, 3)
    found = motion_flow(without_labels, frames, short_side=40).data
    on_grid = motion_flow(without_labels, frames[:, ::2, ::2], short_side=40).data
    assert found.shape == (3, 2, 80, 120)
    larger = torch.nn.functional.interpolate(
        torch.from_numpy(on_grid), size=(80, 120), mode="bilinear"
    )
    np.testing.assert_allclose(found, 2 * larger.numpy(), atol=1e-4)


def test_flow_of_frames_with_their_source_and_of_hidden_two_stream(
    on_frozen_flow: Path, without_labels: Path
) -> None:
    pixels = frames_of(4)
    frames = Frames(pixels, np.arange(4.0), source="a.mp4")
    flow = motion_flow(load_checkpoint(on_frozen_flow), frames)
    assert (flow.method, flow.source) == ("hidden_two_stream", "a.mp4")
    # The same MotionNet, on the recipe's grid of 32 pixels.
    np.testing.assert_array_equal(
        flow.data, motion_flow(without_labels, pixels, short_side=32).data
    )


def test_flow_of_what_gives_none(without_labels: Path, tiny_data: Path, tmp_path: Path) -> None:
    for frames in (frames_of(1), frames_of(2)[..., 0], frames_of(2).astype(np.float32)):
        with pytest.raises(ShapeError, match="T from 2"):
            motion_flow(without_labels, frames)
    other = untrained_run(tiny_recipe(), tiny_data, tmp_path / "tsn")
    with pytest.raises(InputError, match="a run of tsn, which estimates no motion"):
        motion_flow(other, frames_of(2))


def test_the_untrained_network_is_worse_than_no_motion(
    shared: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """On real pairs with known flow (Middlebury RubberWhale, FlyingChairs)."""
    import cv2

    from dualstream.flow import read_flo

    recipe = changed(
        motion_recipe(), input__num_frames=2, clip={"short_side": 112, "crop_size": 96}
    )
    run = untrained_run(recipe, tiny_data, tmp_path / "run")
    pairs = sorted((shared / "flow").glob("*_gt.flo"))
    assert len(pairs) == 4
    for truth in pairs:
        images = sorted(truth.parent.glob(f"{truth.name.removesuffix('_gt.flo')}*.png"))
        frames = np.stack([cv2.cvtColor(cv2.imread(str(i)), cv2.COLOR_BGR2RGB) for i in images])
        true = read_flo(truth)
        known = (np.abs(true) < 1e9).all(axis=0)
        found = motion_flow(run, frames).data[0]
        error_px = np.linalg.norm(found - true, axis=0)[known].mean()
        assert error_px > np.linalg.norm(true, axis=0)[known].mean(), truth.name
