"""One trunk, several data sets: losses, gradients, batches; runs that test, predict and resume."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.cli.command import dualstream, succeed
from tests.engine.tiny import changed, stop_in_epoch, tiny_recipe
from tests.engine.tiny_student import tiny_student
from torch import nn
from torch.nn import functional as F

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.clips.data.prepare import prepare
from dualstream.engine.recipe import dump_recipe, load_recipe
from dualstream.engine.run.checkpoint import state_of_head
from dualstream.engine.run.info import RunInfo, read_run
from dualstream.engine.train.multi_task import MultiTaskModule, named_folders, samples_of_batch
from dualstream.errors import (
    AnnotationError,
    CheckpointError,
    FlowStoreError,
    InputError,
    RecipeError,
    UnknownNameError,
)

CLASSES = ("idle", "down", "right")
"""Of the second data set: two names of the first, in another order."""


def second_data(tiny_data: Path, folder: Path, *, classes: tuple[str, ...] = CLASSES) -> Path:
    """Ten videos of `tiny_data` (five each) as another data set, with their flow."""
    manifest = Manifest.read(tiny_data)
    names = manifest.classes
    records = tuple(
        replace(record, label=classes.index(names[record.label]))
        for record in manifest.records
        if not record.path.endswith("_0.mp4")
    )
    Manifest(records, classes, manifest.root).write(folder)
    shutil.copytree(tiny_data / "flow", folder / "flow")
    return folder


@pytest.fixture
def other(tiny_data: Path, tmp_path: Path) -> Path:
    return second_data(tiny_data, tmp_path / "other")


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on both data sets, and the folder of the second; do not change them."""
    folder = tmp_path_factory.mktemp("trained")
    other = second_data(tiny_data, folder / "other")
    ds.train(tiny_recipe("flow", hold_out=0.25, epochs=4), tiny_data, folder / "run", also=[other])
    return folder / "run", other


# ---- losses and gradients ----


def two_heads() -> MultiTaskModule:
    """Heads a of 2 classes and b of 3 over one trunk; batches of 3 samples of a and one of b."""
    torch.manual_seed(0)
    network = tiny_student(num_classes=5)
    sizes = {"train": {"a": 3, "b": 1}, "held_out": {"a": 3, "b": 1}}
    return MultiTaskModule(tiny_recipe(), network, heads={"a": 2, "b": 3}, sizes=sizes)


LABELS = torch.tensor([1, 0, 3, 1])  # a: 1, 0, 1; b: 1


def test_the_loss_is_the_sum_of_the_means_of_each_head() -> None:
    # In a, equal logits: log 2 each. In b, one logit is log 6 above two equal ones: its share is
    # 6/8, that of the true one 1/8. The logits of the other head count for nothing.
    logits = torch.full((4, 5), 100.0)
    logits[[0, 1, 3], :2] = 7.0
    logits[2, 2:] = torch.tensor([np.log(6.0), 0.0, 0.0])
    loss = two_heads().cross_entropy(logits, LABELS, "train")
    assert loss.item() == pytest.approx(np.log(2.0) + np.log(8.0))


def test_top1_is_the_mean_of_the_heads() -> None:
    logits = torch.zeros(4, 5)
    logits[:, 4] = 9.0  # the best of all in b; in a the first of two equal ones
    module = two_heads()
    assert module.top1(logits, LABELS, "train").item() == pytest.approx((1 / 3 + 0) / 2)
    logits[2, 3] = 10.0
    assert module.top1(logits, LABELS, "train").item() == pytest.approx((1 / 3 + 1) / 2)


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_loss_of_a_batch_is_the_mean_over_processes(world_size: int) -> None:
    module, logits = two_heads(), torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    parts = [
        module.cross_entropy(logits[rank::world_size], LABELS[rank::world_size], "train")
        for rank in range(world_size)
    ]
    torch.testing.assert_close(
        torch.stack(parts).mean(), module.cross_entropy(logits, LABELS, "train")
    )


