"""`train_pair`: from a prepared folder to the fused result, stopped and gone on with anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.cli.command import dualstream, succeed
from tests.engine.tiny import tiny_recipe

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.engine.pair import PairListener, train_pair
from dualstream.engine.pair_recipe import PairRecipe
from dualstream.engine.recipe import dump_recipe
from dualstream.engine.run.checkpoint import load_checkpoint
from dualstream.engine.train.run_folder import TrainProgress
from dualstream.errors import CheckpointError, FlowStoreError, InputError
from dualstream.scores import Fusion, fuse, read_scores


def tiny_pair(*, hold_out: float = 0.25, **fusion: object) -> PairRecipe:
    """Two small networks of two epochs."""
    streams = {
        name: tiny_recipe(name, hold_out=hold_out, epochs=2).model_dump()
        for name in ("rgb", "flow")
    }
    return PairRecipe.model_validate({"title": "tiny pair", "streams": streams, "fusion": fusion})


@pytest.fixture(scope="module")
def whole(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of `tiny_pair()` that was never stopped; do not change it."""
    run = tmp_path_factory.mktemp("whole") / "pair"
    train_pair(tiny_pair(), tiny_data, run)
    return run


def names_of(data: Path, part: str) -> set[str]:
    return {record.path for record in Manifest.read(data).subset(1, part).records}  # type: ignore[arg-type]


def recorder(stages: list[str]) -> PairListener:
    return lambda stage, progress: stages.append(stage)


def test_one_call_trains_scores_fits_fuses_and_writes_the_page(
    tiny_data: Path, tmp_path: Path
) -> None:
    run, stages = tmp_path / "pair", list[str]()
    result = train_pair(tiny_pair(), tiny_data, run, listener=recorder(stages))
    assert list(dict.fromkeys(stages)) == [
        f"{step} {stream}" for stream in ("rgb", "flow") for step in ("train", "hold out", "test")
    ]
    tests, held_out = (
        [read_scores(run / stream / name) for stream in ("rgb", "flow")]
        for name in ("scores.npz", "scores_held_out.npz")
    )
    assert set(tests[0].names) == names_of(tiny_data, "test")
    assert len(held_out[0]) == 2
    assert set(held_out[0].names) <= names_of(tiny_data, "train")
    expected = fuse(tests, method="weighted", fit_on=held_out)
    np.testing.assert_array_equal(read_scores(run / "scores.npz").scores, expected.scores)
    np.testing.assert_array_equal(result.fused.fused.scores, expected.scores)
    assert Fusion.load(run / "fusion.json").temperatures
    assert list(result.fused.accuracy) == ["rgb", "flow", "fused (weighted)"]
    page = (run / "report.html").read_text()
    assert "tiny pair" in page
    assert "no network was trained on (25 %)" in page
    assert result.failures == {}

    kept = [run / name / "model.safetensors" for name in ("rgb", "flow")]
    written = [path.stat().st_mtime_ns for path in kept]
    stages.clear()
    again = train_pair(tiny_pair(), tiny_data, run, listener=recorder(stages))
    assert stages == []
    assert [path.stat().st_mtime_ns for path in kept] == written
    assert again.fused.accuracy == result.fused.accuracy


class StoppedError(Exception):
    """As a killed process: the listener raises it."""


