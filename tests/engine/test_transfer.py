"""Supervision transfer as a run: it learns to match, goes on bit for bit, and training starts
from it."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.tiny import changed, stop_in_epoch, tiny_recipe
from tests.engine.tiny_student import tiny_student

from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.engine.recipe import Recipe, load_recipe
from dualstream.engine.run.checkpoint import build_model, load_checkpoint
from dualstream.engine.train.fit import resume, train
from dualstream.engine.train.transfer import load_teacher, resume_transfer, transfer
from dualstream.errors import (
    AnnotationError,
    CheckpointError,
    InputError,
    RecipeError,
    UnknownNameError,
)
from dualstream.models import MODELS, WEIGHTS, create_model
from dualstream.video import write_video


def student_recipe(
    *,
    hold_out: float = 0.0,
    weights: str | None = None,
    name: str = "tiny_student",
    **train: object,
) -> Recipe:
    """A small network over clips of four frames."""
    return Recipe.model_validate(
        {
            "title": "student",
            "model": {"name": name, "weights": weights},
            "clip": {"short_side": 32, "crop_size": 32},
            "inputs": {"rgb": {"num_frames": 4}},
            "augment": {"crop": "center"},
            "data": {"workers": 0, "hold_out": hold_out},
            "train": {
                "epochs": 3,
                "batch_size": 4,
                "accelerator": "cpu",
                "optimizer": {"name": "adamw", "lr": 0.002},
                **train,
            },
            "test": {"segments": 1, "crops": "center"},
        }
    )


@pytest.fixture(scope="module", autouse=True)
def _student_is_known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny_student", "tests.engine.tiny_student")
        yield


@pytest.fixture(scope="module")
def teacher(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a small 2D network."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    train(tiny_recipe(epochs=1), tiny_data, run)
    return run


@pytest.fixture(scope="module")
def start(tiny_data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a short transfer."""
    run = tmp_path_factory.mktemp("start") / "run"
    transfer(student_recipe(epochs=2), tiny_data, run, teacher=str(teacher))
    return run


def write_coloured_videos(folder: Path, count: int) -> None:
    """Videos that differ in the colours of their ground and of a square that moves over it."""
    records = []
    for number in range(count):
        rng = np.random.default_rng(number)
        ground, square = rng.integers(20, 236, (2, 3))
        frames = np.empty((8, 32, 32, 3), np.uint8)
        frames[:] = ground
        for t in range(8):
            frames[t, 8:20, 2 + 2 * t : 12 + 2 * t] = square
        path = f"{'ab'[number % 2]}/video_{number}.mp4"
        file = folder / "videos" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_video(file, frames, fps=25)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        records.append(VideoRecord(path, number % 2, ("train",), 8, 25.0, 32, 32, digest))
    Manifest(tuple(records), ("a", "b"), folder / "videos").write(folder)


@pytest.mark.slow
def test_it_learns_to_match_clips_that_it_never_saw(teacher: Path, tmp_path: Path) -> None:
    write_coloured_videos(tmp_path, 80)
    recipe = student_recipe(
        hold_out=0.4,
        epochs=16,
        batch_size=16,
        optimizer={"name": "adamw", "lr": 0.001},
        schedule={"name": "cosine", "warmup_epochs": 1},
        validate_every=16,
    )
    result = transfer(recipe, tmp_path, tmp_path / "run", teacher=str(teacher))
    rows = list(csv.DictReader((tmp_path / "run/log.csv").read_text().splitlines()))
    assert float(rows[-1]["train_loss"]) < 0.8 * float(rows[0]["train_loss"])
    # 64 pairs of 32 held-out videos; chance is .5 with a deviation of .06.
    assert result.held_out_top1 is not None
    assert result.held_out_top1 > 0.7


def test_the_teacher_in_the_state_is_bit_for_bit_the_one_that_came_in(
    teacher: Path, start: Path
) -> None:
    state = torch.load(start / "trainer.ckpt", weights_only=True)["state_dict"]
    before = load_file(teacher / "model.safetensors")
    prefix = "model.teacher."
    kept = {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}
    assert kept.keys() == before.keys()
    for name, value in kept.items():
        assert torch.equal(value, before[name]), name


