"""Training: it learns, goes on bit for bit, holds out, averages, stops early, refuses nonsense."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.engine.tiny import changed, stop_in_epoch, tiny_recipe

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.dataset import ClipDataset
from dualstream.engine.datasets import videos_of
from dualstream.engine.recipe import Recipe, load_recipe
from dualstream.engine.run.checkpoint import check_device, load_checkpoint
from dualstream.engine.train.fit import resume, train
from dualstream.errors import (
    AnnotationError,
    CheckpointError,
    DiskError,
    DivergedError,
    FlowStoreError,
    InputError,
    RecipeError,
    ShapeError,
    SharedMemoryError,
    UnknownNameError,
    WeightsError,
)
from dualstream.flow import FlowStore
from dualstream.types import Clip
from dualstream.video import write_video


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def rows_of(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "log.csv").read_text().splitlines()))


def assert_same_weights(first: Path, second: Path) -> None:
    a, b = weights_of(first), weights_of(second)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgb_diff"])
def test_every_modality_trains_to_a_falling_loss(
    modality: str, tiny_data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(modality, epochs=10, optimizer={"name": "adamw", "lr": 0.005})
    recipe.model.options["dropout"] = 0.0
    result = train(recipe, tiny_data, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert [int(row["epoch"]) for row in rows] == list(range(1, 11))
    # The mean of several epochs: single ones go up and down with a few samples, and differ from
    # processor to processor.
    losses = [float(row["train_loss"]) for row in rows]
    assert sum(losses[-4:]) / 4 < 0.9 * losses[0]
    assert result.train_loss == pytest.approx(float(rows[-1]["train_loss"]), rel=1e-5)


def test_a_run_folder_is_complete(tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny_recipe(epochs=1), tiny_data, run)
    assert {path.name for path in run.iterdir()} == {
        "model.safetensors",
        "recipe.yaml",
        "classes.txt",
        "run.json",
        "metrics.json",
        "trainer.ckpt",
        "log.csv",
        "tensorboard",
    }
    info = json.loads((run / "run.json").read_text())
    assert info["manifest"] == str(tiny_data)
    assert info["seed"] == 0
    assert info["version"]
    checkpoint = load_checkpoint(run)
    assert checkpoint.classes == ("right", "down")
    assert not checkpoint.model.training


def test_same_seed_same_weights_other_seed_others(tiny_data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tiny_recipe(epochs=1, seed=seed), tiny_data, tmp_path / name)
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    assert not torch.equal(
        weights_of(tmp_path / "a")["classifier.weight"],
        weights_of(tmp_path / "c")["classifier.weight"],
    )


def test_workers_do_not_change_the_result(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe("flow", epochs=2)
    train(recipe, tiny_data, tmp_path / "none")
    train(changed(recipe, data__workers=2), tiny_data, tmp_path / "two")
    assert_same_weights(tmp_path / "none", tmp_path / "two")


def recorded_keys(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The (epoch, index) of every sample that is read from now on."""
    keys: list[tuple[int, int]] = []
    original = ClipDataset.__getitem__

    def reading(self: ClipDataset, key: tuple[int, int]) -> Clip:
        keys.append(key)
        return original(self, key)

    monkeypatch.setattr(ClipDataset, "__getitem__", reading)
    return keys


def test_every_epoch_draws_anew_also_after_resuming(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = recorded_keys(monkeypatch)
    recipe = tiny_recipe(epochs=4)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, tiny_data, tmp_path / "run", listener=stop_in_epoch(2))
    done = [key for key in keys if key[0] < 2]
    del keys[:]
    resume(tmp_path / "run")
    whole = done + keys
    assert [epoch for epoch, _ in whole] == [0] * 8 + [1] * 8 + [2] * 8 + [3] * 8
    orders = [[index for e, index in whole if e == epoch] for epoch in range(4)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema_decay": 0.5, "accumulate": 2},
        {
            "optimizer": {"name": "adamw", "lr": 0.001},
            "schedule": {"name": "cosine", "warmup_epochs": 1},
            "clip_norm": 1.0,
        },
    ],
)
def test_resumed_is_bit_equal_to_unbroken(
    settings: dict[str, object], tiny_data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(epochs=4, **settings)
    train(recipe, tiny_data, tmp_path / "unbroken")
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, tiny_data, tmp_path / "broken", listener=stop_in_epoch(2))
    result = resume(tmp_path / "broken")
    assert result.epochs == 4
    assert_same_weights(tmp_path / "unbroken", tmp_path / "broken")
    assert (tmp_path / "unbroken/log.csv").read_text() == (tmp_path / "broken/log.csv").read_text()


