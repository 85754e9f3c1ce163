"""Testing: views averaged, bad videos reported, other classes refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.engine.tiny import tiny_recipe, untrained_run

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.transforms import Normalizer
from dualstream.engine.datasets import test_dataset as views_of_test
from dualstream.engine.infer.evaluate import evaluate
from dualstream.engine.recipe import load_recipe
from dualstream.engine.run.checkpoint import Checkpoint, load_checkpoint
from dualstream.engine.run.info import read_metrics
from dualstream.errors import CheckpointError, InputError, ScoresError, UnknownNameError
from dualstream.scores import measure, read_scores


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    return untrained_run(tiny_recipe("flow"), tiny_data, folder)


def expected_probabilities(checkpoint: Checkpoint, views: torch.Tensor) -> np.ndarray:
    """(K,) mean softmax over views (V, C, T, H, W) of the only stream."""
    (name,) = checkpoint.spec.streams
    with torch.no_grad():
        logits = checkpoint.model(Normalizer(checkpoint.spec)({name: views}))
    return logits.softmax(dim=1).mean(dim=0).numpy()  # type: ignore[no-any-return]


@pytest.fixture
def checkpoint(run: Path, tmp_path: Path) -> Checkpoint:
    shutil.copytree(run, tmp_path / "run")
    return load_checkpoint(tmp_path / "run")


def test_a_video_gets_the_mean_softmax_of_its_views(
    checkpoint: Checkpoint, tiny_data: Path
) -> None:
    scores = evaluate(checkpoint, workers=0).scores
    assert len(scores) == 4
    videos = Manifest.read(tiny_data).subset(1, "test")
    dataset = views_of_test(videos, checkpoint.recipe, checkpoint.info)
    for number, record in enumerate(videos.records):
        views = dataset[number].data["flow"]
        assert views.shape == (6, 2, 3, 32, 32)  # 2 segments x 3 crops
        expected = expected_probabilities(checkpoint, views)
        assert (scores.names[number], scores.labels[number]) == (record.path, record.label)
        np.testing.assert_allclose(scores.scores[number], expected, atol=1e-6)


def test_a_test_of_other_sizes_is_read_and_normalised_so(tiny_data: Path, tmp_path: Path) -> None:
    overrides = ["input.num_frames=4", "input.short_side=40", "input.crop_size=32"]
    overrides += ["train.epochs=1", "train.batch_size=4", "data.workers=0"]
    overrides += ["test={segments: 2, crops: three, whole_side: true, num_frames: 6}"]
    recipe = load_recipe("lecture_3d_cnn", overrides)
    checkpoint = load_checkpoint(untrained_run(recipe, tiny_data, tmp_path / "run"))
    videos = Manifest.read(tiny_data).subset(1, "test")
    views = views_of_test(videos, checkpoint.recipe, checkpoint.info)[0].data["rgb"]
    assert views.shape == (6, 3, 6, 40, 40)
    scores = evaluate(checkpoint, workers=0).scores
    expected = expected_probabilities(checkpoint, views)
    np.testing.assert_allclose(scores.scores[0], expected, atol=1e-6)


@pytest.mark.parametrize("consensus", ["max", "linear"])
def test_a_consensus_sees_the_segments_of_a_crop_together(
    consensus: str, tiny_data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    options = {**recipe.model.options, "consensus": consensus}
    if consensus == "linear":
        options["num_segments"] = 2
    model = recipe.model.model_copy(update={"options": options})
    run = untrained_run(recipe.model_copy(update={"model": model}), tiny_data, tmp_path / "run")
    checkpoint = load_checkpoint(run)
    scores = evaluate(checkpoint, workers=0).scores
    videos = Manifest.read(tiny_data).subset(1, "test")
    views = views_of_test(videos, checkpoint.recipe, checkpoint.info)[0].data["rgb"]
    crops = [torch.stack([views[crop], views[3 + crop]]) for crop in range(3)]  # 2 segments each
    expected = expected_probabilities(checkpoint, torch.stack(crops))
    np.testing.assert_allclose(scores.scores[0], expected, atol=1e-6)


def test_workers_and_views_at_once_change_nothing(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = evaluate(checkpoint, workers=0).scores
    monkeypatch.setattr("dualstream.engine.infer.recognizer.VIEWS_AT_ONCE", 4)
    other = evaluate(checkpoint, workers=1).scores
    assert plain.names == other.names
    np.testing.assert_allclose(plain.scores, other.scores, atol=1e-6)


def damaged_copy(tiny_data: Path, folder: Path) -> Path:
    """The data, where the flow of one test video is no ZIP file."""
    shutil.copytree(tiny_data, folder)
    (folder / "flow" / "right" / "right_4.mp4.zip").write_bytes(b"not a zip")
    return folder


def test_evaluate_writes_scores_and_metrics(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    copy, data = tmp_path / "run", damaged_copy(tiny_data, tmp_path / "data")
    shutil.copytree(run, copy)
    told: list[tuple[int, int]] = []
    result = evaluate(
        copy,
        data=data,
        flow=data / "flow",
        workers=0,
        crops="center",
        listener=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert list(result.failures) == ["right/right_4.mp4"]
    assert "right_4.mp4.zip" in result.failures["right/right_4.mp4"]
    assert result.path == copy / "scores.npz"
    written = read_scores(result.path)
    assert (
        written.names
        == result.scores.names
        == (
            "right/right_5.mp4",
            "down/down_4.mp4",
            "down/down_5.mp4",
        )
    )
    np.testing.assert_array_equal(written.scores, result.scores.scores)
    assert result.accuracy == measure(result.scores)
    assert read_metrics(copy) == {"test": dict(result.metrics)}
    assert result.metrics == {
        "videos": 3,
        "failed": 1,
        "top1": result.accuracy.top_1,
        "top5": result.accuracy.top_5,
        "mean_class": result.accuracy.mean_class,
        "segments": 2,
        "crops": "center",
    }


def test_other_parts_have_files_of_their_own(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    trained = evaluate(copy, part="train", segments=1, crops="center", workers=0)
    assert trained.path == copy / "scores_train.npz"
    assert len(trained.scores) == 8
    tested = evaluate(copy, out=tmp_path / "mine.npz", workers=0)
    assert tested.path == tmp_path / "mine.npz"
    assert not (copy / "scores.npz").exists()
    metrics = read_metrics(copy)
    assert list(metrics) == ["train", "test"]
    assert (metrics["train"]["segments"], metrics["test"]["segments"]) == (1, 2)


def test_nothing_scored_writes_nothing(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    copy, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(run, copy)
    shutil.copytree(tiny_data, data)
    shutil.rmtree(data / "flow")
    with pytest.raises(ScoresError, match="No video could be scored"):
        evaluate(copy, data=data, flow=data / "flow", workers=0)
    assert not (copy / "scores.npz").exists()
    assert read_metrics(copy) == {}


def test_flow_of_another_video_is_refused(
    checkpoint: Checkpoint, tiny_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "swapped"
    shutil.copytree(tiny_data, data)
    store = data / "flow" / "right"
    shutil.copy(store / "right_5.mp4.zip", store / "right_4.mp4.zip")
    flow = {"flow": data / "flow"}
    failures = evaluate(checkpoint, data=data, flow=flow, workers=0).failures
    assert list(failures) == ["right/right_4.mp4"]
    assert "another video" in failures["right/right_4.mp4"]


def test_flow_of_a_stream_that_there_is_not_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="'motion'; the streams that read flow are: flow"):
        evaluate(checkpoint, flow={"motion": "there"})


def test_classes_of_another_data_set_are_refused(
    checkpoint: Checkpoint, tiny_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "renamed"
    shutil.copytree(tiny_data, data)
    (data / "classes.txt").write_text("right\nup\n")
    with pytest.raises(CheckpointError, match="class 1 is 'down' there and 'up' here"):
        evaluate(checkpoint, data=data)
    (data / "classes.txt").write_text("right\ndown\nup\n")
    with pytest.raises(CheckpointError, match="2 classes there, 3 here"):
        evaluate(checkpoint, data=data)


def test_views_that_there_are_not_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="segments must be at least 1, got 0"):
        evaluate(checkpoint, segments=0)
    with pytest.raises(UnknownNameError, match="cropping 'five'"):
        evaluate(checkpoint, crops="five")  # type: ignore[arg-type]
