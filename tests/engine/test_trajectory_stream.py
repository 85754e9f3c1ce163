"""A stream of dense trajectories: trained, stopped and resumed, tested, fused, predicted with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import dualstream, succeed
from tests.flow.trajectories.scenes import scene

import dualstream as ds
from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.engine.infer.evaluate import evaluate
from dualstream.engine.run.trajectory_model import load_trajectory_model
from dualstream.engine.train.run_folder import TrainProgress
from dualstream.engine.train.trajectories import resume_trajectories, train_trajectories
from dualstream.engine.trajectory_recipe import (
    TrajectoryRecipe,
    holds_trajectories,
    is_trajectory_run,
    load_trajectory_recipe,
)
from dualstream.errors import (
    AnnotationError,
    CheckpointError,
    InputError,
    RecipeError,
    UnknownNameError,
    VideoError,
)
from dualstream.scores import write_scores
from dualstream.types import Scores

pytest.importorskip("dualstream.flow._trajectories")  # installed without a compiler

MOTIONS = {"down": (0, 2), "right": (2, 0)}
CHEAP = (
    "trajectories.scales=1",
    "encoding.gaussians=4",
    "encoding.samples=800",
    "data.workers=0",
    "classifier.calibration_folds=2",
)


def written(root: Path, *, number: int, name: str, is_still: bool = False) -> VideoRecord:
    """One video of a square that moves: five of each class are for training, two for the test."""
    path, start = f"{name}/{name}_{number}.mp4", (8 + number, 14 - number)
    frames = scene(18, size=(96, 96), square=36, start=start, motion=MOTIONS[name], seed=number)
    file = root / "videos" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    ds.write_video(file, frames.data[[0] * 18] if is_still else frames.data, fps=25)
    return VideoRecord(
        path=path,
        label=list(MOTIONS).index(name),
        splits=("train" if number < 5 else "test",),
        frames=18,
        fps=25.0,
        width=96,
        height=96,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares that move down or right, in 14 videos; one of the test stands still."""
    root = tmp_path_factory.mktemp("squares")
    records = [
        written(root, number=number, name=name, is_still=(name, number) == ("right", 6))
        for name in MOTIONS
        for number in range(7)
    ]
    Manifest(tuple(records), tuple(MOTIONS), root / "videos").write(root)
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "idt"
    train_trajectories(recipe(), data, folder)
    return folder


def recipe(*changes: str) -> TrajectoryRecipe:
    return load_trajectory_recipe("idt", [*CHEAP, *changes])


def test_the_shipped_recipe_is_the_published_one():
    idt = load_trajectory_recipe("idt")
    assert (idt.trajectories.scales, idt.trajectories.length, idt.trajectories.step_px) == (
        8,
        15,
        5,
    )
    assert (idt.encoding.gaussians, idt.encoding.samples, idt.classifier.c) == (256, 256_000, 100)
    assert holds_trajectories("idt")
    assert not holds_trajectories("tsn_flow")
    with pytest.raises(RecipeError, match="is of dense trajectories"):
        ds.load_recipe("idt")
    with pytest.raises(UnknownNameError, match="idt"):
        holds_trajectories("itd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trajectories.length=16", "multiple of 3"),
        ("encoding.gausians=3", "did you mean gaussians"),
        ("classifier.c=0", "greater than 0"),
        ("data.folds=1", "folds must be 2"),
    ],
)
def test_recipes_that_cannot_be_used(change: str, message: str):
    with pytest.raises(RecipeError, match=message):
        recipe(change)


def test_motions_are_told_apart_and_a_still_video_says_nothing(run: Path):
    assert is_trajectory_run(run)
    assert not (run / "fisher_vectors.npy").exists()
    result = evaluate(run, workers=0)
    assert result.path == run / "scores.npz"
    scores = result.scores
    assert scores.kind == "logits"
    assert scores.names[3] == "right/right_6.mp4"
    assert not scores.scores[3].any()  # it is as likely down as right
    assert (scores.scores.argmax(axis=1) == scores.labels)[:3].all()
    assert not result.failures
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["videos"] == 4
    assert metrics["train_videos"] == 10
    assert 0 <= metrics["cross_validated_top1"] <= 1


def test_predict_says_what_the_test_says_and_windows_have_their_own(run: Path, data: Path):
    scores = evaluate(run, workers=0).scores
    right = data / "videos" / "right" / "right_5.mp4"
    (row,) = (
        scores.scores[i] for i, name in enumerate(scores.names) if name.endswith("right_5.mp4")
    )
    expected = np.exp(row - row.max())
    prediction = ds.predict(right, run)
    assert list(prediction.streams) == ["idt"]
    np.testing.assert_allclose(prediction.probabilities, expected / expected.sum(), rtol=1e-4)
    assert prediction.top(1)[0][0] == "right"
    # 25 frames a second: windows of 17 and 1 frames, of which the second is too short to tell.
    short = ds.predict(right, [run, load_trajectory_model(run)], window_seconds=0.68, cuts="none")
    assert list(short.streams) == ["idt", "idt (2)"]
    assert short.window_probabilities[0].argmax() == 1
    still = ds.predict(data / "videos" / "right" / "right_6.mp4", run)
    np.testing.assert_allclose(still.probabilities, 0.5)


