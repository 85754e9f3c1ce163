"""Testing: views averaged, bad videos reported, other classes refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.engine.tiny import tiny_recipe
from torch import nn

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.transforms import normalize
from dualstream.engine.datasets import test_dataset as views_of_test
from dualstream.engine.infer.evaluate import VideoScore, collect, evaluate, view_logits
from dualstream.engine.recipe import load_recipe
from dualstream.engine.run.checkpoint import (
    Checkpoint,
    build_model,
    load_checkpoint,
    read_metrics,
    save_metrics,
    with_test_views,
)
from dualstream.engine.train.fit import train
from dualstream.errors import CheckpointError, RecipeError, ScoresError
from dualstream.models.network import Network
from dualstream.types import InputSpec


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    train(tiny_recipe("flow", epochs=1), tiny_data, folder)
    return folder


@pytest.fixture
def checkpoint(run: Path) -> Checkpoint:
    return load_checkpoint(run)


def test_a_video_gets_the_mean_softmax_of_its_views(
    checkpoint: Checkpoint, tiny_data: Path
) -> None:
    count, results = evaluate(checkpoint, workers=0)
    scored = {result.name: result for result in results}
    assert count == len(scored) == 4
    videos = Manifest.read(tiny_data).subset(1, "test")
    dataset = views_of_test(videos, checkpoint.recipe, checkpoint.info)
    for number, record in enumerate(videos.records):
        views = dataset[number].data["flow"]
        assert views.shape == (6, 2, 3, 32, 32)  # 2 segments x 3 crops
        with torch.no_grad():
            logits = checkpoint.model(normalize(views, checkpoint.spec))
        expected = logits.softmax(dim=1).mean(dim=0).numpy()
        np.testing.assert_allclose(scored[record.path].probabilities, expected, atol=1e-6)
        assert scored[record.path].label == record.label


def test_a_test_of_other_sizes_is_read_and_normalised_so(tiny_data: Path, tmp_path: Path) -> None:
    overrides = ["input.num_frames=4", "input.short_side=40", "input.crop_size=32"]
    overrides += ["train.epochs=1", "train.batch_size=4", "data.workers=0"]
    overrides += ["test={segments: 2, crops: three, whole_side: true, num_frames: 6}"]
    recipe = load_recipe("lecture_3d_cnn", overrides)
    train(recipe, tiny_data, tmp_path / "run", limit=1)
    checkpoint = load_checkpoint(tmp_path / "run")
    videos = Manifest.read(tiny_data).subset(1, "test")
    views = views_of_test(videos, checkpoint.recipe, checkpoint.info)[0].data["rgb"]
    assert views.shape == (6, 3, 6, 40, 40)
    score = next(evaluate(checkpoint, workers=0)[1])
    with torch.no_grad():
        logits = checkpoint.model(normalize(views, recipe.test_spec()))
    expected = logits.softmax(dim=1).mean(dim=0).numpy()
    np.testing.assert_allclose(score.probabilities, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "test", "message"),
    [
        ("c3d", "test.whole_side=true", "takes one image_size only, 112 in training and 128 in"),
        ("early_fusion", "test.num_frames=12", "takes one length only, 10 in training and 12 in"),
    ],
)
def test_full_layers_see_the_sizes_of_training(network: str, test: str, message: str) -> None:
    with torch.device("meta"), pytest.raises(RecipeError, match=message):
        build_model(load_recipe(network, [test]), 2, with_weights=False)


def test_full_layers_are_made_for_the_input_of_the_recipe() -> None:
    recipe = load_recipe("c3d", ["input.crop_size=48", "input.num_frames=32"])
    with torch.device("meta"):
        model = build_model(recipe, 2, with_weights=False)
    assert (model.length, model.image_size) == (32, 48)


@pytest.mark.parametrize("consensus", ["max", "linear"])
def test_a_consensus_sees_the_segments_of_a_crop_together(
    consensus: str, tiny_data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(epochs=1)
    options = {**recipe.model.options, "consensus": consensus}
    if consensus == "linear":
        options["num_segments"] = 2
    model = recipe.model.model_copy(update={"options": options})
    train(recipe.model_copy(update={"model": model}), tiny_data, tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run")
    scored = {result.name: result for result in evaluate(checkpoint, workers=0)[1]}
    videos = Manifest.read(tiny_data).subset(1, "test")
    views = views_of_test(videos, checkpoint.recipe, checkpoint.info)[0].data["rgb"]
    crops = [torch.stack([views[crop], views[3 + crop]]) for crop in range(3)]  # 2 segments each
    with torch.no_grad():
        logits = checkpoint.model(normalize(torch.stack(crops), checkpoint.spec))
    expected = logits.softmax(dim=1).mean(dim=0).numpy()
    found = scored[videos.records[0].path].probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_workers_and_views_at_once_change_nothing(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = collect(evaluate(checkpoint, workers=0)[1], checkpoint.classes)
    monkeypatch.setattr("dualstream.engine.infer.evaluate.VIEWS_AT_ONCE", 4)
    other = collect(evaluate(checkpoint, workers=1)[1], checkpoint.classes)
    assert plain.names == other.names
    np.testing.assert_allclose(plain.scores, other.scores, atol=1e-6)


def test_other_views_can_be_asked_for(checkpoint: Checkpoint) -> None:
    changed = with_test_views(checkpoint, segments=5, crops="ten")
    assert (changed.recipe.test.segments, changed.recipe.test.crops) == (5, "ten")
    assert (checkpoint.recipe.test.segments, checkpoint.recipe.test.crops) == (2, "three")
    assert with_test_views(checkpoint).recipe == checkpoint.recipe


def test_a_bad_video_is_reported_and_the_rest_goes_on(run: Path, tiny_data: Path) -> None:
    data = run.parent / "damaged"
    shutil.copytree(tiny_data, data, dirs_exist_ok=True)
    (data / "flow" / "right" / "right_4.mp4.zip").write_bytes(b"not a zip")
    checkpoint = load_checkpoint(run)
    _, results = evaluate(checkpoint, manifest_folder=data, flow_store=data / "flow", workers=0)
    done = list(results)
    failed = [result for result in done if result.error is not None]
    assert [result.name for result in failed] == ["right/right_4.mp4"]
    assert "right_4.mp4.zip" in str(failed[0].error)
    assert len(collect(done, checkpoint.classes)) == 3


def test_flow_of_another_video_is_refused(run: Path, tiny_data: Path) -> None:
    data = run.parent / "swapped"
    shutil.copytree(tiny_data, data, dirs_exist_ok=True)
    store = data / "flow" / "right"
    shutil.copy(store / "right_5.mp4.zip", store / "right_4.mp4.zip")
    _, results = evaluate(
        load_checkpoint(run), manifest_folder=data, flow_store=data / "flow", workers=0
    )
    failed = [result for result in results if result.error is not None]
    assert [result.name for result in failed] == ["right/right_4.mp4"]
    assert "another video" in str(failed[0].error)


def test_classes_of_another_data_set_are_refused(checkpoint: Checkpoint, tiny_data: Path) -> None:
    data = checkpoint.folder.parent / "renamed"
    shutil.copytree(tiny_data, data, dirs_exist_ok=True)
    (data / "classes.txt").write_text("right\nup\n")
    with pytest.raises(CheckpointError, match="class 1 is 'down' there and 'up' here"):
        evaluate(checkpoint, manifest_folder=data)
    (data / "classes.txt").write_text("right\ndown\nup\n")
    with pytest.raises(CheckpointError, match="2 classes there, 3 here"):
        evaluate(checkpoint, manifest_folder=data)


def test_nothing_scored_is_an_error() -> None:
    with pytest.raises(ScoresError, match="No video could be scored"):
        collect([VideoScore("a.mp4", 0, None, "broken")], ("a",))


def test_broken_weights_are_named(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is broken"):
        load_checkpoint(copy)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "recipe.yaml",
            b"title: \xdc",
            r"recipe\.yaml:1: byte 0xdc is not .* Copy the file",
        ),
        ("recipe.yaml", b"a: [", r"recipe\.yaml is not YAML"),
        ("classes.txt", b"\xdc\n", r"classes\.txt:1: byte 0xdc is not UTF-8 text.* train again"),
        ("run.json", b'"\xdc"', r"run\.json:1: byte 0xdc is not UTF-8 text"),
        ("run.json", b"{", r"run\.json:1: this is not JSON.* Copy the file again"),
        ("run.json", b"[1]", r"run\.json is broken: it must hold one object with keys, got list"),
        ("run.json", b'{"manifest": "x"}', r"broken: it lacks flow_store, manifest_sha256\."),
    ],
)
def test_broken_files_of_a_run_are_named(
    run: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        load_checkpoint(copy)


def test_broken_metrics_are_named(tmp_path: Path) -> None:
    save_metrics(tmp_path, {"epochs": 2})
    save_metrics(tmp_path, {"test": 0.5})
    assert read_metrics(tmp_path) == {"epochs": 2, "test": 0.5}
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"metrics\.json is broken: .* Copy the file again"):
        save_metrics(tmp_path, {"epochs": 3})


def test_a_run_of_another_version_is_told_from_a_broken_one(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    values = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**values, "planet": "Mars"}))
    with pytest.raises(CheckpointError, match=r"run\.json says planet, which this version"):
        load_checkpoint(copy)


def test_weights_of_another_network_are_listed(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(CheckpointError, match=r"2 of another shape: classifier\.bias \(2,\)"):
        load_checkpoint(copy)
