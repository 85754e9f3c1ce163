"""Folders of several streams, wherever networks are named: all streams and their fitted fusion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import dualstream
from tests.engine.tiny import untrained_pair

import dualstream as ds
from dualstream.engine.infer.recognizer import as_recognizer
from dualstream.engine.run.streams import named_streams
from dualstream.errors import CheckpointError, InputError, ScoresError
from dualstream.scores import Fusion

FUSION = Fusion("weighted", 2, weights=(0.2, 0.8))


@pytest.fixture(scope="module")
def pair(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_pair(tiny_data, tmp_path_factory.mktemp("pair") / "runs", FUSION)


def test_a_folder_of_several_streams_names_each_and_their_fusion(pair: Path) -> None:
    runs, fusion = (pair / "rgb", pair / "flow"), pair / "fusion.json"
    assert named_streams(pair) == (runs, fusion)
    assert named_streams(str(pair)) == (runs, fusion)
    assert named_streams([pair]) == (runs, fusion)


def test_anything_else_stays_as_it_is(pair: Path) -> None:
    rgb = pair / "rgb"
    assert named_streams(rgb) == ((rgb,), None)
    assert named_streams([str(rgb), pair]) == ((rgb, pair), None)
    network = as_recognizer(rgb)
    assert named_streams(network) == ((network,), None)
    assert named_streams([network, rgb]) == ((network, rgb), None)
    with pytest.raises(InputError, match="no address of a run on the Hub"):
        named_streams("hf://one-part")


def test_python_takes_the_folder_that_the_command_line_takes(pair: Path, tiny_data: Path) -> None:
    video = tiny_data / "videos/right/right_5.mp4"
    runs = [pair / "rgb", pair / "flow"]
    found = ds.predict(video, str(pair), segments=2)
    assert list(found.streams) == ["rgb", "flow"]
    fitted = ds.predict(video, runs, segments=2, fusion=FUSION)
    np.testing.assert_array_equal(found.probabilities, fitted.probabilities)
    joined = 0.2 * found.streams["rgb"] + 0.8 * found.streams["flow"]
    np.testing.assert_allclose(found.probabilities, joined, atol=1e-6)
    weighted = ds.predict(video, pair, segments=2, weights=[3, 1])
    joined = 0.75 * found.streams["rgb"] + 0.25 * found.streams["flow"]
    np.testing.assert_allclose(weighted.probabilities, joined, atol=1e-6)
    predictor = ds.Predictor(pair, segments=2)
    assert predictor.scoring.fusion.weights == (0.2, 0.8)
    (window,) = ds.explain(video, pair, segments=2, pieces=0)
    assert window.label == found.top(1)[0][0]


def test_a_folder_among_others_or_without_its_fusion_is_refused(
    pair: Path, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="holds a run for each of several streams"):
        ds.Predictor([pair, as_recognizer(pair / "rgb")])
    with pytest.raises(InputError, match="either fusion or weights"):
        ds.Predictor(pair, fusion=FUSION, weights=[1, 1])
    untrained = untrained_pair(tiny_data, tmp_path / "runs", FUSION)
    (untrained / "fusion.json").unlink()
    with pytest.raises(ScoresError, match=r"fusion\.json"):
        ds.Predictor(untrained)
    assert len(ds.Predictor(untrained, weights=[1, 1]).recognizers) == 2


def test_published_weights_do_not_join_a_fitted_fusion(pair: Path, tmp_path: Path) -> None:
    call = ["--checkpoint", pair, "--weights", "i3d_rgb_kinetics400"]
    done = dualstream("predict", tmp_path / "a.mp4", *call)
    assert done.code == 2
    assert f"{pair} holds all its streams and their fusion" in " ".join(done.stderr.split())