def test_what_only_networks_do_is_refused(run: Path):
    predictor = ds.Predictor(run)
    with pytest.raises(InputError, match="cannot give features"):
        predictor.features("a.mp4")
    with pytest.raises(InputError, match="leave out segments"):
        evaluate(run, segments=3)
    with pytest.raises(CheckpointError, match="is of dense trajectories"):
        ds.load_checkpoint(run)
    with pytest.raises(InputError, match="cannot be explained"):
        ds.explain("a.mp4", load_trajectory_model(run))


class StopError(Exception):
    """What the tests stop a training with."""


def stop_at(phase: str, count: int) -> Callable[[TrainProgress], None]:
    def listener(progress: TrainProgress) -> None:
        if (progress.phase, progress.batch) == (phase, count):
            raise StopError

    return listener


@pytest.mark.parametrize(("phase", "count"), [("trajectories", 3), ("codebook", 2), ("encode", 5)])
def test_a_stopped_training_ends_as_an_unbroken_one(
    data: Path, run: Path, tmp_path: Path, phase: str, count: int
):
    stopped = tmp_path / "idt"
    with pytest.raises(StopError):
        train_trajectories(recipe(), data, stopped, listener=stop_at(phase, count))
    with pytest.raises(CheckpointError, match="train --resume"):
        load_trajectory_model(stopped)
    with pytest.raises(InputError, match="--resume"):
        train_trajectories(recipe(), data, stopped)
    resume_trajectories(stopped)
    for name in ("codebook.safetensors", "classifier.safetensors"):
        assert (stopped / name).read_bytes() == (run / name).read_bytes()


def test_held_out_videos_fit_a_fusion(data: Path, tmp_path: Path):
    run = tmp_path / "idt"
    result = train_trajectories(recipe("data.hold_out=0.4"), data, run)
    assert result.held_out_top1 == 1
    assert result.videos == 6
    held_out, test = (evaluate(run, part=part, workers=0).scores for part in ("held_out", "test"))
    other = tmp_path / "other"
    for scores, name in ((held_out, "scores_held_out.npz"), (test, "scores.npz")):
        flat = np.full(scores.scores.shape, 0.5, np.float32)
        other.mkdir(exist_ok=True)
        of_chance = Scores(scores.names, scores.labels, flat, scores.classes, "probabilities")
        write_scores(other / name, of_chance)
    fused = ds.fuse_runs([run, other])
    assert fused.fusion.method == "weighted"
    assert fused.fusion.weights[0] > 0.9
    assert fused.accuracy["fused (weighted)"].top_1 >= 0.75


def changed(data: Path, folder: Path, *, edit: Callable[[str], str]) -> Path:
    """A copy of the data set with another manifest, and without trajectories."""
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("trajectories"))
    path = folder / "manifest.csv"
    path.write_text(edit(path.read_text()))
    return folder


def test_data_that_cannot_teach(data: Path, run: Path, tmp_path: Path):
    one_class = changed(data, tmp_path / "one", edit=lambda text: text.replace(".mp4,1", ".mp4,0"))
    with pytest.raises(AnnotationError, match="all of one class"):
        train_trajectories(recipe(), one_class, tmp_path / "a")
    several = changed(data, tmp_path / "several", edit=lambda text: text.replace(",1,", ",0;1,"))
    with pytest.raises(AnnotationError, match="several classes"):
        train_trajectories(recipe(), several, tmp_path / "a")
    with pytest.raises(InputError, match=r"cannot teach 5000 Gaussians.*encoding.gaussians"):
        train_trajectories(recipe("encoding.gaussians=5000"), data, tmp_path / "a")
    assert not (tmp_path / "a" / "recipe.yaml").exists()  # another recipe may go there
    broken = changed(data, tmp_path / "broken", edit=str)
    (broken / "videos" / "down" / "down_0.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"1 videos have no trajectories.*down_0.mp4"):
        train_trajectories(recipe(), broken, tmp_path / "b")


def test_the_command_line(data: Path, run: Path, tmp_path: Path):
    out = tmp_path / "idt"
    printed = succeed("train", data, "--recipe", "idt", "--out", out, *CHEAP)
    assert f"{out}: SVM of 10 videos, in" in printed
    assert "cross-validated top-1" in printed
    assert f"Next: dualstream test {out}" in printed
    assert json.loads(succeed("train", "--resume", out, "--json"))["videos"] == 10
    assert "test: 4 videos  top-1" in succeed("test", out, "--workers", 0)
    assert "fused (mean)" in succeed("fuse", out, out / "scores.npz", "--out", tmp_path / "fused")
    video = data / "videos" / "down" / "down_5.mp4"
    found = json.loads(succeed("predict", video, "--checkpoint", out, "--json"))
    assert found["videos"][0]["top"][0]["class"] == "down"
    wrong = dualstream("train", data, "--recipe", "idt", "--out", tmp_path / "b", "--limit", 1)
    assert wrong.code == 2
    assert "leave out" in wrong.stderr


def test_trajectories_of_files(data: Path, tmp_path: Path):
    call = ["trajectories", data / "videos" / "down", "--out", tmp_path, "--format", "text"]
    assert f"{tmp_path}: 7 videos done, 0 kept, 0 failed" in succeed(*call)
    assert json.loads(succeed(*call, "--json"))["kept"] == 7
    line = (tmp_path / "down_0.mp4.txt").read_text().splitlines()[0]
    assert len(line.split()) == 436
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    failed = dualstream("trajectories", tmp_path / "broken.mp4", "--out", tmp_path)
    assert failed.code == 1
    assert "broken.mp4" in failed.stderr
