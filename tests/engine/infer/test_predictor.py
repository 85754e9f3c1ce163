"""Prediction: windows, runs of flow, agreement with testing, long files in constant memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dualstream.engine.infer.predict import (
    Stream,
    as_stream,
    default_segments,
    predict,
    runs,
    window_edges,
)
from tests.engine.tiny import tiny_recipe

from dualstream.engine.infer.evaluate import collect, evaluate
from dualstream.engine.run.checkpoint import load_checkpoint, with_test_views
from dualstream.engine.train.fit import train
from dualstream.errors import CheckpointError, CorruptVideoError, InputError, VideoNotFoundError
from dualstream.types import InputSpec


@pytest.fixture(scope="module")
def run_folders(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("predict")
    for modality in ("rgb", "flow"):
        train(tiny_recipe(modality, epochs=2), tiny_data, folder / modality)
    return [folder / "rgb", folder / "flow"]


@pytest.fixture
def streams(run_folders: list[Path]) -> list[Stream]:
    return [as_stream(folder) for folder in run_folders]


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([], []),
        ([3], [(3, 3)]),
        ([3, 4, 5, 9], [(3, 5), (9, 9)]),
        ([0, 1, 2, 3, 4, 5, 6], [(0, 3), (4, 6)]),
        ([1, 3, 5], [(1, 1), (3, 3), (5, 5)]),
    ],
)
def test_runs(indices: list[int], expected: list[tuple[int, int]]) -> None:
    assert list(runs(indices, longest=4)) == expected


@pytest.mark.parametrize(
    ("count", "window_seconds", "expected"),
    [
        (25, 10.0, [(0, 13, 0.0, 12.5), (13, 25, 12.5, 25.0)]),
        (25, 100.0, [(0, 25, 0.0, 25.0)]),
        (4, 2.0, [(0, 2, 0.0, 2.0), (2, 4, 2.0, 4.0)]),
        (1, 10.0, [(0, 1, 0.0, 0.0)]),
    ],
)
def test_window_edges_at_one_frame_a_second(
    count: int, window_seconds: float, expected: list[tuple[int, int, float, float]]
) -> None:
    pts = np.arange(count, dtype=np.float64)
    assert window_edges(pts, window_seconds=window_seconds) == expected


@pytest.mark.parametrize(
    ("num_frames", "stride", "positions", "joined", "expected"),
    [
        (64, 1, 250, False, 4),
        (64, 1, 64, False, 1),
        (64, 1, 10, False, 1),
        (16, 1, 250, False, 8),
        (8, 8, 300, False, 6),  # 57 positions each
        (1, 1, 3, False, 8),
        (64, 1, 250, True, 8),
    ],
)
def test_default_segments(
    num_frames: int, stride: int, positions: int, joined: bool, expected: int
) -> None:
    spec = InputSpec("rgb", num_frames=num_frames, frame_stride=stride)
    assert default_segments(spec, positions=positions, joined=joined) == expected


def test_networks_are_left_in_their_mode(run_folders: list[Path], tiny_data: Path) -> None:
    checkpoint = load_checkpoint(run_folders[0])
    video = tiny_data / "videos/right/right_5.mp4"
    expected = predict(video, checkpoint).probabilities
    checkpoint.model.train()
    np.testing.assert_array_equal(predict(video, checkpoint).probabilities, expected)
    assert checkpoint.model.training


def test_windows_leave_out_gaps_and_hold_every_frame_once() -> None:
    pts = np.concatenate([np.arange(10.0), 100 + np.arange(10.0)])
    windows = window_edges(pts, window_seconds=10.0)
    # 11 windows of 10.4 s, of which 3 hold frames.
    assert [(a, b) for a, b, _, _ in windows] == [(0, 10), (10, 15), (15, 20)]


@pytest.mark.parametrize(("number", "tolerance"), [(0, 1e-5), (1, 0.05)], ids=["rgb", "flow"])
def test_predicting_agrees_with_testing(
    number: int, tolerance: float, run_folders: list[Path], tiny_data: Path
) -> None:
    # The store rounds flow through JPEG, hence the tolerance of flow; RGB is exact.
    checkpoint = with_test_views(load_checkpoint(run_folders[number]), segments=2, crops="three")
    tested = collect(evaluate(checkpoint, workers=0)[1], checkpoint.classes)
    for name, expected in zip(tested.names, tested.scores, strict=True):
        video = tiny_data / "videos" / name
        result = predict(video, [as_stream(checkpoint)], segments=2, crops="three")
        np.testing.assert_allclose(result.probabilities, expected, atol=tolerance)


def test_both_streams_are_averaged(streams: list[Stream], tiny_data: Path) -> None:
    result = predict(tiny_data / "videos/right/right_5.mp4", streams)
    mean = (result.streams["rgb"] + result.streams["flow"]) / 2
    np.testing.assert_allclose(result.probabilities, mean, atol=1e-6)
    assert result.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert [name for name, _ in result.top(2)] == sorted(
        ("right", "down"), key=lambda c: -result.probabilities[result.classes.index(c)]
    )
    weighted = predict(tiny_data / "videos/right/right_5.mp4", streams, weights=[1, 3])
    expected = 0.25 * result.streams["rgb"] + 0.75 * result.streams["flow"]
    np.testing.assert_allclose(weighted.probabilities, expected, atol=1e-6)


def test_a_network_that_knows_its_input_predicts(run_folders: list[Path], tiny_data: Path) -> None:
    checkpoint = load_checkpoint(run_folders[0])
    video = tiny_data / "videos/right/right_5.mp4"
    network = checkpoint.model
    with pytest.raises(InputError, match="does not know its input"):
        predict(video, network)
    network.spec, network.classes = checkpoint.spec, checkpoint.classes
    expected = predict(video, checkpoint).probabilities
    np.testing.assert_array_equal(predict(video, network).probabilities, expected)
    np.testing.assert_array_equal(predict(video, str(run_folders[0])).probabilities, expected)


def test_streams_of_one_name_are_told_apart(streams: list[Stream], tiny_data: Path) -> None:
    result = predict(tiny_data / "videos/right/right_5.mp4", [streams[0], streams[0]])
    assert list(result.streams) == ["rgb", "rgb (2)"]


def test_the_timeline_covers_the_video(
    streams: list[Stream], tiny_video: Callable[..., Path]
) -> None:
    path = tiny_video("long.mp4", num_frames=50, size=(48, 64), fps=10.0)
    result = predict(path, streams, window_seconds=1.0, segments=2)
    assert result.window_seconds.shape == (5, 2)
    assert result.window_seconds[0, 0] == pytest.approx(0.0)
    assert result.window_seconds[-1, 1] == pytest.approx(5.0)
    np.testing.assert_allclose(result.window_probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_single_frame_has_no_flow(streams: list[Stream], tiny_video: Callable[..., Path]) -> None:
    path = tiny_video("one.mp4", num_frames=1)
    assert predict(path, streams[:1]).probabilities.shape == (2,)
    with pytest.raises(CorruptVideoError, match=r"one\.mp4 has one frame only"):
        predict(path, streams[1:])


def test_bad_calls_are_explained(streams: list[Stream], tiny_video: Callable[..., Path]) -> None:
    path = tiny_video("a.mp4")
    with pytest.raises(InputError, match="at least one stream"):
        predict(path, [])
    with pytest.raises(InputError, match="window_seconds"):
        predict(path, streams, window_seconds=0)
    with pytest.raises(VideoNotFoundError, match="missing"):
        predict(path.with_name("missing.mp4"), streams)
    other = Stream("other", streams[0].model, streams[0].spec, ("x", "y"))
    with pytest.raises(CheckpointError, match="different classes"):
        predict(path, [streams[0], other])


# Not `getrusage`: that peak goes on from the process that started this one.
LONG_FILE = """
import sys
from pathlib import Path
from dualstream.engine.infer.predict import predict
result = predict(sys.argv[1], sys.argv[2:], window_seconds=600)
status = Path("/proc/self/status").read_text()
peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
print(len(result.window_seconds), result.window_seconds[-1, 1], peak)
"""


def write_two_hours(path: Path, seed: Path) -> None:
    """Repeat the packets of a short H.264 file, with rising times, up to two hours."""
    import av

    with av.open(str(seed)) as source, av.open(str(path), "w") as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in source.demux(video) if p.size]
        length = round(float(video.duration * video.time_base) / float(video.time_base))
        repeats = round(7200 / float(video.duration * video.time_base))
        for repeat in range(repeats):
            for data, pts, dts, key in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base = copy, video.time_base
                packet.pts, packet.dts = pts + repeat * length, dts + repeat * length
                packet.is_keyframe = key
                target.mux(packet)


def test_two_hours_are_predicted_in_constant_memory(
    tmp_path: Path, tiny_video: Callable[..., Path], run_folders: list[Path]
) -> None:
    seed = tiny_video("seed.mp4", num_frames=250, size=(240, 320), fps=25.0)
    long = tmp_path / "two_hours.mp4"
    write_two_hours(long, seed)
    result = subprocess.run(
        [sys.executable, "-c", LONG_FILE, str(long), *map(str, run_folders)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    windows, end, peak_gib = map(float, result.stdout.split())
    assert windows == 12
    assert end == pytest.approx(7200, abs=1)
    assert peak_gib < 1.5
