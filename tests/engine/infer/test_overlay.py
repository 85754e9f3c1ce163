"""Overlays of real files: same frames, same clock, whole or not at all."""

from __future__ import annotations

import errno
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import moving_square
from tests.engine.tiny import changed, tiny_recipe, untrained_run
from tests.timed_video import video_at

from dualstream.engine.infer.overlay import write_overlay
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.infer.recognizer import Recognizer, as_recognizer
from dualstream.errors import DiskError, VideoError
from dualstream.report.overlay import COLOURS, OverlayPage
from dualstream.scores.timeline import find_segments
from dualstream.types import Prediction
from dualstream.video import read_video, write_video

Streams = dict[str, Recognizer]


@pytest.fixture(scope="module")
def streams(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Streams:
    """Untrained networks of RGB, of flow, and of the file's own motion vectors."""
    folder = tmp_path_factory.mktemp("overlay")
    recipes = {modality: tiny_recipe(modality) for modality in ("rgb", "flow")}
    recipes["vectors"] = changed(recipes["flow"], input__flow_method="motion-vectors")
    return {
        name: as_recognizer(untrained_run(recipe, tiny_data, folder / name))
        for name, recipe in recipes.items()
    }


def untold(path: Path, *, seconds: float = 1000.0) -> Prediction:
    """A prediction without a network: one window, two classes."""
    return Prediction(
        str(path),
        ("a", "b"),
        np.array([0.75, 0.25], np.float32),
        np.array([[0.0, seconds]]),
        np.array([[0.75, 0.25]], np.float32),
    )


def test_both_streams_and_their_flow(
    streams: Streams, tiny_video: Callable[..., Path], tmp_path: Path
) -> None:
    """The square moves right, which is red, on a background that stands still, white."""
    video = tiny_video(num_frames=30, size=(120, 160))
    predictor = Predictor([streams["rgb"], streams["flow"]], window_seconds=0.4)
    prediction = predictor.predict(video)
    assert list(prediction.window_streams) == ["rgb", "flow"]
    windows = prediction.window_seconds, prediction.window_probabilities
    segments = find_segments(*windows, prediction.classes, enter=0)
    calls: list[tuple[int, int]] = []
    path = write_overlay(
        tmp_path / "out" / "a.mp4",
        prediction,
        predictor.recognizers,
        segments=segments,
        listener=lambda done, total: calls.append((done, total)),
    )
    got, source = read_video(path), read_video(video)
    np.testing.assert_allclose(got.pts_seconds, source.pts_seconds, atol=1e-4)
    page = OverlayPage(prediction, segments, size=source.size)
    assert got.size == page.size
    height, width = page.inset_size
    right = (page.size[1] + 2 * source.size[1]) // 2  # pictures are twice as large
    inset = got.data[:, :height, right - width : right].astype(int)
    assert inset[0].min() > 230  # of the first frame there is no motion
    red = inset[10, ..., 0] - inset[10, ..., 2]
    assert red.max() > 100
    assert (inset[10].min(axis=-1) > 200).mean() > 0.3
    below = got.data[5, -page.size[0] + 240 :].astype(int)
    assert all((np.abs(below - colour).max(axis=-1) < 40).any() for colour in COLOURS[:3])
    assert calls == [(done, 30) for done in range(1, 31)]
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_rgb_alone_has_no_inset(
    streams: Streams, tiny_video: Callable[..., Path], tmp_path: Path
) -> None:
    video = tiny_video(size=(240, 480))
    prediction = Predictor(streams["rgb"]).predict(video)
    got = read_video(write_overlay(tmp_path / "a.mp4", prediction, [streams["rgb"]]))
    source = read_video(video).data.astype(int)
    assert np.abs(got.data[:, :240] - source).mean() < 4


def test_motion_vectors_of_the_file(
    streams: Streams, tiny_video: Callable[..., Path], tmp_path: Path
) -> None:
    video = tiny_video(size=(96, 128), num_frames=12)
    predictor = Predictor(streams["vectors"])
    path = write_overlay(tmp_path / "a.mkv", predictor.predict(video), predictor.recognizers)
    assert len(read_video(path)) == 12


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (17, 31), (33, 480), (64, 1081)])
def test_pictures_of_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    write_video(video, np.full((3, *size, 3), 90, np.uint8), fps=25)
    got = read_video(write_overlay(tmp_path / "b.mp4", untold(video)))
    assert got.data.shape[0] == 3
    assert got.size[0] % 2 == got.size[1] % 2 == 0


