"""Training on intervals of a long video: bit for bit what files cut to them give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.engine.tiny import tiny_recipe

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.data.prepare import prepare
from dualstream.clips.data.synthetic import SyntheticSpec, class_names, render_video
from dualstream.engine.infer.evaluate import evaluate
from dualstream.engine.train.fit import train
from dualstream.flow import FlowJob, extract_flow
from dualstream.report.samples import example_figures
from dualstream.scores import read_scores
from dualstream.types import Scores
from dualstream.video import write_video

SPEC = SyntheticSpec(num_looks=2, num_motions=2, num_frames=10, size=48)
PAUSE = np.full((7, 48, 48, 3), 90, np.uint8)
CLASSES = class_names(SPEC)
FPS = 25


def write_long(folder: Path, name: str, clips: list[tuple[int, np.ndarray]]) -> list[str]:
    """Join clips (label, frames) with pauses to one lossless file; the rows of its intervals."""
    rows, parts, start = [], [PAUSE], len(PAUSE)
    for label, frames in clips:
        times = f"{start / FPS:.2f},{(start + len(frames)) / FPS:.2f}"
        rows.append(f"{name}.mkv,{times},{CLASSES[label]}")
        parts += [frames, PAUSE]
        start += len(frames) + len(PAUSE)
    write_video(folder / f"{name}.mkv", np.concatenate(parts), fps=FPS, codec="ffv1")
    return rows


def write_cut(folder: Path, name: str, clips: list[tuple[int, np.ndarray]]) -> list[str]:
    """Write each clip as a file of its own; their rows."""
    rows = []
    for number, (label, frames) in enumerate(clips):
        file = f"{name}_{number}.mkv"
        write_video(folder / file, frames, fps=FPS, codec="ffv1")
        rows.append(f"{file},,,{CLASSES[label]}")
    return rows


def prepared(
    folder: Path, write: Callable[[Path, str, list[tuple[int, np.ndarray]]], list[str]]
) -> Path:
    """A manifest with flow of three videos of four clips, the last one to test on."""
    lines = ["path,start_seconds,end_seconds,label,split"]
    for index, name in enumerate("abc"):
        clips = [
            (2 * look + motion, render_video(SPEC, look=look, motion=motion, index=index))
            for look, motion in ((0, 1), (1, 0), (1, 1), (0, 0))
        ]
        side = "test" if name == "c" else "train"
        lines += [f"{row},{side}" for row in write(folder / "videos", name, clips)]
    (folder / "scored.csv").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    prepare(folder).report().write(folder)
    manifest = Manifest.read(folder)
    jobs = [FlowJob(r.path, str(manifest.video_path(r)), r.sha256) for r in manifest.files]
    assert {o.status for o in extract_flow(jobs, folder / "flow", workers=1)} == {"done"}
    return folder


@pytest.fixture(scope="module")
def long_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("long"), write_long)


@pytest.fixture(scope="module")
def cut_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("cut"), write_cut)


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_intervals_train_and_test_as_files_that_are_cut(
    tmp_path: Path, long_data: Path, cut_data: Path, modality: str
) -> None:
    assert len(Manifest.read(long_data).files) == 3
    assert len(Manifest.read(cut_data).files) == 12
    recipe = tiny_recipe(modality)
    runs = [tmp_path / "long", tmp_path / "cut"]
    for run, data in zip(runs, (long_data, cut_data), strict=True):
        train(recipe, data, run)
        evaluate(run, workers=0)
    weights = [(run / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    of_long, of_cut = (read_scores(run / "scores.npz") for run in runs)
    np.testing.assert_array_equal(of_long.scores, of_cut.scores)
    np.testing.assert_array_equal(of_long.labels, of_cut.labels)
    assert of_cut.names == ("c_0.mkv", "c_1.mkv", "c_2.mkv", "c_3.mkv")
    assert of_long.names == (
        "c.mkv#t=0.28,0.68",
        "c.mkv#t=0.96,1.36",
        "c.mkv#t=1.64,2.04",
        "c.mkv#t=2.32,2.72",
    )


def test_examples_of_a_report_show_the_interval(long_data: Path) -> None:
    manifest = Manifest.read(long_data)
    record = manifest.records[-1]
    frames = render_video(SPEC, look=0, motion=0, index=2)
    scores = scores_of(record.name)
    (figure,) = example_figures(manifest, {"rgb": scores}, None)
    assert (figure.name, figure.label) == (record.name, CLASSES[0])
    np.testing.assert_array_equal(figure.frames, frames)


def scores_of(name: str) -> Scores:
    """Scores of one video."""
    table = np.array([[1, 0, 0, 0]], np.float32)
    return Scores((name,), np.array([0]), table, CLASSES, "probabilities")
