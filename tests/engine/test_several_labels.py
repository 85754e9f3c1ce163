"""Videos of several classes: each has a probability of its own, from training to prediction."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cli.test_cli_watch import invoke as watch_call
from tests.engine.tiny import changed, tiny_recipe, untrained_run

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.loader import collate
from dualstream.clips.transforms import Normalizer
from dualstream.deploy.export import ExportFormat, export
from dualstream.deploy.runtime import open_exported
from dualstream.engine.datasets import training_dataset
from dualstream.engine.infer.evaluate import evaluate
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.pair_recipe import load_pair
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.checkpoint import load_checkpoint
from dualstream.engine.train.fit import train
from dualstream.engine.train.opening import open_run
from dualstream.engine.train.several_labels import SeveralLabelsModule
from dualstream.errors import CheckpointError, RecipeError, ScoresError
from dualstream.scores import Fusion, SeveralAccuracy, measure_several, read_scores
from dualstream.video import VideoReader


def several(**train: Any) -> Recipe:
    return tiny_recipe("rgb", labels="several", **train)


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos as classes left, moving, right: what moves right is moving too."""
    folder = tmp_path_factory.mktemp("several") / "data"
    shutil.copytree(tiny_data, folder)
    manifest = Manifest.read(tiny_data)
    records = [
        replace(r, label=1, more_labels=(2,) if r.path.startswith("right") else ())
        for r in manifest.records
    ]
    classes = ("left", "moving", "right")
    replace(manifest, records=tuple(records), classes=classes, root=folder / "videos").write(folder)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(several(), data, tmp_path_factory.mktemp("run") / "run")


def test_targets_are_the_classes_and_change_sides_in_a_mirror(data: Path, run: Path) -> None:
    checkpoint = load_checkpoint(run)
    dataset = training_dataset(Manifest.read(data), checkpoint.recipe, checkpoint.info)
    clips = [dataset[epoch, index] for epoch in range(6) for index in (0, 6)]
    seen = {tuple(clip.targets.tolist()) for clip in clips[::2] if clip.targets is not None}
    assert seen == {(0.0, 1.0, 1.0), (1.0, 1.0, 0.0)}  # right, mirrored it is left
    assert {tuple(c.targets.tolist()) for c in clips[1::2] if c.targets is not None} == {
        (0.0, 1.0, 0.0)
    }
    batch = collate(clips[:4])
    assert batch.targets is not None
    assert batch.targets.shape == (4, 3)
    assert torch.equal(batch.sample(2).targets, clips[2].targets)  # type: ignore[arg-type]
    assert torch.equal(batch.to("cpu").targets, batch.targets)  # type: ignore[arg-type]


def test_loss_and_hit(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    module = SeveralLabelsModule(checkpoint.recipe, checkpoint.model)
    logits = torch.tensor([[0.0, 2.0, -1.0], [3.0, 0.0, 0.0]])
    targets = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    # -log sigmoid(+-z) by hand: .6931 + .1269 + 1.3133 + 3.0486 + .6931 + .6931
    assert module.loss({"answer": logits}, targets).item() == pytest.approx(6.5682 / 6, abs=1e-4)
    assert module.top1(logits, targets, "train").item() == 0.5


def test_a_test_gives_independent_probabilities_and_measures_them(data: Path, run: Path) -> None:
    result = evaluate(run, workers=0)
    checkpoint = load_checkpoint(run)
    assert isinstance(result.accuracy, SeveralAccuracy)
    written = read_scores(result.path)
    assert written.truth is not None
    assert written.truth.tolist() == [[False, True, True]] * 2 + [[False, True, False]] * 2
    assert measure_several(written) == result.accuracy
    assert {"map", "hit1"} <= result.metrics.keys()
    assert not np.allclose(written.scores.sum(axis=1), 1)
    # The mean of the views' sigmoids.
    predictor = Predictor(checkpoint, segments=3)
    file = Manifest.read(data).root / written.names[0]
    with VideoReader(file) as video:
        (window,) = predictor.clips(video, predictor.windows(video)[0])
    clips = Normalizer(checkpoint.spec)(window.clips[0].data)
    with torch.no_grad():
        expected = checkpoint.model(clips).sigmoid().mean(dim=0).numpy()
    prediction = predictor.predict(file)
    assert prediction.labels == "several"
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)