def test_a_turned_picture_is_drawn_upright(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    frames = np.zeros((4, 240, 320, 3), np.uint8)
    frames[:, :120] = (200, 30, 30)  # above
    write_video(video, frames, fps=25)
    data = bytearray(video.read_bytes())
    start = data.index(b"tkhd") + 44  # the display matrix: a quarter turn clockwise
    matrix = (value << 16 for value in (0, 1, 0, -1, 0, 0))
    struct.pack_into(">9i", data, start, *matrix, 0, 0, 1 << 30)
    video.write_bytes(data)
    got = read_video(write_overlay(tmp_path / "b.mp4", untold(video))).data[0].astype(int)
    left = (480 - 240) // 2
    assert abs(got[160, left + 200] - (200, 30, 30)).max() < 25
    assert got[160, left + 40].max() < 25


def test_a_variable_rate_stays_in_time(tmp_path: Path) -> None:
    ticks = [0, 4, 8, 60, 61, 62, 150, 300]
    video = video_at(tmp_path / "a.mp4", moving_square(8, (49, 63)), ticks)
    path = write_overlay(tmp_path / "b.mp4", untold(video))
    np.testing.assert_allclose(read_video(path).pts_seconds, np.array(ticks) / 100, atol=1e-4)


def test_a_clock_that_starts_late_is_that_of_players(tmp_path: Path) -> None:
    """Clocks of transport streams start anywhere; players show that as 0."""
    video = video_at(tmp_path / "a.ts", moving_square(10, (48, 64)), range(500, 540, 4))
    assert read_video(video).pts_seconds[0] > 4
    got = read_video(write_overlay(tmp_path / "b.mp4", untold(video))).pts_seconds
    np.testing.assert_allclose(np.diff(got), 0.04, atol=1e-4)
    assert got[0] < 0.1


def test_a_time_lapse(tmp_path: Path) -> None:
    ticks = [100_000 * number for number in range(4)]  # a frame in 17 minutes
    video = video_at(tmp_path / "a.mkv", moving_square(4, (48, 64)), ticks)
    path = write_overlay(tmp_path / "b.mp4", untold(video, seconds=1e6))
    np.testing.assert_allclose(read_video(path).pts_seconds, [0, 1000, 2000, 3000], atol=1e-4)


def test_memory_does_not_grow_with_the_video(
    tiny_video: Callable[..., Path], tmp_path: Path
) -> None:
    def peak(num_frames: int) -> int:
        video = tiny_video(f"{num_frames}.mp4", num_frames=num_frames, size=(96, 128))
        tracemalloc.start()
        try:
            write_overlay(tmp_path / f"out{num_frames}.mp4", untold(video))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(3)  # what is loaded on first use
    assert peak(120) < 1.5 * peak(12)


@pytest.fixture
def no_large_files() -> Iterator[None]:
    """No file of this process may have more than 16 KiB: a full disk that needs no root."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk(
    suffix: str, tiny_video: Callable[..., Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    video = tiny_video(num_frames=60, size=(240, 320))
    out = tmp_path / "out"
    request.getfixturevalue("no_large_files")
    with pytest.raises(DiskError, match="cannot be written") as raised:
        write_overlay(out / f"a{suffix}", untold(video))
    assert raised.value.errno == errno.EFBIG
    assert list(out.iterdir()) == []


def test_a_source_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="No video file"):
        write_overlay(tmp_path / "a.mp4", untold(tmp_path / "gone.mp4"))
    assert list(tmp_path.iterdir()) == []
