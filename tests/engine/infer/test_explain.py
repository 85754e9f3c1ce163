"""`explain`: maps and pictures of each stream, across streams, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.command import dualstream, succeed
from tests.engine.test_cross_attention import recipe_of
from tests.engine.tiny import changed, tiny_recipe, untrained_run

from dualstream.engine.infer.explain import SEEN, pictures
from dualstream.engine.infer.predictor import Predictor, explain
from dualstream.engine.run.checkpoint import load_checkpoint
from dualstream.errors import InputError, UnknownNameError
from dualstream.models.grad_cam import grad_cam
from dualstream.types import StreamSpec
from dualstream.video import VideoReader

LAYERS = ["backbone.layer3", "backbone.layer4"]


@pytest.fixture(scope="module")
def video(tiny_data: Path) -> Path:
    return tiny_data / "videos" / "right" / "right_5.mp4"


@pytest.fixture(scope="module")
def crossing(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run of cross attention."""
    folder = tmp_path_factory.mktemp("crossing") / "run"
    return untrained_run(recipe_of("end_to_end"), tiny_data, folder)


def test_maps_are_grad_cam_of_the_clips_that_are_predicted(
    tiny_data: Path, video: Path, tmp_path: Path
) -> None:
    recipe = changed(tiny_recipe("flow"), clip={"short_side": 72, "crop_size": 64})
    run = untrained_run(recipe, tiny_data, tmp_path / "flow")
    (window,) = explain(video, run, layers=LAYERS, label="down", segments=2)
    stream = window.streams["flow"]
    assert (window.label, list(window.streams), list(stream.maps)) == ("down", ["flow"], LAYERS)
    predictor = Predictor(run, segments=2)
    with VideoReader(video) as frames:
        (plain,) = predictor.clips(frames, predictor.windows(frames)[0])
    model = load_checkpoint(run).model
    clips = torch.from_numpy((plain.clips[0].data["flow"].numpy() - 128.0) * 20 / 127.5).float()
    by_hand = grad_cam(model, clips, layers=LAYERS[:1], labels=torch.tensor([1, 1]), scale=False)
    np.testing.assert_allclose(stream.maps[LAYERS[0]], by_hand / by_hand.max(), atol=1e-3)
    assert stream.images.shape == (2, 3, 64, 64, 3)
    (again,) = predictor.explain(video, layers=LAYERS, label="down")
    np.testing.assert_array_equal(again.streams["flow"].maps[LAYERS[1]], stream.maps[LAYERS[1]])
    (table,) = predictor.scores(plain.clips)
    assert window.probability == pytest.approx(table[1], abs=1e-6)
    assert stream.probability == pytest.approx(table[1], abs=1e-6)
    assert [name for name, _ in window.top] == ["right", "down"][:: 1 if table[0] > 0.5 else -1]
    (row, _) = window.looks()
    assert [look.caption for look in row] == ["flow", *(f"flow: {layer}" for layer in LAYERS)]


def test_across_streams_the_maps_change_places(crossing: Path, video: Path) -> None:
    (window,) = explain(video, crossing, layers=LAYERS, segments=2, pieces=0)
    assert list(window.streams["rgb"].maps) == [SEEN, *LAYERS]
    flow = window.streams["flow"]
    np.testing.assert_allclose(flow.maps[SEEN], 0.1, atol=1e-6)  # not trained yet
    own, across = window.looks(), window.looks(cross=True)
    assert len(own) == len(across) == 4  # two snippets of two streams
    assert [look.caption for look in across[0]] == [
        "rgb", f"flow: {SEEN}", *(f"flow: {layer}" for layer in LAYERS)
    ]  # fmt: skip
    assert np.array_equal(own[0][0].image, across[0][0].image)
    for column in (1, 2, 3):
        assert np.array_equal(own[1][column].map, across[0][column].map)
        assert np.array_equal(own[0][column].map, across[1][column].map)


