"""What a test says of a video prediction says too, bit for bit, whatever the recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import moving_square
from tests.engine.tiny import untrained_run

from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.engine.infer.evaluate import evaluate
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.recipe import Recipe, list_recipes, load_recipe
from dualstream.engine.run.checkpoint import load_checkpoint
from dualstream.flow import FlowJob, extract_flow
from dualstream.video import write_video

NUM_FRAMES, HEIGHT, WIDTH = 24, 48, 64

SHORT_SIDE, CROP_SIZE = 60, 48
"""Smaller than any recipe's, so that all together take seconds."""

LONGEST = 8
"""Frames of a snippet, but for networks that need more."""

NEEDED_FRAMES = {"c3d": 16, "slow_fusion": 10, "t3d_rgb": 16, "t3d_transfer_rgb": 16}

LONGER_IN_TESTS = 30
"""Frames of a test's snippets where the recipe says that they are longer than in training; longer
than the video too, so that it is held or looped."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a manifest of one video to train on and one to test, and their flow."""
    folder = tmp_path_factory.mktemp("data")
    records = []
    for label, part in enumerate(("train", "test")):
        path = folder / "videos" / f"{part}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, moving_square(NUM_FRAMES, (HEIGHT, WIDTH), step_px=1 + label), fps=25)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        records.append(
            VideoRecord(path.name, label, (part,), NUM_FRAMES, 25.0, WIDTH, HEIGHT, sha256)
        )
    manifest = Manifest(tuple(records), ("slow", "fast"), folder / "videos")
    manifest.write(folder)
    methods = {
        stream.flow_method
        for name in list_recipes()
        for stream in load_recipe(name).clip_spec().flow_streams.values()
    }
    jobs = [FlowJob(r.path, str(manifest.video_path(r)), r.sha256) for r in records]
    for method in methods:
        outcomes = list(extract_flow(jobs, folder / method, method=method, workers=1))
        assert [outcome.status for outcome in outcomes] == ["done", "done"]
    return folder


def smaller(name: str) -> Recipe:
    """A shipped recipe with fewer and smaller frames, views and layers; all else is its own."""
    recipe = load_recipe(name)
    longest = NEEDED_FRAMES.get(name, LONGEST)
    overrides = [f"clip.short_side={SHORT_SIDE}", f"clip.crop_size={CROP_SIZE}"]
    overrides += [
        f"inputs.{stream}.num_frames={min(section.num_frames, longest)}"
        for stream, section in recipe.inputs.items()
    ]
    overrides += [f"test.segments={min(recipe.test.segments, 2)}"]
    if recipe.test.num_frames is not None:
        overrides += [f"test.num_frames={LONGER_IN_TESTS}"]
    if "backbone" in recipe.model.options:
        overrides += ["model.options.backbone=test_resnet"]
    return load_recipe(name, overrides)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*list_recipes()} - {"motionnet"}))  # learns no classes
def test_prediction_says_what_a_test_says(name: str, data: Path, tmp_path: Path) -> None:
    recipe = smaller(name)
    flow = {stream: data / recipe.inputs[stream].flow_method for stream in recipe.flow_streams()}
    run = untrained_run(recipe, data, tmp_path / "run", flow=flow)
    checkpoint = load_checkpoint(run)
    (tested,) = evaluate(checkpoint, workers=0).scores.scores
    assert tested.min() > 0.001  # a network that says nothing but 0 and 1 hides much
    predictor = Predictor(checkpoint, segments=recipe.test.segments, crops=recipe.test.crops)
    predicted = predictor.predict(data / "videos" / "test.mp4")
    np.testing.assert_array_equal(predicted.probabilities, tested)