@pytest.mark.parametrize(
    ("how", "stage"),
    [
        ("resume", "train rgb"),
        ("same call", "test flow"),
        *(
            pytest.param(how, stage, marks=pytest.mark.slow)
            for how, stage in (
                *(("resume", stage) for stage in ("hold out rgb", "train flow", "test flow")),
                *(("same call", stage) for stage in ("train rgb", "hold out rgb", "train flow")),
            )
        ),
    ],
)
def test_a_stopped_one_ends_as_an_unbroken_one(
    stage: str, how: str, whole: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "pair"

    def stop(now: str, progress: TrainProgress) -> None:
        if now == stage and (progress.phase == "test" or progress.epoch == 1):
            raise StoppedError

    with pytest.raises(StoppedError):
        train_pair(tiny_pair(), tiny_data, run, listener=stop)
    if how == "resume":
        ds.resume_pair(run)
    else:
        train_pair(tiny_pair(), tiny_data, run)
    for stream in ("rgb", "flow"):
        one, other = (load_file(folder / stream / "model.safetensors") for folder in (run, whole))
        assert all(torch.equal(one[name], other[name]) for name in one)
    for file in ("rgb/scores.npz", "flow/scores_held_out.npz", "scores.npz"):
        np.testing.assert_array_equal(
            read_scores(run / file).scores, read_scores(whole / file).scores
        )


def test_folds_score_every_training_video_by_a_network_that_has_not_seen_it(
    tiny_data: Path, tmp_path: Path
) -> None:
    run, stages = tmp_path / "pair", list[str]()
    recipe = tiny_pair(hold_out=0.0, folds=2)
    result = train_pair(recipe, tiny_data, run, listener=recorder(stages))
    training = names_of(tiny_data, "train")
    for stream in ("rgb", "flow"):
        scores = read_scores(run / stream / "scores_held_out.npz")
        assert len(scores) == 8
        assert set(scores.names) == training
        folds = [read_scores(run / stream / f"fold_{k}" / "scores_held_out.npz") for k in (1, 2)]
        assert [len(fold) for fold in folds] == [4, 4]
        assert not set(folds[0].names) & set(folds[1].names)
        for number in (1, 2):
            folder = run / stream / f"fold_{number}"
            data = load_checkpoint(folder).recipe.data
            assert (data.folds, data.fold) == (2, number)
            assert not (folder / "trainer.ckpt").exists()
        assert load_checkpoint(run / stream).recipe.data.hold_out == 0
    assert "train flow, fold 2 of 2" in stages
    assert result.fused.fusion.method == "weighted"
    stages.clear()
    ds.resume_pair(run, listener=recorder(stages))
    assert stages == []


def test_the_mean_learns_nothing_and_holds_nothing_out(tiny_data: Path, tmp_path: Path) -> None:
    result = train_pair(tiny_pair(hold_out=0.0, method="mean"), tiny_data, tmp_path / "pair")
    assert list(result.fused.accuracy) == ["rgb", "flow", "fused (mean)"]
    assert not list(tmp_path.rglob("scores_held_out.npz"))
    assert result.fused.advice == ""


@pytest.fixture
def copied(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny data set, to be changed."""
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_flow_is_said_before_anything_is_trained(
    part: str, copied: Path, tmp_path: Path
) -> None:
    missing = sorted(names_of(copied, part))[0]
    (copied / "flow" / f"{missing}.zip").unlink()
    with pytest.raises(
        FlowStoreError, match=rf"no flow of 1 of the \d+ videos to {part} on .*{missing}"
    ):
        train_pair(tiny_pair(), copied, tmp_path / "pair")
    assert not (tmp_path / "pair").exists()
    shutil.rmtree(copied / "flow")
    done = dualstream("train", copied, "--recipe", "demo", "--out", tmp_path / "pair")
    assert done.code == 1
    assert f"Compute it with `dualstream flow {copied} " in done.stderr
    assert not (tmp_path / "pair").exists()


def test_a_video_of_one_frame_is_left_out_of_the_fusion(
    copied: Path, tmp_path: Path, tiny_video: Callable[..., Path]
) -> None:
    whole = Manifest.read(copied)
    victim = next(record.path for record in whole.records if record.splits == ("test",))
    shutil.copy(tiny_video("one.mp4", num_frames=1), copied / "videos" / victim)
    records = [replace(r, frames=1) if r.path == victim else r for r in whole.records]
    Manifest(tuple(records), whole.classes, whole.root).write(copied)
    result = train_pair(tiny_pair(), copied, tmp_path / "pair")
    assert list(result.failures) == [victim]
    assert victim not in result.fused.fused.names
    assert len(result.fused.fused) == 3


def test_another_training_in_the_folder_is_refused(
    whole: Path, tiny_data: Path, copied: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "pair"))
    with pytest.raises(InputError, match=r"with another recipe.*--resume"):
        train_pair(tiny_pair(method="svm"), tiny_data, run)
    with pytest.raises(InputError, match="with another manifest"):
        train_pair(tiny_pair(), copied, run)
    with pytest.raises(InputError, match="the run of one network"):
        train_pair(tiny_pair(), tiny_data, whole / "rgb")
    with pytest.raises(InputError, match="no stream reads flow called 'sound'"):
        train_pair(tiny_pair(), tiny_data, tmp_path / "new", flow={"sound": tmp_path})
    with pytest.raises(CheckpointError, match=r"pair\.yaml is missing"):
        ds.resume_pair(whole / "rgb")
    with pytest.raises(CheckpointError, match=r"several streams: .*flow, .*rgb"):
        load_checkpoint(whole)


def test_a_manifest_that_has_changed_is_refused(copied: Path, tmp_path: Path) -> None:
    run = tmp_path / "pair"
    train_pair(tiny_pair(), copied, run, limit=1)
    manifest = copied / "manifest.csv"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(CheckpointError, match="has changed since"):
        ds.resume_pair(run)


def test_flow_of_another_place_is_remembered(copied: Path, tmp_path: Path) -> None:
    (copied / "flow").rename(tmp_path / "elsewhere")
    run = tmp_path / "pair"
    with pytest.raises(FlowStoreError):
        train_pair(tiny_pair(), copied, run)
    train_pair(tiny_pair(), copied, run, flow={"flow": tmp_path / "elsewhere"})
    (run / "flow" / "scores.npz").unlink()
    ds.resume_pair(run)
    assert (run / "flow" / "scores.npz").is_file()


def test_the_command_line_from_a_folder_to_the_fused_result(
    tiny_data: Path, tmp_path: Path
) -> None:
    recipe, run = tmp_path / "tiny.yaml", tmp_path / "runs"
    recipe.write_text(dump_recipe(tiny_pair()))
    call = ["train", tiny_data, "--recipe", recipe, "--out", run]
    done = dualstream(*call)
    assert done.code == 0, done.stderr
    assert "fused (weighted)" in done.stdout
    assert f"page: {run / 'report.html'}" in done.stdout
    assert f"dualstream predict VIDEO --checkpoint {run}" in done.stdout
    for stage in ("train rgb", "hold out rgb", "test rgb", "train flow", "test flow"):
        assert f"{stage}: " in done.stderr
    for again in (call, ["train", "--resume", run]):
        value = json.loads(succeed(*again, "--json"))
        assert list(value["accuracy"]) == ["rgb", "flow", "fused (weighted)"]
        assert value["streams"] == {name: str(run / name) for name in ("rgb", "flow")}
        assert (run / "scores.npz").samefile(value["files"]["scores"])
        assert value["failed"] == {}
    fusion = Fusion.load(run / "fusion.json")
    assert (value["weights"], value["temperatures"]) == (
        list(fusion.weights),
        list(fusion.temperatures),
    )

    video = tiny_data / "videos" / "right" / "right_5.mp4"
    views = ["--segments", 2, "--json"]
    pair = json.loads(succeed("predict", video, "--checkpoint", run, *views))
    streams = ["--checkpoint", run / "rgb", "--checkpoint", run / "flow"]
    fitted = [*streams, "--fusion", run / "fusion.json"]
    assert pair == json.loads(succeed("predict", video, *fitted, *views))
    weights = ["--stream-weights", "1,3"]
    assert json.loads(succeed("predict", video, "--checkpoint", run, *weights, *views)) == (
        json.loads(succeed("predict", video, *streams, *weights, *views))
    )
