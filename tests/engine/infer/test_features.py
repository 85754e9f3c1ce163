"""Features: the vectors in front of the classifiers, of the windows of a video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.engine.tiny import joint_recipe, tiny_recipe, untrained_run

from dualstream.clips.transforms import Normalizer
from dualstream.engine.infer.features import mean_vectors
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.infer.recognizer import as_recognizer, view_logits
from dualstream.errors import InputError
from dualstream.models import create_model


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("features")
    return [untrained_run(tiny_recipe(m), tiny_data, folder / m) for m in ("rgb", "flow")]


def test_the_classifier_makes_the_logits_of_them(
    runs: list[Path], tiny_video: Callable[..., Path]
) -> None:
    video = tiny_video("long.mp4", num_frames=60, size=(48, 64), fps=20.0)
    predictor = Predictor(runs, window_seconds=1.0, segments=3, crops="three")
    found = predictor.features(video)
    prediction = predictor.predict(video)
    assert found.source == str(video)
    np.testing.assert_array_equal(found.window_seconds, prediction.window_seconds)
    assert [(name, table.shape, table.dtype) for name, table in found.vectors.items()] == [
        (name, (3, predictor.recognizers[0].model.num_features), np.float32)
        for name in ("rgb", "flow")
    ]
    from dualstream.video import VideoReader

    with VideoReader(video) as frames:
        windows = list(predictor.clips(frames, predictor.windows(frames)[0], path=str(video)))
    for place, recognizer in enumerate(predictor.recognizers):
        weight, bias = (p.detach().numpy() for p in recognizer.model.classifier.parameters())
        for row, window in zip(found.vectors[recognizer.name], windows, strict=True):
            normalizer = Normalizer(recognizer.spec)
            logits = view_logits(recognizer.model, window.clips[place], normalizer, segments=3)
            np.testing.assert_allclose(weight @ row + bias, logits.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("consensus", ["average", "max"])
def test_clips_together_are_what_each_is_alone(consensus: str) -> None:
    torch.manual_seed(0)
    options = {"backbone": "test_resnet", "consensus": consensus}
    model = create_model("tsn", num_classes=2, **options).eval()
    assert model.joins_segments == (consensus == "max")
    normalizer, rng = Normalizer(tiny_recipe().clip_spec()), np.random.default_rng(0)
    sizes = [(views, 3, 1, 32, 32) for views in (4, 2, 4)]  # two crops of 2, 1 and 2 segments
    clips = [{"rgb": rng.integers(0, 256, size, dtype=np.uint8)} for size in sizes]
    found = mean_vectors(model, clips, normalizer, num_crops=2)
    for clip, vectors in zip(clips, found, strict=True):
        (alone,) = mean_vectors(model, [clip], normalizer, num_crops=2)
        assert vectors.keys() == alone.keys()
        for head, vector in alone.items():
            assert vector.shape == (model.num_features,)
            np.testing.assert_allclose(vectors[head], vector, rtol=1e-5, atol=1e-6)


def test_towers_are_told_by_their_streams(tiny_data: Path, tmp_path: Path) -> None:
    run = untrained_run(joint_recipe("two_stream"), tiny_data, tmp_path / "pair")
    predictor = Predictor(run)
    predictor.recognizers[0].model.train()
    found = predictor.features(tiny_data / "videos/right/right_5.mp4")
    assert sorted(found.vectors) == ["pair/flow", "pair/rgb"]
    assert predictor.recognizers[0].model.training
    again = predictor.features(tiny_data / "videos/right/right_5.mp4")
    for name, table in found.vectors.items():  # dropout and batch norm as in evaluation
        np.testing.assert_array_equal(again.vectors[name], table)


def test_a_network_that_has_diverged_is_told(runs: list[Path], tiny_data: Path) -> None:
    recognizer = as_recognizer(runs[0])
    torch.nn.init.constant_(next(recognizer.model.parameters()), float("nan"))
    with pytest.raises(InputError, match="NaN or an infinity"):
        Predictor(recognizer).features(tiny_data / "videos/right/right_5.mp4")