def test_streams_of_several_networks(tiny_data: Path, video: Path, tmp_path: Path) -> None:
    clip = {"short_side": 72, "crop_size": 64}
    runs = [
        untrained_run(changed(tiny_recipe(name), clip=clip), tiny_data, tmp_path / name)
        for name in ("rgb", "flow")
    ]
    (window,) = explain(video, runs, segments=1)
    assert list(window.streams) == ["rgb/rgb", "flow/flow"]
    assert list(window.streams["rgb/rgb"].maps) == ["backbone.layer4"]
    assert len(window.streams["rgb/rgb"].sensitivity.falls) == 0  # one frame: nothing stands in
    assert len(window.streams["flow/flow"].sensitivity.falls) == 3
    with pytest.raises(InputError, match="need one network of two streams"):
        window.looks(cross=True)


def test_towers_of_a_plain_pair(tiny_data: Path, video: Path, tmp_path: Path) -> None:
    tower = {"name": "tsn", "backbone": "test_resnet"}
    model = {"name": "two_stream", "options": {"towers": {"rgb": tower, "flow": tower}}}
    recipe = changed(recipe_of("end_to_end"), model=model, train__attention=None)
    run = untrained_run(recipe, tiny_data, tmp_path / "run")
    (window,) = explain(video, run, layers=LAYERS[1:], segments=1)
    assert {name: list(stream.maps) for name, stream in window.streams.items()} == {
        "rgb": LAYERS[1:],
        "flow": LAYERS[1:],
    }
    assert [len(row) for row in window.looks(cross=True)] == [2, 2]


def test_what_a_stream_saw_in_colours() -> None:
    bytes_of = np.full((1, 2, 3, 4, 4), 128, np.uint8)
    bytes_of[:, 0] = 255  # to the right by the bound
    red = pictures(bytes_of, StreamSpec("flow", num_frames=3))
    assert red.shape == (1, 3, 4, 4, 3)
    assert red[0, 0, 0, 0].tolist() == [255, 0, 0]
    frames = np.arange(2 * 3 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 3, 4, 4)
    shown = pictures(frames, StreamSpec("rgb_diff", num_frames=2))
    assert np.array_equal(shown, np.moveaxis(frames, 1, -1)[:, 1:])