def test_the_run_folder_holds_the_student_and_says_who_taught(teacher: Path, start: Path) -> None:
    weights = load_file(start / "model.safetensors")
    expected = create_model("tiny_student", num_classes=2).state_dict()
    assert {n: v.shape for n, v in weights.items()} == {n: v.shape for n, v in expected.items()}
    assert json.loads((start / "run.json").read_text())["teacher"] == str(teacher)
    assert set(json.loads((start / "metrics.json").read_text())) == {
        "epochs",
        "train_loss",
        "train_top1",
        "held_out_top1",
    }


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.5, "accumulate": 2, "segments": 2}])
def test_resumed_is_bit_equal_to_unbroken(
    settings: dict[str, object], tiny_data: Path, teacher: Path, tmp_path: Path
) -> None:
    recipe = student_recipe(epochs=3, hold_out=0.25, batch_size=2, **settings)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    transfer(recipe, tiny_data, unbroken, teacher=str(teacher))
    with pytest.raises(RuntimeError, match="stopped by the test"):
        transfer(recipe, tiny_data, broken, teacher=str(teacher), listener=stop_in_epoch(1))
    result = resume_transfer(broken)
    assert result.epochs == 3
    one, other = (load_file(run / "model.safetensors") for run in (unbroken, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (unbroken / "log.csv").read_text() == (broken / "log.csv").read_text()


def test_a_transfer_of_version_0_1_goes_on(tiny_data: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = student_recipe(epochs=2, ema_decay=0.5)
    transfer(recipe, tiny_data, tmp_path / "unbroken", teacher=str(teacher))
    old = tmp_path / "old"
    with pytest.raises(RuntimeError, match="stopped by the test"):
        transfer(recipe, tiny_data, old, teacher=str(teacher), listener=stop_in_epoch(1))
    # It kept the teacher's backbone under the name of the teacher.
    state = torch.load(old / "trainer.ckpt", weights_only=True)
    for name in list(state["state_dict"]):
        value = state["state_dict"].pop(name)
        if ".teacher.classifier." not in name:
            state["state_dict"][name.replace(".teacher.backbone.", ".teacher.")] = value
    torch.save(state, old / "trainer.ckpt")
    resume_transfer(old)
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("unbroken", "old"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_the_student_and_the_joining_layers_move(
    tiny_data: Path, teacher: Path, start: Path, tmp_path: Path
) -> None:
    # The same seed: with a rate of nearly nothing the student stays at its start.
    still = student_recipe(epochs=1, optimizer={"name": "sgd", "lr": 1e-30, "momentum": 0})
    transfer(still, tiny_data, tmp_path / "still", teacher=str(teacher))
    one = load_file(tmp_path / "still/model.safetensors")
    other = load_file(start / "model.safetensors")
    unmoved = {name for name in one if torch.equal(one[name], other[name])}
    assert unmoved == {"classifier.weight", "classifier.bias"}


def test_training_starts_from_it_exactly(tiny_data: Path, start: Path, tmp_path: Path) -> None:
    recipe = student_recipe(weights=str(start), epochs=1)
    model = build_model(recipe, 2, with_weights=True)
    weights = load_file(start / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    result = train(recipe, tiny_data, tmp_path / "run")
    assert result.epochs == 1
    assert load_checkpoint(tmp_path / "run").classes == ("right", "down")
    # A resumed run goes on from its own state: the start may be gone by then.
    lost = changed(recipe, model__weights=str(tmp_path / "lost"))
    shutil.copytree(start, tmp_path / "lost")
    longer = changed(lost, train__epochs=2)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(longer, tiny_data, tmp_path / "broken", listener=stop_in_epoch(1))
    shutil.rmtree(tmp_path / "lost")
    assert resume(tmp_path / "broken").epochs == 2


def test_a_run_of_ordinary_training_is_a_start_too(teacher: Path) -> None:
    # timm's own weights, which would come from the hub, are not asked for then.
    options = {"backbone": "test_resnet", "pretrained": True}
    recipe = changed(tiny_recipe(), model__weights=str(teacher), model__options=options)
    weights = load_file(teacher / "model.safetensors")
    for classes, fresh in ((2, set()), (5, {"classifier.weight", "classifier.bias"})):
        own = build_model(recipe, classes, with_weights=True).state_dict()
        assert {n for n in own if not torch.equal(own[n], weights[n])} == fresh
        assert own["classifier.weight"].shape[0] == classes


def test_a_start_of_another_recipe_says_what_differs(teacher: Path, start: Path) -> None:
    other_net = student_recipe(weights=str(teacher))
    with pytest.raises(CheckpointError, match="a run of tsn, this recipe makes tiny_st") as caught:
        build_model(other_net, 2, with_weights=True)
    assert "conv1" not in str(caught.value)
    for modality in ("flow", "rgb_diff"):
        other_input = changed(student_recipe(weights=str(start)), input__modality=modality)
        build_model(other_input, 2, with_weights=True)


def test_a_start_of_another_name_with_the_same_weights_serves(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As x3d_s does for x3d_m, which differ in the size of their clips only.
    monkeypatch.setitem(MODELS, "twin", "tests.engine.tiny_student")
    monkeypatch.setattr("tests.engine.tiny_student.twin", tiny_student, raising=False)
    model = build_model(student_recipe(name="twin", weights=str(start)), 2, with_weights=True)
    weights = load_file(start / "model.safetensors")
    assert torch.equal(model.state_dict()["conv1.conv.weight"], weights["conv1.conv.weight"])


def test_a_start_that_lacks_a_tensor_names_it(start: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(start, run)
    state = load_file(run / "model.safetensors")
    del state["conv2.norm.bias"]
    save_file(state, run / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing in the weights: conv2\.norm\.bias"):
        build_model(student_recipe(weights=str(run)), 2, with_weights=True)


def test_a_start_that_is_none_says_so_before_a_folder_is_made(
    tiny_data: Path, tmp_path: Path
) -> None:
    recipe = student_recipe(weights="efficientnet_lite0_imagnet")
    with pytest.raises(UnknownNameError, match="Did you mean 'efficientnet_lite0_imagenet'"):
        train(recipe, tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(CheckpointError, match="not a run folder"):
        build_model(changed(recipe, model__weights=str(tmp_path)), 2, with_weights=True)


def test_a_start_without_weights_yet_says_so(
    tiny_data: Path, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="stopped by the test"):
        transfer(
            student_recipe(),
            tiny_data,
            tmp_path / "run",
            teacher=str(teacher),
            listener=stop_in_epoch(0),
        )
    with pytest.raises(CheckpointError, match="no weights yet"):
        build_model(student_recipe(weights=str(tmp_path / "run")), 2, with_weights=True)


def test_a_start_is_no_finished_network_and_no_other_kind_of_run(
    tiny_data: Path, teacher: Path, start: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="knows no classes yet"):
        load_checkpoint(start)
    with pytest.raises(CheckpointError, match="dualstream transfer --resume"):
        resume(start)
    with pytest.raises(CheckpointError, match="dualstream train --resume"):
        resume_transfer(teacher)
    with pytest.raises(InputError, match="dualstream transfer --resume"):
        transfer(student_recipe(), tiny_data, start, teacher=str(teacher))


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("input", {"modality": "rgb_diff"}, "needs input.modality=rgb"),
        ("model", {"trainable": "last_layer"}, "model.trainable=all"),
        ("model", {"name": "tsn", "options": {"backbone": "test_resnet"}}, "tsn is none"),
        ("train", {"batch_size": 1}, "at least two clips a batch"),
        ("train", {"batch_size": 2, "devices": 2}, "at least two clips a batch"),
    ],
)
def test_recipes_that_do_not_suit_are_refused_before_a_folder_is_made(
    section: str,
    values: dict[str, object],
    message: str,
    tiny_data: Path,
    teacher: Path,
    tmp_path: Path,
) -> None:
    changes = {f"{section}__{name}": value for name, value in values.items()}
    recipe = changed(student_recipe(), **changes)
    with pytest.raises(RecipeError, match=message):
        transfer(recipe, tiny_data, tmp_path / "run", teacher=str(teacher))
    assert not (tmp_path / "run").exists()


def test_recipes_are_checked_before_the_teacher_is_loaded(
    tiny_data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr("dualstream.engine.train.transfer.load_teacher", load)
    with pytest.raises(RecipeError, match="at least two clips a batch"):
        transfer(student_recipe(batch_size=1), tiny_data, tmp_path / "run", teacher=str(teacher))


def test_a_batch_of_one_source_has_nothing_that_mismatches(
    tiny_data: Path, teacher: Path, tmp_path: Path
) -> None:
    # UCF-101 names: all training clips but one are cut from the same source video.
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    table = (data / "manifest.csv").read_text()
    for label, name in enumerate(("right", "down")):
        for number in range(6):
            old = f"{name}/{name}_{number}.mp4"
            group = 1 if number < 4 and (label, number) != (0, 0) else 2
            new = f"{name}/v_{name if group == 2 else 'same'}_g0{group}_c{label}{number}.mp4"
            (data / "videos" / old).rename(data / "videos" / new)
            table = table.replace(old, new)
    (data / "manifest.csv").write_text(table)
    # A batch of 2 has matching pairs alone, unless the one other clip is in it.
    result = transfer(student_recipe(batch_size=2), data, tmp_path / "run", teacher=str(teacher))
    assert np.isfinite(result.train_loss)
    (data / "manifest.csv").write_text(
        "".join(line for line in table.splitlines(keepends=True) if "_c00" not in line)
    )
    with pytest.raises(AnnotationError, match="train videos are all of one source"):
        transfer(student_recipe(), data, tmp_path / "other", teacher=str(teacher))


def test_teachers_that_cannot_teach(tiny_data: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="the folder of a run of tsn"):
        load_teacher("efficientnet")
    with pytest.raises(InputError, match=r"single RGB frames.*; i3d_rgb_kinetics400 is not"):
        load_teacher("i3d_rgb_kinetics400")
    with pytest.raises(CheckpointError, match="not a run folder"):
        load_teacher(str(tmp_path))
    with pytest.raises(CheckpointError, match="knows no classes yet"):
        load_teacher(str(start))
    train(tiny_recipe("flow", epochs=1), tiny_data, tmp_path / "flow")
    with pytest.raises(InputError, match="single RGB frames"):
        load_teacher(str(tmp_path / "flow"))


def test_published_weights_teach_in_their_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "efficientnet_lite0_imagenet"

    def made(model: str, *, weights: str) -> torch.nn.Module:
        assert (model, weights) == ("tsn", name)
        network = create_model("tsn", **WEIGHTS[name].options)
        network.spec = WEIGHTS[name].spec
        return network

    monkeypatch.setattr("dualstream.engine.train.transfer.create_model", made)
    teacher = load_teacher(name)
    assert teacher.spec.streams["rgb"].mean == (127 / 255, 127 / 255, 127 / 255)
    assert teacher.embed(torch.zeros(2, 3, 1, 64, 64)).shape == (2, 1280)


@pytest.mark.parametrize("name", ["t3d_rgb", "t3d_transfer_rgb"])
def test_the_papers_recipes(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.inputs["rgb"].num_frames, recipe.clip.crop_size) == (32, 224)
    optimizer = recipe.train.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (0.1, 0.9, 1e-4)
    assert optimizer.nesterov
    assert recipe.train.batch_size == {"t3d_rgb": 64, "t3d_transfer_rgb": 16}[name]


@pytest.mark.parametrize("override", ["momentum=0", "name=adamw"])
def test_nesterov_needs_momentum(override: str) -> None:
    with pytest.raises(RecipeError, match="nesterov needs sgd with a momentum above 0"):
        load_recipe("t3d_rgb", [f"train.optimizer.{override}"])
