"""The demo's chain, and the counter-proofs: without its own cue each stream falls to chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualstream.clips.data.synthetic import SyntheticSpec
from dualstream.engine.demo import make_data, run_demo
from dualstream.engine.infer.evaluate import evaluate
from dualstream.engine.recipe import load_recipe
from dualstream.engine.train.fit import train
from dualstream.errors import InputError

SMALL = ["model.options.backbone=test_resnet", "train.optimizer.lr=3e-3", "data.workers=1"]


def accuracy_of(recipe: str, spec: SyntheticSpec, folder: Path, *, epochs: int) -> float:
    """Top-1 on the test videos of a stream that is trained on a synthetic set."""
    data = make_data(folder, spec, workers=1)
    resolved = load_recipe(recipe, [*SMALL, f"train.epochs={epochs}"])
    train(resolved, data, folder / "run")
    return evaluate(folder / "run", workers=0).accuracy.top_1


@pytest.mark.slow
def test_temporal_stream_falls_to_chance_when_time_is_shuffled(tmp_path: Path) -> None:
    # One look, four motions: chance is 25%. 40 test videos: four standard errors are 27 points.
    counts = {"num_looks": 1, "train_videos_per_class": 20, "test_videos_per_class": 10}
    plain = SyntheticSpec(**counts)
    shuffled = SyntheticSpec(**counts, shuffle_time=True)
    assert accuracy_of("demo_flow", plain, tmp_path / "plain", epochs=40) >= 0.9
    assert accuracy_of("demo_flow", shuffled, tmp_path / "shuffled", epochs=40) <= 0.52


@pytest.mark.slow
def test_spatial_stream_falls_to_chance_when_sprites_are_blank(tmp_path: Path) -> None:
    counts = {"num_motions": 1, "train_videos_per_class": 20, "test_videos_per_class": 10}
    plain = SyntheticSpec(**counts)
    blank = SyntheticSpec(**counts, blank_texture=True)
    assert accuracy_of("demo_rgb", plain, tmp_path / "plain", epochs=30) >= 0.9
    assert accuracy_of("demo_rgb", blank, tmp_path / "blank", epochs=30) <= 0.52


@pytest.mark.slow
def test_demo_goes_on_with_what_is_there(tmp_path: Path) -> None:
    spec = SyntheticSpec(
        num_looks=2, num_motions=2, train_videos_per_class=3, test_videos_per_class=2
    )
    overrides = [*SMALL, "train.epochs=1", "train.batch_size=4"]
    stages: list[str] = []
    first = run_demo(
        tmp_path,
        spec=spec,
        overrides=overrides,
        workers=1,
        listener=lambda stage, *rest: stages.append(stage),
    )
    assert list(dict.fromkeys(stages)) == [
        "render",
        "prepare",
        "flow",
        "train spatial",
        "test spatial",
        "train temporal",
        "test temporal",
    ]
    page = first.page.read_text()
    assert "checker-fast" in page
    weights = tmp_path / "runs/temporal/model.safetensors"
    written = weights.stat().st_mtime_ns
    second = run_demo(tmp_path, spec=spec, overrides=overrides, workers=1)
    assert weights.stat().st_mtime_ns == written
    assert (first.spatial, first.temporal, first.fused) == (
        second.spatial,
        second.temporal,
        second.fused,
    )


def test_demo_refuses_a_folder_of_other_settings(tmp_path: Path) -> None:
    spec = SyntheticSpec(
        num_looks=1, num_motions=1, train_videos_per_class=1, test_videos_per_class=1
    )
    make_data(tmp_path, spec, workers=1)
    with pytest.raises(InputError, match="another synthetic data set"):
        make_data(tmp_path, SyntheticSpec(num_looks=2, num_motions=1), workers=1)