def test_from_the_command_line(crossing: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "cross.png"
    call = ["explain", video, "--checkpoint", crossing, "--cross", "--segments", 1, "--out", out]
    layers = [word for layer in LAYERS for word in ("--layer", layer)]
    table = json.loads(succeed(*call, *layers, "--class", "right", "--json"))
    assert out.stat().st_size > 1000
    assert table["picture"] == str(out)
    (window,) = table["windows"]
    assert (window["class"], window["streams"]["flow"]) == ("right", [SEEN, *LAYERS])
    assert str(out) in succeed(*call)
    for wrong, message in (
        (["--layer", "backbone.layer7"], "Did you mean 'backbone.layer"),
        (["--class", "up"], "Allowed: right, down"),
    ):
        done = dualstream(*call, *wrong)
        assert done.code == 2
        assert message in done.stderr
    assert dualstream("explain", video).code == 2
    done = dualstream("explain", video, "--checkpoint", crossing, "--cross", "--out", tmp_path)
    assert (done.code, "--cross draws one picture" in done.stderr) == (2, True)


def test_files_and_page_from_the_command_line(tiny_data: Path, video: Path, tmp_path: Path) -> None:
    clip = {"short_side": 72, "crop_size": 64}
    run = untrained_run(changed(tiny_recipe("flow"), clip=clip), tiny_data, tmp_path / "flow")
    call = ["explain", video, "--checkpoint", run, "--segments", 2, "--pieces", 3]
    out = tmp_path / "out"
    printed = succeed(*call, "--class", "down", "--out", out)
    assert str(out / "flow.jpg") in printed
    assert printed.splitlines()[1].startswith("  0.0-0.4 s: down ")
    assert sorted(file.name for file in out.iterdir()) == [
        "flow.jpg", "flow.mp4", "flow.npz", "page.html"
    ]  # fmt: skip
    both = json.loads(
        succeed(*call, video.with_name("right_4.mp4"), "--out", out, "--no-video", "--json")
    )
    assert both["page"] == str(out / "page.html")
    assert [Path(one["source"]).name for one in both["videos"]] == ["right_5.mp4", "right_4.mp4"]
    (file,) = both["videos"][1]["windows"][0]["files"]
    assert file == {
        "stream": "flow",
        "layer": "backbone.layer4",
        "array": str(out / "right_4" / "flow.npz"),
        "strip": str(out / "right_4" / "flow.jpg"),
        "video": None,
    }
    text = (out / "page.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 2
    missing = dualstream(*call, tmp_path / "none.mp4", "--out", out, "--no-video")
    assert (missing.code, "none.mp4" in missing.stderr) == (1, True)
    two = dualstream(*call, video, "--out", tmp_path / "one.png")
    assert (two.code, "the picture of one video" in two.stderr) == (2, True)


@pytest.mark.slow
def test_layers_are_looked_for_in_every_network(
    tiny_data: Path, video: Path, tmp_path: Path
) -> None:
    clip = {"short_side": 72, "crop_size": 64}
    plain = untrained_run(changed(tiny_recipe("rgb"), clip=clip), tiny_data, tmp_path / "plain")
    other = {"name": "c2d_r50", "options": {}}
    recipe = changed(tiny_recipe("rgb"), clip=clip, model=other, inputs__rgb__num_frames=8)
    deep = untrained_run(recipe, tiny_data, tmp_path / "deep")
    (window,) = explain(video, [plain, deep], layers=["backbone.layer3"], segments=1, pieces=0)
    assert list(window.streams["plain/rgb"].maps) == ["backbone.layer3"]
    assert list(window.streams["deep/rgb"].maps) == ["res5"]
    with pytest.raises(UnknownNameError, match=r"Did you mean 'res5'\? Allowed: res5, .*backbone"):
        next(explain(video, [plain, deep], layers=["res6", "res4"], pieces=0))


def test_a_predictor_is_taken_as_it_is(tiny_data: Path, video: Path, tmp_path: Path) -> None:
    recipe = changed(tiny_recipe("rgb"), clip={"short_side": 72, "crop_size": 64})
    run = untrained_run(recipe, tiny_data, tmp_path / "rgb")
    predictor = Predictor(run, window_seconds=0.2)
    windows = list(explain(video, predictor))
    assert [(one.start_seconds, one.end_seconds) for one in windows] == [
        pytest.approx((0, 0.2)), pytest.approx((0.2, 0.4))
    ]  # fmt: skip
    prediction = predictor.predict(video)
    best = prediction.window_probabilities.max(axis=1)
    assert [one.probability for one in windows] == pytest.approx(best.tolist(), abs=1e-6)
    last = windows[1].streams["rgb"]
    assert sorted(last.seconds) == [5, 6, 7, 8, 9]
    assert last.sensitivity.seconds[:, 0] == pytest.approx([0.2, 0.24, 0.28, 0.32, 0.36])
    with VideoReader(video) as frames:
        found, _ = predictor.windows(frames)
    (alone,) = predictor.explain(video, pieces=0, windows=found[1:])
    assert (alone.start_seconds, alone.probability) == (
        windows[1].start_seconds,
        windows[1].probability,
    )
    with pytest.raises(InputError, match="has its options already; got segments"):
        explain(video, predictor, segments=2)
    with pytest.raises(InputError, match="one view of each snippet"):
        explain(video, run, crops="ten")


def test_no_such_class(crossing: Path, video: Path) -> None:
    with pytest.raises(UnknownNameError, match="Unknown class 'left'"):
        explain(video, crossing, label="left")
