"""One clock: times of a file count from its first frame, for intervals and for predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.engine.tiny import tiny_recipe, untrained_run
from tests.timed_video import video_at

from dualstream.engine.infer.opening import opened
from dualstream.engine.infer.predictor import Predictor
from dualstream.types import Frames
from dualstream.video import VideoReader
from dualstream.video.source import FrameArray
from dualstream.video.times import frames_between


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transport stream of 2 s, 10 frames a second, whose clock starts near 5 s."""
    path = tmp_path_factory.mktemp("late") / "a.ts"
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 1, 3), np.uint8)
    return video_at(path, images.repeat(48, 1).repeat(64, 2), range(500, 700, 10))


def test_windows_and_intervals_count_from_the_first_frame(
    late: Path, tiny_data: Path, tmp_path: Path
) -> None:
    predictor = Predictor(
        untrained_run(tiny_recipe("rgb"), tiny_data, tmp_path / "rgb"),
        window_seconds=1.0,
        step_seconds=0.5,
        cuts="none",
        segments=2,
    )
    found = predictor.predict(late)
    expected = [(0, 1), (0.5, 1.5), (1, 2)]
    np.testing.assert_allclose(found.window_seconds, expected, atol=1e-6)
    with VideoReader(late) as video:
        assert video.pts_seconds[0] > 4
        again = predictor.predict(video)
        # An interval of the manifest has the frames that a window of the same times has.
        windows, _ = predictor.windows(video)
        for window, (start, end) in zip(windows, expected, strict=True):
            inside = frames_between(video.pts_seconds, start, end)
            assert (window.first, window.last) == (inside.start, inside.stop)
        in_memory = predictor.predict(FrameArray(video.read_all()))
    np.testing.assert_array_equal(again.window_seconds, found.window_seconds)
    np.testing.assert_array_equal(again.window_probabilities, found.window_probabilities)
    # Frames in memory keep the times that they are given with.
    assert in_memory.window_seconds[0, 0] > 4
    np.testing.assert_array_equal(in_memory.window_probabilities, found.window_probabilities)
    explained = list(predictor.explain(late, pieces=2))
    assert [round(one.start_seconds, 6) for one in explained] == [0, 0.5, 1]
    (stream,) = explained[0].streams.values()
    assert min(stream.seconds.values()) == 0
    assert stream.sensitivity.seconds[0, 0] == 0


def test_frames_tell_the_same_clock(late: Path) -> None:
    with opened(late) as (frames, path):
        assert path == str(late)
        assert frames.available == range(20)
        np.testing.assert_allclose(frames.read([0, 3]).pts_seconds, [0, 0.3], atol=1e-6)
        np.testing.assert_allclose(frames.seconds_of([19]), [1.9], atol=1e-6)
        assert frames.name == str(late)
        assert frames.size == (48, 64)
    array = FrameArray(Frames(np.zeros((1, 8, 8, 3), np.uint8), np.array([7.0])))
    with opened(array, path="a.mp4") as (given, path):
        assert given is array
        assert path == "a.mp4"