def gradients(network: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    names, parameters = zip(*network.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def test_it_is_two_networks_with_one_trunk() -> None:
    module = two_heads()
    network = module.model
    clips = torch.randn(4, 3, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    own = gradients(network, module.cross_entropy(network(clips), LABELS, "train"))
    features = network.embed(clips)
    heads = []
    for rows in (slice(0, 2), slice(2, 5)):
        head = nn.Linear(32, rows.stop - rows.start)
        head.weight.data = network.classifier.weight.data[rows]
        head.bias.data = network.classifier.bias.data[rows]
        heads.append(head)
    in_a = torch.tensor([True, True, False, True])
    loss = F.cross_entropy(heads[0](features[in_a]), torch.tensor([1, 0, 1]))
    loss = loss + F.cross_entropy(heads[1](features[~in_a]), torch.tensor([1]))
    joined = nn.ModuleList([network.conv1, network.conv2, *heads])
    by_hand = gradients(joined, loss)
    trunk = [name for name in own if not name.startswith("classifier")]
    for name in trunk:
        there = name.replace("conv1", "0").replace("conv2", "1")
        torch.testing.assert_close(own[name], by_hand[there])
    weight = torch.cat([by_hand["2.weight"], by_hand["3.weight"]])
    torch.testing.assert_close(own["classifier.weight"], weight)


def test_a_head_learns_from_its_own_samples_only() -> None:
    module = two_heads()
    clips = torch.randn(3, 3, 4, 16, 16)
    labels = torch.tensor([1, 0, 1])
    found = gradients(module.model, module.cross_entropy(module.model(clips), labels, "train"))
    assert not found["classifier.weight"][2:].any()
    assert not found["classifier.bias"][2:].any()
    assert found["classifier.weight"][:2].any()
    assert found["conv1.conv.weight"].any()


@pytest.mark.parametrize("head", ["a", "b"])
def test_rows_of_a_head(head: str) -> None:
    info = RunInfo("", "", heads={"a": 2, "b": 3}, head=head)
    whole = {"classifier.weight": torch.arange(10.0).reshape(5, 2), "stem": torch.ones(5)}
    count = info.heads[head]
    found = state_of_head(
        whole, {"classifier.weight": torch.zeros(count, 2), "stem": torch.ones(5)}, info
    )
    first = {"a": 0, "b": 2}[head]
    assert torch.equal(
        found["classifier.weight"], whole["classifier.weight"][first : first + count]
    )
    assert torch.equal(found["stem"], whole["stem"])


# ---- names and shares ----


@pytest.mark.parametrize(
    ("batch_size", "shares", "expected"),
    [
        (4, {}, [2, 2]),
        (10, {"a": 2}, [7, 3]),
        (10, {"a": 1, "b": 3}, [3, 7]),  # 2.5 and 7.5: the first gets the odd one
        (9, {"a": 8, "b": 1}, [8, 1]),
    ],
)
def test_samples_of_a_batch(batch_size: int, shares: dict[str, float], expected: list[int]) -> None:
    found = samples_of_batch(batch_size, ("a", "b"), shares)
    assert found == dict(zip("ab", expected, strict=True))


def test_shares_that_cannot_be() -> None:
    with pytest.raises(UnknownNameError, match=r"data set in data.shares 'c'.*Allowed: a, b"):
        samples_of_batch(4, ("a", "b"), {"c": 1})
    with pytest.raises(RecipeError, match="A batch of 4 samples has no room for one of b"):
        samples_of_batch(4, ("a", "b"), {"a": 99})


def test_names_of_data_sets(tmp_path: Path) -> None:
    also = ["ucf=elsewhere/work", str(tmp_path / "y" / "manifest.csv")]
    folders = named_folders(tmp_path / "x", also)
    assert folders == {
        "x": tmp_path / "x",
        "ucf": Path("elsewhere/work").absolute(),
        "y": tmp_path / "y",
    }
    (tmp_path / "a=b").mkdir()
    assert list(named_folders(tmp_path / "x", [tmp_path / "a=b"])) == ["x", "a=b"]


def test_names_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Two data sets are named 'x'.*--also NAME=elsewhere/x"):
        named_folders(tmp_path / "x", ["elsewhere/x"])
    with pytest.raises(InputError, match="cannot be named 'a,b'"):
        named_folders(tmp_path / "x", ["a,b=elsewhere"])
    with pytest.raises(InputError, match=r"cannot be named '\.\.'"):
        named_folders(tmp_path / "x", ["..=elsewhere"])


# ---- runs ----


def test_a_run_has_a_head_for_each_data_set(trained: tuple[Path, Path], tiny_data: Path) -> None:
    run, other = trained
    recipe, classes, info = read_run(run)
    assert classes == ("right", "down")
    assert (dict(info.heads), info.head) == ({tiny_data.name: 2, "other": 3}, tiny_data.name)
    head = run / "heads" / "other"
    assert {path.name for path in head.iterdir()} == {"recipe.yaml", "classes.txt", "run.json"}
    of_head, classes, info = read_run(head)
    assert (of_head, classes) == (recipe, CLASSES)
    assert (info.manifest, info.head) == (str(other), "other")
    assert info.flow["flow"].store == str(other / "flow")
    assert load_file(run / "model.safetensors")["classifier.weight"].shape[0] == 5


def test_metrics_are_those_of_each_head(trained: tuple[Path, Path], tiny_data: Path) -> None:
    run, _ = trained
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    heads = json.loads((run / "metrics.json").read_text())["heads"]
    assert list(heads) == [tiny_data.name, "other"]
    for top in ("train_top1", "held_out_top1"):
        for row in rows:
            each = [float(row[f"{top}_{name}"]) for name in heads]
            assert float(row[top]) == pytest.approx(np.mean(each), abs=1e-5)
        for name in heads:
            assert heads[name][top] == pytest.approx(float(rows[-1][f"{top}_{name}"]), abs=1e-5)


def test_each_head_is_a_checkpoint_of_its_own(trained: tuple[Path, Path], tiny_data: Path) -> None:
    run, _ = trained
    first, second = ds.load_checkpoint(run), ds.load_checkpoint(run / "heads" / "other")
    weight = load_file(run / "model.safetensors")["classifier.weight"]
    assert torch.equal(first.model.classifier.weight, weight[:2])
    assert torch.equal(second.model.classifier.weight, weight[2:])
    assert (first.classes, second.classes) == (("right", "down"), CLASSES)
    video = tiny_data / "videos" / "right" / "right_5.mp4"
    assert ds.predict(video, run / "heads" / "other").classes == CLASSES


def copy_of(trained: tuple[Path, Path], folder: Path) -> tuple[Path, Path]:
    shutil.copytree(trained[0], folder)
    return folder, trained[1]


def test_the_class_list_chooses_the_head(
    trained: tuple[Path, Path], tiny_data: Path, tmp_path: Path
) -> None:
    run, other = copy_of(trained, tmp_path / "run")
    first = ds.evaluate(run, workers=0)
    assert (first.path, first.scores.classes) == (run / "scores.npz", ("right", "down"))
    second = ds.evaluate(run, data=other, workers=0)
    assert (second.path, second.scores.classes) == (run / "heads/other/scores.npz", CLASSES)
    assert second.failures == {}
    directly = ds.evaluate(run / "heads" / "other", workers=0)
    np.testing.assert_array_equal(directly.scores.scores, second.scores.scores)
    assert json.loads((run / "heads/other/metrics.json").read_text())["test"] == directly.metrics
    assert "test" in json.loads((run / "metrics.json").read_text())


def test_heads_fuse_as_any_other_run(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, other = copy_of(trained, tmp_path / "run")
    for part in ("test", "held_out"):
        ds.evaluate(run, data=other, part=part, workers=0)
    head = run / "heads" / "other"
    fused = ds.fuse_runs([head, head], method="weighted")
    assert fused.fused.classes == CLASSES


def test_a_data_set_of_no_head_is_refused(
    trained: tuple[Path, Path], tiny_data: Path, tmp_path: Path
) -> None:
    run, _ = trained
    third = second_data(tiny_data, tmp_path / "third", classes=("down", "right", "idle"))
    said = f"{tiny_data.name}: class 0 is 'right' there and 'down' here; other: class 0 is 'idle'"
    with pytest.raises(CheckpointError, match=said):
        ds.evaluate(run, data=third, workers=0)


def test_heads_of_equal_classes_are_told_apart_by_their_data(
    tiny_data: Path, tmp_path: Path
) -> None:
    twin = second_data(tiny_data, tmp_path / "twin", classes=("right", "down"))
    run = tmp_path / "run"
    ds.train(tiny_recipe(epochs=1), tiny_data, run, also=[twin])
    assert ds.evaluate(run, data=twin, workers=0).path == run / "heads/twin/scores.npz"
    assert ds.evaluate(run, data=tiny_data, workers=0).path == run / "scores.npz"
    moved = shutil.copytree(twin, tmp_path / "moved")
    with pytest.raises(CheckpointError, match=rf"Say which.*test {run}/heads/twin --data {moved}"):
        ds.evaluate(run, data=moved, workers=0)
    assert ds.evaluate(run / "heads/twin", data=moved, workers=0).failures == {}


def test_a_stopped_run_resumes_bit_equal(tiny_data: Path, other: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(hold_out=0.25, epochs=3)
    recipe = changed(recipe, data__shares={"other": 3.0}, data__class_balanced=True)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    whole = ds.train(recipe, tiny_data, unbroken, also=[other])
    with pytest.raises(RuntimeError, match="stopped by the test"):
        ds.train(recipe, tiny_data, broken, also=[other], listener=stop_in_epoch(1))
    with pytest.raises(CheckpointError, match=f"train --resume {broken}"):
        ds.resume(broken / "heads" / "other")
    assert ds.resume(broken).heads == whole.heads
    one, two = (load_file(run / "model.safetensors") for run in (unbroken, broken))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (unbroken / "log.csv").read_text() == (broken / "log.csv").read_text()


def test_weights_go_on_in_a_run_with_as_many_classes(
    trained: tuple[Path, Path], tiny_data: Path, tmp_path: Path
) -> None:
    run, other = trained
    state = load_file(run / "model.safetensors")["classifier.weight"]
    recipe = tiny_recipe("flow", epochs=1, optimizer={"name": "sgd", "lr": 1e-12})
    for source, data, also, expected in (
        (run / "heads/other", other, [], state[2:]),
        (run, tiny_data, [], state[:2]),
        (run, tiny_data, [other], state),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        ds.train(changed(recipe, model__weights=str(source)), data, folder, also=also)
        found = load_file(folder / "model.safetensors")["classifier.weight"]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_network_of_two_streams_has_heads_of_either_kind(
    tiny_data: Path, other: Path, tmp_path: Path
) -> None:
    """A loss on the fused answer and on each stream, each for both data sets."""
    tower = {"name": "tsn", "backbone": "test_resnet"}
    options = {"towers": {"rgb": tower, "flow": tower}, "average": "probabilities"}
    recipe = changed(
        tiny_recipe(epochs=1),
        model__name="two_stream",
        model__options=options,
        inputs={"rgb": {"modality": "rgb"}, "flow": {"modality": "flow", "num_frames": 3}},
        train__losses={"fused": 1, "rgb": 1, "flow": 1},
        train__modality_dropout=0.25,
    )
    run = tmp_path / "run"
    ds.train(recipe, tiny_data, run, also=[other])
    state = load_file(run / "model.safetensors")
    for folder, rows in ((run, slice(0, 2)), (run / "heads/other", slice(2, 5))):
        head = ds.load_checkpoint(folder).model.state_dict()
        for name in (name for name in state if name.endswith("classifier.weight")):
            assert torch.equal(head[name], state[name][rows])
    tested = ds.evaluate(run, data=other, workers=0)
    assert (tested.failures, tested.scores.classes) == ({}, CLASSES)


# ---- what cannot be ----


def test_shared_class_names_are_told(
    tiny_data: Path, other: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        ds.train(tiny_recipe(epochs=1), tiny_data, tmp_path / "run", also=[other])
    said = f"2 classes stand in both {tiny_data.name} and other ('right', 'down')"
    assert said in caplog.text


def test_a_data_set_without_training_videos(tiny_data: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(tiny_data)
    records = tuple(replace(record, splits=("test",)) for record in manifest.records)
    Manifest(records, manifest.classes, manifest.root).write(tmp_path / "empty")
    said = "Data set empty: Split 1 has no train video among 12"
    with pytest.raises(AnnotationError, match=said):
        ds.train(tiny_recipe(), tiny_data, tmp_path / "run", also=[tmp_path / "empty"])
    said = f"Data set {tiny_data.name}|Data set empty: Split 1 has no train video"
    with pytest.raises(AnnotationError, match=said):
        ds.train(tiny_recipe(), tmp_path / "empty", tmp_path / "run", also=[tiny_data])
    assert not (tmp_path / "run").exists()


def test_a_data_set_without_flow(tiny_data: Path, other: Path, tmp_path: Path) -> None:
    shutil.rmtree(other / "flow")
    with pytest.raises(FlowStoreError, match=rf"Data set other: .*`dualstream flow {other} "):
        ds.train(tiny_recipe("flow"), tiny_data, tmp_path / "run", also=[other])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_cross_attention_is_of_one_data_set(tiny_data: Path, other: Path, tmp_path: Path) -> None:
    recipe = load_recipe("cross_attention", ["train.accelerator=cpu"])
    with pytest.raises(RecipeError, match="attention maps of one data set"):
        ds.train(recipe, tiny_data, tmp_path / "run", also=[other])
    assert not (tmp_path / "run").exists()


def test_frozen_views_are_of_one_data_set(tiny_data: Path, other: Path, tmp_path: Path) -> None:
    frozen = {"model__name": "lecture_3d_cnn", "model__options": {}, "input__num_frames": 4}
    frozen |= {"model__trainable": "last_layer", "data__frozen_views": 1}
    recipe = changed(tiny_recipe(), **frozen)
    with pytest.raises(RecipeError, match="keeps the features of one data set"):
        ds.train(recipe, tiny_data, tmp_path / "run", also=[other])


# ---- command line ----


def test_the_command_line_names_the_heads(tiny_data: Path, other: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(tiny_recipe(epochs=1)))
    run = tmp_path / "run"
    call = ["train", tiny_data, "--recipe", recipe, "--out", run, "data.shares.second=3"]
    printed = succeed(*call, "--also", f"second={other}")
    assert f"head {tiny_data.name}: top-1 train " in printed
    assert "head second: top-1 train " in printed
    assert str(run / "heads/second/scores.npz") in succeed(
        "test", run, "--data", other, "--workers", "0"
    )
    done = dualstream("predict", tiny_data / "videos/right/right_0.mp4", "--checkpoint", run)
    assert done.code == 0
    assert f"head of {tiny_data.name}; other heads: {run / 'heads/second'}" in done.stderr
    head = succeed(
        "predict", tiny_data / "videos/right/right_0.mp4", "--checkpoint", run / "heads/second"
    )
    assert "idle" in head
    assert dualstream("train", "--resume", run, "--also", other).code == 2


# ---- real data ----


def part_of_jhmdb(source: Path, folder: Path, classes: tuple[str, ...]) -> Path:
    """Every sixth clip of some classes of J-HMDB, with its first split, as a data set."""
    for name in classes:
        (folder / "source" / "videos" / name).mkdir(parents=True)
        (folder / "source" / "splits").mkdir(exist_ok=True)
        file = f"{name}_test_split1.txt"
        lines = (source / "splits" / file).read_text().splitlines()[::6]
        (folder / "source" / "splits" / file).write_text("\n".join(lines) + "\n")
        for line in lines:
            video = f"videos/{name}/{Path(line.split()[0]).stem}.mp4"
            (folder / "source" / video).symlink_to((source / video).resolve())
    prepare(folder / "source").report().manifest.write(folder)
    return folder


def test_the_classes_of_jhmdb_cut_in_two(shared: Path, tmp_path: Path) -> None:
    golf = part_of_jhmdb(shared / "jhmdb", tmp_path / "golf", ("golf", "pullup"))
    wave = part_of_jhmdb(shared / "jhmdb", tmp_path / "wave", ("brush_hair", "wave"))
    run = tmp_path / "run"
    recipe = tiny_recipe(
        epochs=6, batch_size=8, segments=1, optimizer={"name": "adamw", "lr": 0.005}
    )
    recipe = changed(recipe, model__options={"backbone": "test_resnet", "dropout": 0.0})
    ds.train(recipe, golf, run, also=[wave])
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    assert float(rows[-1]["train_loss"]) < 0.9 * float(rows[0]["train_loss"])
    for data, classes in ((golf, ("golf", "pullup")), (wave, ("brush_hair", "wave"))):
        tested = ds.evaluate(run, data=data, segments=1, crops="center", workers=0)
        assert tested.scores.classes == classes
        assert tested.failures == {}
        assert len(tested.scores) == len(Manifest.read(data).subset(1, "test"))