def test_a_run_stopped_before_its_first_epoch_ended_resumes(
    tiny_data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(epochs=2)
    train(recipe, tiny_data, tmp_path / "unbroken")
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, tiny_data, tmp_path / "broken", listener=stop_in_epoch(0))
    with pytest.raises(CheckpointError, match="no weights yet"):
        load_checkpoint(tmp_path / "broken")
    resume(tmp_path / "broken")
    assert_same_weights(tmp_path / "unbroken", tmp_path / "broken")


def test_a_full_disk_leaves_the_last_whole_state(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(epochs=3)
    train(recipe, tiny_data, tmp_path / "unbroken")
    original, calls = torch.save, []

    def save_until_full(value: object, path: Path) -> None:
        calls.append(path)
        if len(calls) > 1:
            path.write_bytes(b"half of the state")
            raise OSError(errno.ENOSPC, "No space left on device")
        original(value, path)

    monkeypatch.setattr("dualstream.engine.train.run_folder.torch.save", save_until_full)
    with pytest.raises(OSError, match="No space left"):
        train(recipe, tiny_data, tmp_path / "full")
    monkeypatch.undo()
    assert not list((tmp_path / "full").glob(".*tmp*"))
    resume(tmp_path / "full")
    assert_same_weights(tmp_path / "unbroken", tmp_path / "full")


def test_resuming_a_finished_run_changes_nothing(tiny_data: Path, tmp_path: Path) -> None:
    train(tiny_recipe(epochs=2), tiny_data, tmp_path / "run")
    before = weights_of(tmp_path / "run")
    result = resume(tmp_path / "run")
    after = weights_of(tmp_path / "run")
    assert result.epochs == 2
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_held_out_videos_are_never_trained_on(tiny_data: Path) -> None:
    recipe = tiny_recipe(hold_out=0.25)
    manifest = Manifest.read(tiny_data)
    parts = {
        part: {r.path for r in videos_of(manifest, recipe, part).records}
        for part in ("train", "held_out", "test")
    }
    assert {name: len(paths) for name, paths in parts.items()} == {
        "train": 6,
        "held_out": 2,
        "test": 4,
    }
    assert not parts["train"] & parts["held_out"]
    assert not parts["test"] & (parts["train"] | parts["held_out"])


def test_without_hold_out_there_is_no_held_out_part(tiny_data: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.hold_out"):
        videos_of(Manifest.read(tiny_data), tiny_recipe(), "held_out")


def test_running_mean_of_the_weights_is_saved(tiny_data: Path, tmp_path: Path) -> None:
    # One step an epoch, no momentum: after steps w1, w2 the mean is .25 w1 + .75 w2.
    sgd = {"name": "sgd", "lr": 0.05, "momentum": 0.0}
    common = {"batch_size": 8, "optimizer": sgd, "schedule": {"name": "constant"}}
    for epochs in (1, 2):
        train(tiny_recipe(epochs=epochs, **common), tiny_data, tmp_path / f"plain{epochs}")
    train(tiny_recipe(epochs=2, ema_decay=0.25, **common), tiny_data, tmp_path / "mean")
    first, second = weights_of(tmp_path / "plain1"), weights_of(tmp_path / "plain2")
    mean = weights_of(tmp_path / "mean")
    for name in ("classifier.weight", "classifier.bias"):
        expected = 0.25 * first[name] + 0.75 * second[name]
        torch.testing.assert_close(mean[name], expected, rtol=1e-5, atol=1e-7)
        assert not torch.equal(mean[name], second[name])


def test_early_stop_keeps_the_best_weights(tiny_data: Path, tmp_path: Path) -> None:
    settings = {"early_stop_patience": 2, "optimizer": {"name": "sgd", "lr": 1e-9}}
    recipe = tiny_recipe(hold_out=0.25, epochs=30, **settings)
    result = train(recipe, tiny_data, tmp_path / "run")
    # With no learning the first validation stays the best: 1 + 2 epochs.
    assert result.epochs == 3
    rows = rows_of(tmp_path / "run")
    assert result.held_out_top1 == pytest.approx(float(rows[0]["held_out_top1"]))


def test_last_layer_only_leaves_the_trunk_as_it_was(tiny_data: Path, tmp_path: Path) -> None:
    frozen = changed(tiny_recipe(epochs=2), model__trainable="last_layer")
    train(changed(frozen, train__epochs=1), tiny_data, tmp_path / "one")
    train(frozen, tiny_data, tmp_path / "two")
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    moved = {name for name in one if not torch.equal(one[name], two[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_limit_cuts_epochs(tiny_data: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    train(
        tiny_recipe(epochs=2),
        tiny_data,
        tmp_path / "run",
        limit=1,
        listener=lambda p: seen.append((p.epoch, p.batch)),
    )
    assert max(batch for _, batch in seen) == 1


def test_a_used_folder_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    train(tiny_recipe(epochs=1), tiny_data, tmp_path / "run")
    with pytest.raises(InputError, match="--resume"):
        train(tiny_recipe(epochs=1), tiny_data, tmp_path / "run")


def test_resume_refuses_a_changed_manifest(tiny_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    train(tiny_recipe(epochs=1), data, tmp_path / "run")
    with (data / "manifest.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(CheckpointError, match="has changed since"):
        resume(tmp_path / "run")


def test_resume_from_a_broken_state_says_so(tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(tiny_recipe(), tiny_data, run, listener=stop_in_epoch(1))
    state = run / "trainer.ckpt"
    whole = state.read_bytes()
    for content in (whole[: len(whole) // 2], whole.replace(b"PK\1\2", b"PK\1\3"), b"no state"):
        state.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"trainer\.ckpt is broken .* Copy the file again"
        ):
            resume(run)
    torch.save({"epoch": 1}, state)
    with pytest.raises(CheckpointError, match=r"trainer\.ckpt is no state of a training run"):
        resume(run)


def test_resume_of_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run folder"):
        resume(tmp_path)


def test_missing_flow_names_the_remedy(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(FlowStoreError, match="dualstream flow"):
        train(tiny_recipe("flow"), tiny_data, tmp_path / "run", flow=tmp_path / "nothing")


def test_a_diverging_run_stops_with_advice(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(epochs=8, optimizer={"name": "sgd", "lr": 1e30})
    with pytest.raises(DivergedError, match=r"loss is .*_\d\.mp4.*train\.optimizer\.lr"):
        train(recipe, tiny_data, tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ({"name": "tsm"}, UnknownNameError, "network 'tsm'|model 'tsm'"),
        ({"options": {"dropot": 0.5}}, UnknownNameError, "dropot"),
        ({"options": {"dropout": "abc"}}, InputError, "dropout of tsn must be float, got 'abc'"),
        ({"options": {"length": 7}}, RecipeError, "model.options.length=7 is not what the input"),
        ({"trainable": 99}, InputError, "stages to train"),
    ],
)
def test_networks_that_cannot_be_are_refused_before_a_folder_is_made(
    model: dict[str, object],
    error: type[Exception],
    message: str,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    values = tiny_recipe(epochs=1).model_dump()
    values["model"] |= model
    with pytest.raises(error, match=message):
        train(Recipe.model_validate(values), tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "values", "error", "message"),
    [
        ("data", {"split": 99}, InputError, "split must be 1..1"),
        ("model", {"weights": "i3d_rgb_kinetics400"}, WeightsError, "are for 'i3d'"),
        (
            "model",
            {"name": "lecture_3d_cnn", "options": {}},
            ShapeError,
            r"at least 4 x 4 x 4 .*got 1 x 32 x 32",
        ),
    ],
)
def test_a_start_that_fails_leaves_no_folder(
    section: str,
    values: dict[str, object],
    error: type[Exception],
    message: str,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    recipe = tiny_recipe(epochs=1).model_dump()
    recipe[section] |= values
    with pytest.raises(error, match=message):
        train(Recipe.model_validate(recipe), tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(tiny_recipe(epochs=1), tiny_data, tmp_path / "run")


def test_weights_that_are_no_numbers_are_not_saved(tiny_data: Path, tmp_path: Path) -> None:
    # One step: its loss is still that of the first weights.
    optimizer = {"name": "sgd", "lr": 3e38, "weight_decay": 1000.0}
    recipe = tiny_recipe(epochs=1, optimizer=optimizer)
    with pytest.raises(DivergedError, match=r"Weights .* in epoch 1\. Lower train\.optimizer\.lr"):
        train(recipe, tiny_data, tmp_path / "run", limit=1)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named_before_a_folder_is_made(
    tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no GPU that torch can use"):
        train(tiny_recipe(epochs=1, accelerator="gpu"), tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mistyped_data_folder_is_not_its_parent(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="typo"):
        train(tiny_recipe(epochs=1), tiny_data / "typo", tmp_path / "run")
    train(tiny_recipe(epochs=1), tiny_data / "manifest.csv", tmp_path / "run")


@pytest.mark.parametrize("option", ["num_classes", "in_channels", "weights", "name"])
def test_options_that_are_decided_elsewhere_are_refused(option: str) -> None:
    with pytest.raises(RecipeError, match=f"{option} is no option here"):
        load_recipe("tsn_rgb", [f"model.options.{option}=3"])


@pytest.mark.parametrize("name", ["nonsense", "cuda:99"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}'"):
        check_device(name)
    assert check_device("cpu") == torch.device("cpu")


def test_a_full_disk_is_told_before_the_first_epoch(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(DiskError, match=r"a run needs 4\.\d MB, 0\.1 MB are free") as raised:
        train(tiny_recipe(epochs=1), tiny_data, tmp_path / "run")
    assert raised.value.errno == errno.ENOSPC
    assert not (tmp_path / "run").exists()


def test_a_run_without_shared_memory_may_be_started_again(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ClipDataset, key: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_0>")

    with monkeypatch.context() as patched:
        patched.setattr(ClipDataset, "__getitem__", fail)
        with pytest.raises(SharedMemoryError, match=r"data\.workers=0"):
            train(tiny_recipe(epochs=1), tiny_data, tmp_path / "run")
    train(tiny_recipe(epochs=1), tiny_data, tmp_path / "run")
    assert weights_of(tmp_path / "run")


def with_single_frames(data: Path, folder: Path, *names: str) -> Path:
    """A copy of the tiny data in which some videos have one frame, and so no flow."""
    shutil.copytree(data, folder)
    manifest = Manifest.read(folder)
    for name in names:
        write_video(folder / "videos" / name, np.full((1, 48, 64, 3), 90, np.uint8), fps=25)
        FlowStore(folder / "flow").path(name).unlink()
    records = tuple(
        dataclasses.replace(record, frames=1, sha256="") if record.path in names else record
        for record in manifest.records
    )
    dataclasses.replace(manifest, records=records).write(folder)
    return folder


def test_videos_of_one_frame_are_left_out_where_flow_is_read(
    tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = tiny_recipe("flow", epochs=2, batch_size=2, hold_out=0.4)
    manifest = Manifest.read(tiny_data)
    trained, held_out = (
        [record.path for record in videos_of(manifest, recipe, part).records]
        for part in ("train", "held_out")
    )
    data = with_single_frames(tiny_data, tmp_path / "data", trained[0], held_out[0])
    result = train(recipe, data, tmp_path / "run")
    assert result.epochs == 2
    (told,) = [r.getMessage() for r in caplog.records if r.name.startswith("dualstream")]
    assert told == (
        "Left out of training: 2 of the videos, which have one frame, and flow needs two "
        f"({', '.join(map(repr, sorted([trained[0], held_out[0]])))})."
    )
    caplog.clear()
    train(tiny_recipe(epochs=1), data, tmp_path / "rgb")
    assert not [r for r in caplog.records if r.name.startswith("dualstream")]


def test_flow_of_videos_of_one_frame_alone_is_an_error(tiny_data: Path, tmp_path: Path) -> None:
    names = [record.path for record in Manifest.read(tiny_data).records]
    data = with_single_frames(tiny_data, tmp_path / "data", *names)
    with pytest.raises(AnnotationError, match=r"All train videos .* have one frame"):
        train(tiny_recipe("flow"), data, tmp_path / "run")


def as_version_0_1(run: Path) -> None:
    """Write recipe.yaml and run.json of a flow run as version 0.1 did: one stream, `input:`."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    ((_, stream),) = recipe.pop("inputs").items()
    recipe["input"] = {**stream, **recipe.pop("clip")}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    info = json.loads((run / "run.json").read_text())
    origin = info.pop("flow")["flow"]
    info |= {
        "flow_store": origin["store"],
        "flow_params": origin["params"],
        "backward_store": origin["backward_store"],
        "version": "0.1.0",
    }
    (run / "run.json").write_text(json.dumps(info))


def test_a_run_of_version_0_1_is_resumed_and_loaded(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe("flow", epochs=3)
    train(recipe, tiny_data, tmp_path / "unbroken")
    old = tmp_path / "old"
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, tiny_data, old, listener=stop_in_epoch(1))
    as_version_0_1(old)
    assert "inputs" not in (old / "recipe.yaml").read_text()
    resume(old)
    assert_same_weights(tmp_path / "unbroken", old)
    checkpoint, new = load_checkpoint(old), load_checkpoint(tmp_path / "unbroken")
    assert checkpoint.spec == new.spec
    assert checkpoint.info.flow == new.info.flow
    assert checkpoint.flow_params == new.flow_params