def test_watch_tells_all_classes_that_are_there(data: Path, run: Path, tmp_path: Path) -> None:
    """Untrained, each class has about .5."""
    video, told = data / "videos/right/right_5.mp4", tmp_path / "told"
    options = ("--window", 0.2, "--step", 0.2, "--most-delay", 60, "--no-cuts", "--top", 1)
    hook = f'echo "$DUALSTREAM_LABEL $DUALSTREAM_PROBABILITY" >> {told}'
    result = watch_call(
        video, "--checkpoint", run, *options, "--enter", 0.3, "--json", "--hook", hook
    )
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    for line in lines:
        assert set(line["labels"]) == {"left", "moving", "right"}
        assert line["label"] == line["labels"][0] == line["top"][0]["class"]
        assert len(line["top"]) == 1
    came_in = dict(one.split() for one in told.read_text().splitlines())
    assert set(came_in) == {"left", "moving", "right"}  # each once, with its own probability
    assert len(set(came_in.values())) == 3
    plain = watch_call(video, "--checkpoint", run, *options, "--enter", 0.3)
    assert all(f"{name} " in plain.stdout.splitlines()[0] for name in came_in)
    quiet = watch_call(video, "--checkpoint", run, *options, "--enter", 0.9)
    assert quiet.stdout.startswith("0.0-0.2 s: nothing ")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_an_exported_file_tells_several_classes(
    data: Path, run: Path, tmp_path: Path, suffix: str
) -> None:
    format: ExportFormat = "onnx" if suffix == ".onnx" else "torch-export"
    fusion = Fusion("product", 2)
    result = export([run, run], tmp_path / f"a{suffix}", format=format, fusion=fusion)
    networks = open_exported(result.path)
    assert result.card.labels == networks[0].labels == "several"
    video = data / "videos/right/right_5.mp4"
    expected = Predictor([run, run], fusion=fusion).predict(video)
    found = Predictor(networks, fusion=networks[0].file.card.fusion).predict(video)
    assert found.labels == "several"
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    assert found.probabilities.sum() > 1.2
    clips = {name: np.zeros((1, *shape), np.uint8) for name, shape in result.card.shapes().items()}
    table = networks[0].file.run(clips, list(result.card.outputs()))
    (first, second, probabilities) = (table[name] for name in result.card.outputs())
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-(first + second) / 2)), atol=1e-5)
    with pytest.raises(ScoresError, match="not by 'max'"):
        export([run, run], tmp_path / f"b{suffix}", format=format, fusion=Fusion("max", 2))


def test_training_on_several_classes_ends_with_what_it_learnt(data: Path, tmp_path: Path) -> None:
    told = train(changed(several(), train__epochs=2), data, tmp_path / "run")
    assert told.measure == "hit@1"
    assert 0 <= told.train_top1 <= 1
    assert evaluate(tmp_path / "run", workers=0).accuracy.num_videos == 4


def test_several_classes_want_the_recipe_that_knows_them(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"right_0\.mp4 has 2 classes\. Set train\.labels=several"
    ):
        open_run(tiny_recipe(), data, tmp_path / "run")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (several(label_smoothing=0.1), "does not go with train.label_smoothing"),
        (
            changed(several(), data__frozen_views=2, model__trainable="last_layer"),
            "does not go with data.frozen_views",
        ),
    ],
)
def test_what_works_with_one_class_only_is_refused(
    data: Path, tmp_path: Path, recipe: Recipe, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        open_run(recipe, data, tmp_path / "run")


def test_pairs_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"train\.labels must be one here"):
        load_pair("tsn", ["train.labels=several"])


def test_networks_of_other_labels_are_not_joined(
    data: Path, tiny_data: Path, run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "data"
    shutil.copytree(tiny_data, other)
    (other / "classes.txt").write_text("left\nmoving\nright\n")
    one = untrained_run(tiny_recipe(), other, tmp_path / "one")
    with pytest.raises(CheckpointError, match=r"other train\.labels \(several and one\)"):
        Predictor([run, one])
    with pytest.raises(ScoresError, match="'weighted' with given weights, not by 'max'"):
        Predictor([run, run], fusion=Fusion("max", 2))
    with pytest.raises(CheckpointError, match=r"have several classes, and .*one was trained with"):
        evaluate(one, data=data, workers=0)
