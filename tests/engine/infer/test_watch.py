"""Live sources give what their files give, window by window; what comes too late is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import moving_square
from tests.engine.tiny import tiny_recipe, untrained_run
from tests.video.live_server import served, transport_stream

from dualstream.engine.infer.live_windows import LiveWindows, Moment
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.infer.recognizer import Recognizer, as_recognizer
from dualstream.types import Prediction
from dualstream.video import VideoReader, write_video
from dualstream.video.live import LiveReader
from dualstream.video.source import FrameArray

CLIP = Path(__file__).parents[4] / "shared/data/clips/v_ApplyEyeMakeup_g01_c01.avi"


@pytest.fixture(scope="module")
def streams(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Recognizer]:
    folder = tmp_path_factory.mktemp("watch")
    runs = [untrained_run(tiny_recipe(m), tiny_data, folder / m) for m in ("rgb", "flow")]
    return [as_recognizer(run) for run in runs]


def watched(predictor: Predictor, path: Path) -> list[Moment]:
    """All windows of a file that is sent over a socket."""
    with (
        served([[transport_stream(path)]]) as address,
        LiveReader(address, keep_seconds=4.0, most_lag_seconds=None, reconnect_seconds=0) as live,
    ):
        return list(predictor.watch(live, most_delay_seconds=None))


def check_same(moments: list[Moment], result: Prediction) -> None:
    begin = moments[0].start_seconds - result.window_seconds[0, 0]  # of the stream's clock
    np.testing.assert_allclose(
        [(m.start_seconds - begin, m.end_seconds - begin) for m in moments],
        result.window_seconds,
        atol=1e-4,
    )
    np.testing.assert_array_equal([m.probabilities for m in moments], result.window_probabilities)
    assert {m.num_dropped for m in moments} == {0}
    assert all(m.delay_seconds >= 0 for m in moments)


@pytest.mark.parametrize("step", [0.4, 1.0, None])
def test_live_file_and_array_give_the_same(
    streams: list[Recognizer], tiny_video: Callable[..., Path], step: float | None
) -> None:
    path = tiny_video("a.mp4", num_frames=64)
    predictor = Predictor(
        streams, window_seconds=1.0, step_seconds=step, cuts="none", segments=2, crops="three"
    )
    moments = watched(predictor, path)
    # Without a step windows of a file are made to fit; a live one's end is not known.
    exact = Predictor(
        streams,
        window_seconds=1.0,
        step_seconds=step or 1.0,
        cuts="none",
        segments=2,
        crops="three",
    )
    result = exact.predict(path)
    check_same(moments, result)
    with VideoReader(path) as reader:
        in_memory = exact.predict(FrameArray(reader.read_all()))
    np.testing.assert_array_equal(in_memory.window_probabilities, result.window_probabilities)
    assert moments[0].top(2) == sorted(moments[0].top(2), key=lambda pair: -pair[1])
    assert list(moments[0].streams) == ["rgb", "flow"]


def test_scenes_are_those_of_the_file(streams: list[Recognizer], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    scenes = [
        np.repeat(rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)[None], n, 0)
        for n in (40, 20, 27)
    ]
    path = tmp_path / "cuts.mp4"
    write_video(path, np.concatenate(scenes), fps=25.0)
    predictor = Predictor(
        streams, window_seconds=1.0, step_seconds=0.5, cuts="difference", segments=2
    )
    result = predictor.predict(path)
    np.testing.assert_allclose(result.cut_seconds, [1.6, 2.4])
    check_same(watched(predictor, path), result)


def test_a_real_clip(streams: list[Recognizer], tmp_path: Path) -> None:
    if not CLIP.is_file():
        pytest.skip(f"{CLIP} is not there")
    with VideoReader(CLIP) as reader:
        images = reader.read(range(60)).data[:, ::2, ::2]
    path = tmp_path / "real.mp4"
    write_video(path, images, fps=25.0)
    predictor = Predictor(streams, window_seconds=0.8, step_seconds=0.4, cuts="difference")
    check_same(watched(predictor, path), predictor.predict(path))


def test_a_video_that_is_shorter_than_a_window(
    streams: list[Recognizer], tiny_video: Callable[..., Path]
) -> None:
    path = tiny_video("short.mp4", num_frames=9)
    predictor = Predictor(streams, window_seconds=2.0, step_seconds=0.5)
    check_same(watched(predictor, path), predictor.predict(path))


def test_windows_that_come_too_late_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, moving_square(400, (48, 64)), fps=50.0)
    with (
        served([[transport_stream(path)]]) as address,
        LiveReader(address, keep_seconds=20.0, reconnect_seconds=0) as live,
    ):
        take = next(live.takes())
        live.wait_for(take, np.inf)  # all 8 s of it lie in wait when the first window is looked at
        windows = LiveWindows(
            live,
            take,
            window_seconds=0.4,
            step_seconds=0.4,
            finds_cuts=False,
            most_delay_seconds=1.0,
        )
        found = list(windows)
    ends = np.array([window.end_seconds for window in found]) - take.first_seconds
    np.testing.assert_allclose(ends, [7.6, 8.0], atol=1e-3)
    assert windows.num_unseen == found[0].first == 360
