"""Training after frozen stages: the same as without the files, computed once."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.engine.tiny import changed, stop_in_epoch, tiny_recipe

from dualstream.clips.data.manifest import Manifest
from dualstream.engine.datasets import training_dataset
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.info import read_run
from dualstream.engine.train import frozen
from dualstream.engine.train.fit import resume, train
from dualstream.engine.train.run_folder import TrainProgress
from dualstream.errors import CorruptVideoError, RecipeError
from dualstream.models import create_model, fastest
from dualstream.models.trainable import set_trainable


def frozen_recipe(
    *, views: int, trainable: int | str = 1, hold_out: float = 0.0, **train_section: object
) -> Recipe:
    """A network of which the last stage learns, on whole videos that nothing random is done to."""
    values = tiny_recipe(hold_out=hold_out, **{"segments": 1, **train_section}).model_dump()
    values["model"] = {
        "name": "temporal_conv",
        "options": {"backbone": "test_resnet", "dropout": 0.0},
        "trainable": trainable,
    }
    values["inputs"]["rgb"]["num_frames"] = 16
    values["augment"] = {"crop": "center", "flip": False}
    values["data"]["frozen_views"] = views
    return Recipe.model_validate(values)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes longer than the whole of each test."""

    def fails(*args: object, **options: object) -> None:
        raise RuntimeError("not compiled in tests")

    monkeypatch.setattr(torch, "compile", fails)


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data that files may be added to."""
    return shutil.copytree(tiny_data, tmp_path / "data")


def losses(run: Path, column: str = "train_loss") -> list[float]:
    rows = csv.DictReader((run / "log.csv").read_text().splitlines())
    return [float(row[column]) for row in rows]


def files(data: Path) -> list[Path]:
    return sorted((data / "frozen").rglob("*.npy"))


def test_the_same_is_learnt_as_without_the_files(data: Path, tmp_path: Path) -> None:
    for name, views in (("plain", 0), ("frozen", 1)):
        recipe = frozen_recipe(views=views, hold_out=0.4)
        train(recipe, data, tmp_path / name)
    for column in ("train_loss", "held_out_loss"):
        expected = losses(tmp_path / "plain", column)
        # Features are kept with 11 bits.
        assert losses(tmp_path / "frozen", column) == pytest.approx(expected, rel=0.02)
    plain, kept = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "frozen"))
    assert plain.keys() == kept.keys()
    for name in plain:
        if name.startswith("backbone."):
            assert torch.equal(plain[name], kept[name]), name


def test_only_after_the_last_stage(data: Path, tmp_path: Path) -> None:
    fast = {"name": "adamw", "lr": 0.05}
    recipe = frozen_recipe(views=1, trainable="last_layer", epochs=25, optimizer=fast)
    train(recipe, data, tmp_path / "run")
    assert {np.load(path).shape for path in files(data)} == {(1, 1, 512)}
    assert losses(tmp_path / "run")[-1] < 0.8 * losses(tmp_path / "run")[0]


def test_each_epoch_draws_one_of_the_views(data: Path, tmp_path: Path) -> None:
    recipe = changed(frozen_recipe(views=3), augment__crop="random", augment__flip=True)
    train(recipe, data, tmp_path / "run")
    views = np.load(files(data)[0])
    assert views.shape[:2] == (3, 1)
    assert views.dtype == np.float16
    assert not np.array_equal(views[0], views[1])
    videos = Manifest.read(data).subset(1, "train")
    dataset = frozen.FrozenDataset(videos, files(data)[0].parents[1], seed=0)
    drawn = [dataset[(epoch, 0)][0].numpy() for epoch in range(40)]
    stored = np.load(frozen.feature_path(dataset.folder, videos.records[0].path))
    counts = [sum(np.array_equal(one, view) for one in drawn) for view in stored]
    assert sum(counts) == 40
    assert min(counts) >= 4  # 13 on average


def test_files_serve_other_runs_and_other_rates(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(frozen_recipe(views=1, epochs=1), data, tmp_path / "first")
    before = {path: path.stat().st_mtime_ns for path in files(data)}

    def computed(*args: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(frozen.FrozenParts, "forward", computed)
    other = frozen_recipe(views=1, epochs=2, optimizer={"name": "adamw", "lr": 0.001})
    train(other, data, tmp_path / "second")
    assert {path: path.stat().st_mtime_ns for path in files(data)} == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"segments": 2}])
def test_what_would_differ_is_computed_anew(
    change: dict[str, int], data: Path, tmp_path: Path
) -> None:
    train(frozen_recipe(views=1, epochs=1), data, tmp_path / "first")
    count = len(files(data))
    train(frozen_recipe(views=1, epochs=1, **change), data, tmp_path / "second")
    assert len(files(data)) == 2 * count


def test_stopped_in_between_it_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = frozen_recipe(views=2, epochs=2, hold_out=0.4)
    real, calls = frozen.FrozenParts.forward, []

    def stops(self: frozen.FrozenParts, clip: torch.Tensor) -> torch.Tensor:
        calls.append(clip)
        if len(files(data)) == 2:
            raise CorruptVideoError("stop")
        return real(self, clip)

    monkeypatch.setattr(frozen.FrozenParts, "forward", stops)
    with pytest.raises(CorruptVideoError, match="stop"):
        train(recipe, data, tmp_path / "run")
    assert len(files(data)) == 2
    assert not list((data / "frozen").rglob("*.tmp"))
    monkeypatch.setattr(frozen.FrozenParts, "forward", real)
    resume(tmp_path / "run")
    kept = {path: np.load(path) for path in files(data)}
    assert len(kept) > 2
    for path in kept:
        path.unlink()
    train(recipe, data, tmp_path / "unbroken")
    assert files(data) == list(kept)
    for path, features in kept.items():
        np.testing.assert_array_equal(np.load(path), features)
    assert losses(tmp_path / "run") == losses(tmp_path / "unbroken")


def test_runs_side_by_side_share_the_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = frozen_recipe(views=1, epochs=1)
    train(recipe, data, tmp_path / "first")
    kept = {path: path.read_bytes() for path in files(data)}
    for path in kept:
        path.unlink()
    real = frozen.FrozenParts.forward

    def another_run_is_faster(self: frozen.FrozenParts, clip: torch.Tensor) -> torch.Tensor:
        for path, content in kept.items():
            path.write_bytes(content)
            os.utime(path, (0, 0))
        monkeypatch.setattr(frozen.FrozenParts, "forward", real)
        return real(self, clip)

    monkeypatch.setattr(frozen.FrozenParts, "forward", another_run_is_faster)
    train(recipe, data, tmp_path / "second")
    assert files(data) == list(kept)
    assert [path.stat().st_mtime > 0 for path in files(data)].count(True) == 1
    assert losses(tmp_path / "first") == losses(tmp_path / "second")


def form_file(data: Path) -> Path:
    [file] = (data / "frozen").rglob(frozen.FORM_FILE)
    return file


def test_all_files_of_a_folder_are_computed_in_the_form_that_was_chosen_first(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(frozen_recipe(views=1, epochs=1), data, tmp_path / "first")
    assert form_file(data).read_text().strip() in ("plain", "folded", "channels_last")
    used, fix = [], fastest.FastestForm.fix

    def told(self: fastest.FastestForm, form: str, x: torch.Tensor) -> None:
        used.append(form)
        fix(self, form, x)

    monkeypatch.setattr(fastest.FastestForm, "fix", told)
    for form in ("plain", "folded"):
        form_file(data).write_text(form)
        files(data)[0].unlink()
        train(frozen_recipe(views=1, epochs=1), data, tmp_path / f"again-{form}")
        assert form_file(data).read_text() == form
    assert used == ["plain", "folded"]


@pytest.mark.parametrize("form", ["compiled", "half", "fast", ""])
def test_a_form_that_cannot_run_here_is_told(form: str, data: Path, tmp_path: Path) -> None:
    train(frozen_recipe(views=1, epochs=1), data, tmp_path / "first")
    form_file(data).write_text(form)
    files(data)[0].unlink()
    with pytest.raises(RecipeError, match=r"form\.txt: .* remove .* to compute them anew"):
        train(frozen_recipe(views=1, epochs=1), data, tmp_path / "second")


def test_options_that_change_nothing_here_share_the_files(data: Path, tmp_path: Path) -> None:
    train(frozen_recipe(views=1, epochs=1), data, tmp_path / "first")
    count = len(files(data))
    values = frozen_recipe(views=1, epochs=1).model_dump()
    values["model"]["options"] |= {"dropout": 0.3, "checkpointing": True}
    train(Recipe.model_validate(values), data, tmp_path / "second")
    assert len(files(data)) == count


def test_features_beyond_float16_are_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = frozen.FrozenParts.forward
    monkeypatch.setattr(frozen.FrozenParts, "forward", lambda self, clips: 1e9 * real(self, clips))
    with pytest.raises(RecipeError, match=r"that float16 cannot hold: set data\.frozen_views=0"):
        train(frozen_recipe(views=1, epochs=1), data, tmp_path / "run")
    assert not files(data)


def test_frozen_parts_run_in_half_precision_as_on_a_gpu() -> None:
    model = create_model("r3d_18", num_classes=3)
    set_trainable(model, 1)
    parts = frozen.FrozenParts(model)
    forms = fastest._forms(parts, torch.device("cuda"))
    clips = torch.rand(1, 3, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = parts(clips), forms["half"]()(clips)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(data: Path, tmp_path: Path) -> None:
    recipe = frozen_recipe(views=2, epochs=3)
    train(recipe, data, tmp_path / "unbroken")
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, data, tmp_path / "broken", listener=stop_in_epoch(1))
    resume(tmp_path / "broken")
    expected = load_file(tmp_path / "unbroken" / "model.safetensors")
    found = load_file(tmp_path / "broken" / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_progress_is_told(data: Path, tmp_path: Path) -> None:
    told: list[TrainProgress] = []
    train(frozen_recipe(views=1, epochs=1), data, tmp_path / "run", listener=told.append)
    videos = len(Manifest.read(data).subset(1, "train").records)
    before = [(p.batch, p.batches) for p in told if p.phase == "frozen stages"]
    assert before == [(done, videos) for done in range(1, videos + 1)]
    assert told[-1].phase == "train"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "tsn", "options": {"backbone": "test_resnet"}}, "tsn is not"),
        ({"name": "slowfast_r50_4x16", "trainable": "last_layer"}, "slowfast_r50_4x16 is not"),
        (
            {"name": "temporal_conv", "options": {"backbone": "test_resnet"}},
            "set model.trainable to last_layer or to a number",
        ),
    ],
)
def test_networks_without_frozen_stages_are_refused(
    model: dict[str, object], message: str, data: Path, tmp_path: Path
) -> None:
    values = frozen_recipe(views=1).model_dump()
    values["model"] = model
    with pytest.raises(RecipeError, match=message):
        train(Recipe.model_validate(values), data, tmp_path / "run")


def test_what_is_drawn_for_a_video_does_not_depend_on_the_others(
    data: Path, tiny_data: Path, tmp_path: Path
) -> None:
    def recipe(hold_out: float) -> Recipe:
        made = frozen_recipe(views=2, epochs=1, hold_out=hold_out)
        return changed(made, augment__crop="random", augment__flip=True)

    other = shutil.copytree(tiny_data, tmp_path / "other")
    train(recipe(0.34), data, tmp_path / "part")
    train(recipe(0.0), other, tmp_path / "all")
    part = {path.name: np.load(path) for path in files(data) if len(np.load(path)) == 2}
    whole = {path.name: np.load(path) for path in files(other)}
    assert 0 < len(part) < len(whole)
    for name, views in part.items():
        np.testing.assert_array_equal(views, whole[name])


def test_a_trial_computes_only_what_it_draws(data: Path, tmp_path: Path) -> None:
    train(frozen_recipe(views=1, epochs=1), data, tmp_path / "trial", limit=1)
    assert len(files(data)) == 4  # one batch


def test_a_mirrored_view_of_left_has_the_label_of_right(data: Path, tmp_path: Path) -> None:
    (data / "classes.txt").write_text("left\nright\n")
    recipe = changed(frozen_recipe(views=4, epochs=1), augment__flip=True)
    train(recipe, data, tmp_path / "run")
    manifest = Manifest.read(data)
    videos, folder = manifest.subset(1, "train"), files(data)[0].parents[1]
    drawn = frozen.FrozenDataset(videos, folder, seed=0)
    clips = training_dataset(manifest, recipe, read_run(tmp_path / "run")[2])
    is_own = set()
    for index, record in enumerate(videos.records):
        place = manifest.records.index(record)
        kept = [clips[(view, place)].label.item() for view in range(4)]
        views = np.load(frozen.feature_path(folder, record.path))
        for epoch in range(8):
            features, label = drawn[(epoch, index)]
            assert label == kept[[np.array_equal(features, view) for view in views].index(True)]
            is_own.add(label == record.label)
    assert is_own == {True, False}
