"""Projects from the first video to a corrected timeline."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.engine.teach.conftest import FPS, PLAN, acted, mark_by_plan

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.engine.teach import feature_files
from dualstream.engine.teach.feature_files import TeachProgress
from dualstream.engine.teach.features import FeatureExtractor
from dualstream.engine.teach.project import changing, training
from dualstream.engine.teach.settings import TeachSettings
from dualstream.errors import (
    AnnotationError,
    CheckpointError,
    InputError,
    UnknownNameError,
    VideoError,
    VideoNotFoundError,
)
from dualstream.scores.timeline import Segment
from dualstream.scores.timeline_metrics import frame_accuracy
from dualstream.types import BACKGROUND


def test_a_video_that_was_not_marked_gets_its_timeline(taught: ds.Teacher) -> None:
    timeline = taught.timeline("c.mp4")
    assert timeline.classes == ("down", "right", BACKGROUND)
    np.testing.assert_allclose(timeline.window_seconds, [(i, i + 2) for i in range(9)], atol=1e-6)
    np.testing.assert_allclose(timeline.probabilities.sum(axis=1), 1, atol=1e-5)
    truth = [Segment(start, end, label) for label, start, end in PLAN if label != "rest"]
    assert frame_accuracy(timeline.segments, truth, duration_seconds=10) >= 0.8


def test_the_report_is_of_videos_that_were_not_learnt_from(taught: ds.Teacher) -> None:
    report = taught.report
    assert report is not None
    assert report.measured_over == "videos"
    assert report.classes == ("down", "right", BACKGROUND)
    assert report.streams == ("rgb", "hof", "mbh_x", "mbh_y")
    assert {name: found.examples for name, found in report.per_class.items()} == {
        "down": 2,
        "right": 2,
        BACKGROUND: 0,
    }
    assert report.confusion is not None
    rows = np.array(report.confusion)
    assert report.accuracy == pytest.approx(np.trace(rows) / rows.sum())
    assert report.accuracy > 0.8 > report.chance
    assert report.interval_accuracy == 1
    saved = json.loads((taught.folder / "report.json").read_text())
    assert saved["accuracy"] == report.accuracy


def test_a_correction_computes_no_feature(
    taught: ds.Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("networks were loaded")

    monkeypatch.setattr(FeatureExtractor, "__init__", fail)
    assert not taught.is_stale
    taught.mark("c.mp4", 8, 10, "rest")
    assert taught.is_stale
    report = taught.train()
    assert not taught.is_stale
    assert report.classes == ("down", "rest", "right", BACKGROUND)
    assert any("'rest' has one example" in note for note in report.notes)


def test_review_gives_the_least_certain_windows_that_nobody_marked(taught: ds.Teacher) -> None:
    found = taught.review(most=3)
    assert len(found) == 3
    assert {one.video for one in found} == {"c.mp4"}  # the others are reviewed
    assert [one.certainty for one in found] == sorted(one.certainty for one in found)
    times = sorted((one.start_seconds, one.end_seconds) for one in found)
    assert all(end <= start + 1e-6 for (_, end), (start, _) in pairwise(times))
    timeline = taught.timeline("c.mp4")
    assert found[0].certainty == pytest.approx(float(timeline.certainty.min()))
    taught.mark("c.mp4", found[0].start_seconds, found[0].end_seconds, "down")
    assert all(
        one.start_seconds >= found[0].end_seconds or one.end_seconds <= found[0].start_seconds
        for one in taught.review()
    )


def test_the_run_folder_says_what_the_head_says(taught: ds.Teacher, acted_videos: Path) -> None:
    run = taught.folder / "runs" / "rgb"
    predictor = ds.Predictor(run, window_seconds=1, cuts="none")
    assert predictor.classes == ("down", "right", BACKGROUND)
    prediction = predictor.predict(acted_videos / "c.mp4")
    features = ds.Predictor(taught.settings.rgb, window_seconds=1, cuts="none").features(
        acted_videos / "c.mp4"
    )
    (vectors,) = features.vectors.values()
    classifier = ds.load_checkpoint(run).model.classifier
    logits = vectors @ classifier.weight.detach().numpy().T + classifier.bias.detach().numpy()
    best = prediction.window_probabilities.argmax(axis=1)
    np.testing.assert_array_equal(best, logits.argmax(axis=1))


def test_the_folder_is_a_manifest_that_training_reads(taught: ds.Teacher) -> None:
    manifest = Manifest.read(taught.folder)
    assert manifest.classes == ("down", "right")
    assert sorted(record.name for record in manifest.records) == [
        "a.mp4#t=0,4",
        "a.mp4#t=4,8",
        "b.mp4#t=0,4",
        "b.mp4#t=4,8",
    ]
    sides = {(record.path, record.splits[0]) for record in manifest.records}
    assert len(sides) == 2
    assert {side for _, side in sides} == {"train", "test"}
    assert all(manifest.video_path(record).is_file() for record in manifest.records)
    header, *rows = (taught.folder / "timeline.csv").read_text().splitlines()
    assert header == "source,label,start_seconds,end_seconds,confidence"
    assert {row.split(",")[0] for row in rows} == {"a.mp4", "b.mp4", "c.mp4"}


def test_a_file_outside_of_the_project_is_as_one_in_it(
    taught: ds.Teacher, acted_videos: Path
) -> None:
    inside, outside = taught.timeline("c.mp4"), taught.predict(acted_videos / "c.mp4")
    np.testing.assert_allclose(outside.probabilities, inside.probabilities, atol=1e-4)
    assert outside.video == str(acted_videos / "c.mp4")


def test_one_video_is_measured_over_its_marks(new_teacher: Callable[..., ds.Teacher]) -> None:
    teacher = new_teacher("a.mp4")
    for start, label in ((0, "right"), (2.5, "right"), (4.5, "down"), (6.5, "down")):
        teacher.mark("a.mp4", start, start + 1, label)
    report = teacher.train()
    assert report.measured_over == "intervals"
    assert any("Mark every action in a second video" in note for note in report.notes)
    assert any("Nothing says what is none of the actions" in note for note in report.notes)


def test_several_labels_at_once(new_teacher: Callable[..., ds.Teacher]) -> None:
    teacher = new_teacher("a.mp4", "b.mp4")
    teacher = ds.Teacher(teacher.folder, replace(teacher.settings, labels="several"))
    for video in ("a.mp4", "b.mp4"):
        mark_by_plan(teacher, video)
        teacher.mark(video, 0, 8, "moving")
    report = teacher.train()
    assert report.classes == ("down", "moving", "right")
    assert report.confusion is None
    assert report.per_class["moving"].windows == 14  # 0..2 to 6..8; 7..9 is half covered
    timeline = teacher.timeline("a.mp4")
    both = timeline.probabilities[:3, [1, 2]]
    assert (both > 0.5).all()
    assert {segment.label for segment in timeline.segments} == {"down", "moving", "right"}
    with pytest.raises(InputError, match="labels cannot be 'one'"):
        ds.Teacher(teacher.folder, replace(teacher.settings, labels="one"))
    run = ds.load_checkpoint(teacher.folder / "runs" / "rgb")
    assert run.recipe.train.labels == "several"


@pytest.mark.parametrize(
    ("marks", "match"),
    [
        ([], "no action is marked yet"),
        ([("right", 0, 4)], "only 'right' is marked. Teaching needs two actions"),
        ([(BACKGROUND, 8, 10)], "no action is marked yet"),
    ],
)
def test_too_little_is_marked(
    marks: list[tuple[str, float, float]], match: str, new_teacher: Callable[..., ds.Teacher]
) -> None:
    teacher = new_teacher("a.mp4")
    for label, start, end in marks:
        teacher.mark("a.mp4", start, end, label)
    with pytest.raises(AnnotationError, match=match):
        teacher.train()
    assert not teacher.is_trained
    with pytest.raises(CheckpointError, match="is not trained yet"):
        teacher.timeline("a.mp4")


def test_one_action_and_time_without_it_can_be_taught(
    new_teacher: Callable[..., ds.Teacher],
) -> None:
    teacher = new_teacher("a.mp4", "b.mp4")
    for video in ("a.mp4", "b.mp4"):
        teacher.mark(video, 0, 4, "right")
        teacher.set_reviewed(video)
    assert teacher.train().classes == ("right", BACKGROUND)
    assert {segment.label for segment in teacher.timeline("a.mp4").segments} == {"right"}


def test_training_that_was_stopped_goes_on(
    new_teacher: Callable[..., ds.Teacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_files, "PART_STEPS", 2)
    teacher = new_teacher("a.mp4")
    mark_by_plan(teacher, "a.mp4")

    def stop(progress: TeachProgress) -> None:
        assert progress.total == 10
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teacher.train(listener=stop)
    kept = len(list((teacher.folder / "features").rglob("*.npz")))
    assert kept >= 2
    assert not teacher.is_trained
    first: list[TeachProgress] = []
    teacher.train(listener=first.append)
    assert first[0].done >= 4  # the parts that are kept come at once
    assert [one.phase for one in first][-2:] == ["runs", "runs"]
    assert len(teacher.timeline("a.mp4").window_seconds) == 9


def test_broken_features_are_computed_anew(taught: ds.Teacher) -> None:
    file = next((taught.folder / "features").rglob("*.npz"))
    before = _tables(file)
    file.write_bytes(file.read_bytes()[:100])
    taught.train()
    after = _tables(file)
    for name, table in before.items():
        np.testing.assert_allclose(after[name], table, atol=1e-5)


def test_missing_and_changed_videos(
    tmp_path: Path, acted_videos: Path, tiny_settings: TeachSettings
) -> None:
    video = tmp_path / "mine.mp4"
    shutil.copy(acted_videos / "a.mp4", video)
    teacher = ds.Teacher(tmp_path / "project", tiny_settings)
    teacher.add_video(video)
    mark_by_plan(teacher, "mine.mp4")
    video.rename(tmp_path / "away.mp4")
    with pytest.raises(VideoNotFoundError, match=r"mine.mp4' is missing. Put it back"):
        teacher.train()
    (tmp_path / "away.mp4").rename(video)
    os.utime(video)  # the same content at another time
    teacher.train()
    video.unlink()
    assert any("its kept features serve" in note for note in teacher.train().notes)
    ds.write_video(video, acted(5)[: 9 * FPS], fps=FPS)
    with pytest.raises(VideoError, match="has changed since it was added"):
        teacher.train()
    assert teacher.add_video(video).is_reviewed
    with pytest.raises(
        CheckpointError, match=r"was trained before 'mine.mp4' was added or changed"
    ):
        teacher.timeline("mine.mp4")
    teacher.train()
    assert teacher.timeline("mine.mp4").window_seconds[-1, 1] == pytest.approx(9)


def test_marks_that_a_shorter_content_would_lose_are_told(
    tmp_path: Path, acted_videos: Path, tiny_settings: TeachSettings
) -> None:
    video = tmp_path / "mine.mp4"
    shutil.copy(acted_videos / "a.mp4", video)
    teacher = ds.Teacher(tmp_path / "project", tiny_settings)
    teacher.add_video(video)
    teacher.mark("mine.mp4", 5, 8, "down")
    ds.write_video(video, acted(5)[: 6 * FPS], fps=FPS)
    with pytest.raises(InputError, match=r"5 to 8 s leaves mine.mp4, which is 6.00 s long"):
        teacher.add_video(video)


def test_two_trainings_of_one_project(taught: ds.Teacher) -> None:
    with training(taught.folder):
        with pytest.raises(InputError, match="is being trained by another process"):
            taught.train()
        taught.mark("c.mp4", 0, 2, "right")  # goes on meanwhile


def test_changes_wait_for_each_other(taught: ds.Teacher) -> None:
    def add(number: int) -> None:
        ds.Teacher(taught.folder).mark("c.mp4", number, number + 0.5, f"label {number}")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    with changing(taught.folder):
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert len([mark for mark in taught.marks if mark.video == "c.mp4"]) == 8


def test_other_networks_are_refused(tmp_path: Path, tiny_settings: TeachSettings) -> None:
    with pytest.raises(UnknownNameError, match="Unknown rgb 'i3d_rgb_kinetics'"):
        ds.Teacher(tmp_path / "project", TeachSettings(rgb="i3d_rgb_kinetics"))
    with pytest.raises(InputError, match="it sees no flow"):
        FeatureExtractor(replace(tiny_settings, motion=tiny_settings.rgb))


def _tables(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as content:
        return {name: content[name] for name in content.files}
