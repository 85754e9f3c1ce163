"""Files of an explanation: what is in them, and where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures
from tests.engine.tiny import changed, joint_recipe, tiny_recipe, untrained_run

from dualstream.engine.infer.explain_files import (
    explain_to_files,
    folders_of,
    write_explanation,
)
from dualstream.engine.infer.predictor import explain
from dualstream.errors import InputError
from dualstream.report.attention import GAP_PX
from dualstream.report.explanation import PICTURE_WIDTH_PX
from dualstream.video import VideoReader, probe, read_video

CLIP = {"short_side": 72, "crop_size": 64}


@pytest.fixture(scope="module")
def video(tiny_data: Path) -> Path:
    """48 x 64 pixels, 10 frames."""
    return tiny_data / "videos" / "right" / "right_5.mp4"


def test_array_strip_and_video(tiny_data: Path, video: Path, tmp_path: Path) -> None:
    run = untrained_run(changed(tiny_recipe("flow"), clip=CLIP), tiny_data, tmp_path / "run")
    (window,) = explain(video, run, segments=2, pieces=3)
    with VideoReader(video) as frames:
        (files,) = write_explanation(tmp_path / "new" / "out", window, frames)
    with np.load(files.array) as array:
        # Two snippets of three fields, at both ends of nine.
        assert array["frames"].tolist() == [0, 1, 2, 6, 7, 8]
        assert array["seconds"] == pytest.approx(array["frames"] / 25)
        maps = array["maps"]
        assert (maps.shape, str(maps.dtype)) == ((6, 48, 64), "float32")
        assert 0 <= maps.min() <= maps.max() <= 1
        # The reference grid is 72 x 96, the crop 64 x 64 in its middle, two thirds of that here.
        assert array["box"].tolist() == [11, 3, 53, 45]
        assert array["frame_size"].tolist() == [48, 64]
        assert not maps[:, :, :11].any()
        assert not maps[:, 45:].any()
        assert (str(array["stream"]), str(array["layer"])) == ("flow", "backbone.layer4")
        assert str(array["label"]) == window.label
        assert array["piece_seconds"].shape == (3, 2)
        assert array["piece_seconds"][-1] == pytest.approx([0.28, 0.4])
        assert array["falls"].shape == (3,)
    assert files.video is not None
    info = probe(files.video)
    assert (info.width, info.height) == (64, 48 + 24)
    shown = read_video(files.video)
    assert len(shown) == 10
    # Left of the box the frame is as it was.
    own = read_video(video)
    difference = np.abs(shown.data[:, :48, :9].astype(int) - own.data[:, :, :9])
    assert difference.mean() < 6
    # The line of the time goes from left to right.
    columns = shown.data[:, 50:66].mean(axis=(1, 3)).argmin(axis=1)
    assert columns == pytest.approx(6.4 * np.arange(10), abs=1.5)


def test_strips_of_fewer_pictures_and_smaller_files(
    tiny_data: Path, video: Path, tmp_path: Path
) -> None:
    run = untrained_run(changed(tiny_recipe("rgb"), clip=CLIP), tiny_data, tmp_path / "run")
    (window,) = explain(video, run, pieces=0)

    def strip(folder: str, **options: int) -> Path:
        with VideoReader(video) as frames:
            target = tmp_path / folder
            (files,) = write_explanation(target, window, frames, with_video=False, **options)
        return files.strip

    def columns(file: Path) -> int:
        with Pictures.open(file) as picture:
            return (picture.width - GAP_PX) // (PICTURE_WIDTH_PX + GAP_PX)

    assert columns(strip("all")) == 6
    fine, coarse = strip("fine", moments=2), strip("coarse", moments=2, quality=40)
    assert (columns(fine), columns(coarse)) == (2, 2)
    assert coarse.stat().st_size < 0.7 * fine.stat().st_size
    with pytest.raises(InputError, match="moments must be at least 1, got 0"):
        strip("none", moments=0)
    with pytest.raises(InputError, match="must be 1 to 100, got 101"):
        strip("beyond", quality=101)


def test_windows_and_layers_have_names_of_their_own(
    tiny_data: Path, video: Path, tmp_path: Path
) -> None:
    run = untrained_run(changed(tiny_recipe("rgb"), clip=CLIP), tiny_data, tmp_path / "run")
    layers = ["backbone.layer3", "backbone.layer4"]
    windows = list(
        explain_to_files(
            video,
            run,
            tmp_path / "out",
            layers=layers,
            pieces=0,
            with_video=False,
            window_seconds=0.2,
        )
    )
    assert [file.array.name for one in windows for file in one.files] == [
        "rgb.backbone.layer3.npz",
        "rgb.backbone.layer4.npz",
        "rgb.backbone.layer3_2.npz",
        "rgb.backbone.layer4_2.npz",
    ]
    assert all(file.strip.is_file() and file.video is None for file in windows[1].files)
    with np.load(windows[1].files[0].array) as array:
        assert array["frames"].tolist() == [5, 6, 7, 8, 9]
        assert array["falls"].shape == (0,)


@pytest.mark.parametrize("name", ["two_stream", "conv_fusion"])
def test_streams_of_joined_networks(
    name: str, tiny_data: Path, video: Path, tmp_path: Path
) -> None:
    recipe = changed(joint_recipe(name), clip={"short_side": 72, "crop_size": 64})
    run = untrained_run(recipe, tiny_data, tmp_path / "run")
    windows = list(
        explain_to_files(video, run, tmp_path / "out", segments=2, pieces=2, with_video=False)
    )
    found = {file.array.name for file in windows[0].files}
    # Flow is joined with RGB after layer3, and goes on to its own head after layer4.
    wanted = {"rgb.npz", "flow.npz"}
    if name == "conv_fusion":
        wanted = {"rgb.npz", "flow.backbone.layer3.npz", "flow.backbone.layer4.npz"}
    assert found == wanted
    for file in windows[0].files:
        with np.load(file.array) as array:
            assert np.isfinite(array["maps"]).all()
            assert len(array["falls"]) == 2


def test_folders_of_videos() -> None:
    assert folders_of(["a/b.mp4"], "out") == {"a/b.mp4": Path("out")}
    assert folders_of(["a/b.mp4", "c.avi", "./d/b.avi"], "out") == {
        "a/b.mp4": Path("out/a-b.mp4"),
        "c.avi": Path("out/c"),
        "./d/b.avi": Path("out/d-b.avi"),
    }
