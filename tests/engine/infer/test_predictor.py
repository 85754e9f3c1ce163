"""Prediction: windows, agreement with testing, one decoding, long files in constant memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import moving_square
from tests.engine.tiny import tiny_recipe, untrained_run
from torch import nn

from dualstream.clips.transforms import Normalizer, normalize
from dualstream.engine.infer.predictor import Predictor, PredictorOptions, predict
from dualstream.engine.infer.recognizer import Recognizer, as_recognizer, view_logits
from dualstream.engine.run.checkpoint import load_checkpoint
from dualstream.errors import (
    CorruptVideoError,
    InputError,
    UnknownNameError,
    VideoNotFoundError,
)
from dualstream.flow.compute import FieldCache
from dualstream.models.accepts import Accepts
from dualstream.models.network import Network
from dualstream.types import Clip, ClipSpec, Frames, StreamSpec
from dualstream.video import VideoReader
from dualstream.video.source import FrameArray, FrameBuffer


@pytest.fixture(scope="module")
def run_folders(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("predict")
    return [untrained_run(tiny_recipe(m), tiny_data, folder / m) for m in ("rgb", "flow")]


@pytest.fixture
def streams(run_folders: list[Path]) -> list[Recognizer]:
    return [as_recognizer(folder) for folder in run_folders]


def test_networks_are_left_in_their_mode(run_folders: list[Path], tiny_data: Path) -> None:
    checkpoint = load_checkpoint(run_folders[0])
    video = tiny_data / "videos/right/right_5.mp4"
    expected = predict(video, checkpoint).probabilities
    checkpoint.model.train()
    np.testing.assert_array_equal(predict(video, checkpoint).probabilities, expected)
    assert checkpoint.model.training


def test_both_streams_are_averaged(streams: list[Recognizer], tiny_data: Path) -> None:
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


class CountedReads:
    """Frames that `VideoReader` was asked for, call by call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[int]] = []
        read = VideoReader.read

        def counted(reader: VideoReader, indices: Sequence[int]) -> Frames:
            self.calls.append(list(indices))
            return read(reader, indices)

        monkeypatch.setattr(VideoReader, "read", counted)
        for name in ("read_at", "read_evenly", "read_all", "windows", "images"):
            monkeypatch.delattr(VideoReader, name)  # no second way to the frames

    @property
    def frames(self) -> list[int]:
        """All frames in the order of reading."""
        return [number for call in self.calls for number in call]


def test_a_file_is_decoded_once_for_all_streams(
    streams: list[Recognizer], tiny_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_video("long.mp4", num_frames=60, size=(48, 64), fps=20.0)
    counted = CountedReads(monkeypatch)
    result = predict(path, streams, window_seconds=1.0, segments=5, crops="three", cuts="none")
    assert len(result.window_seconds) == 3
    assert len(counted.calls) == 3  # one a window
    assert counted.frames == sorted(set(counted.frames))
    # RGB: 5 frames of 20. Flow: 5 snippets of 3 fields, 4 frames each, from 5 even starts.
    first = {0, 4, 9, 14, 19} | {start + step for start in (0, 4, 8, 12, 16) for step in range(4)}
    assert set(counted.calls[0]) == first
    assert [set(call) for call in counted.calls] == [
        {window * 20 + number for number in first} for window in range(3)
    ]


@pytest.mark.parametrize("kept_frames", [1000, 0])
def test_windows_that_overlap_share_frames_flow_and_logits(
    kept_frames: int,
    streams: list[Recognizer],
    tiny_video: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tiny_video("long.mp4", num_frames=60, size=(48, 64), fps=20.0)
    options: PredictorOptions = {
        "window_seconds": 1.0,
        "step_seconds": 0.25,
        "segments": 2,
        "cuts": "none",
    }
    predictor = Predictor(streams, **options)
    with VideoReader(path) as video:
        windows, _ = predictor.windows(video)
        apart = [
            predictor.scoring.of_windows().of(predictor.reader(video).read(window))
            for window in windows
        ]
    counted, pairs, views = CountedReads(monkeypatch), [], []
    monkeypatch.setattr(
        "dualstream.engine.infer.window_clips.AHEAD_BYTES", kept_frames * 48 * 64 * 3
    )
    put = FieldCache.put
    monkeypatch.setattr(
        FieldCache, "put", lambda self, key, field: (pairs.append(key), put(self, key, field))
    )
    hooks = [
        one.model.register_forward_hook(lambda _, args, __: views.append(len(args[0])))
        for one in streams
    ]
    result = predictor.predict(path)
    for hook in hooks:
        hook.remove()
    np.testing.assert_allclose(result.window_seconds[:, 0], np.arange(9) / 4, atol=1e-9)
    fused = predictor.fuse(np.stack(apart, axis=1))
    np.testing.assert_array_equal(result.window_probabilities, fused)
    # Snippets start at 0, 5, ..., 55, which nine windows hold two of each.
    assert views == [1] * 12 * len(streams)
    assert len(set(pairs)) == len(pairs) == 12 * 3
    assert len(counted.frames) == len(set(counted.frames)) == 12 * 4


def test_no_window_lies_across_a_cut(
    streams: list[Recognizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 256, (1, 48, 64, 3), np.uint8) for _ in range(3)]
    images = np.concatenate([np.repeat(s, n, 0) for s, n in zip(scenes, (13, 18, 9), strict=True)])
    frames = FrameArray(images, fps=10.0)
    result = predict(frames, streams, window_seconds=1.0, step_seconds=0.5, cuts="difference")
    np.testing.assert_allclose(result.cut_seconds, [1.3, 3.1])
    np.testing.assert_allclose(
        result.window_seconds,
        [(0, 1), (0.3, 1.3), (1.3, 2.3), (1.8, 2.8), (2.1, 3.1), (3.1, 4.0)],
    )
    # In a scene that stands still all windows look alike, and their flow is zero.
    np.testing.assert_array_equal(result.window_probabilities[0], result.window_probabilities[1])
    assert not len(predict(frames, streams, window_seconds=1.0, cuts="none").cut_seconds)
    assert not len(predict(frames, streams, window_seconds=4.0, cuts="difference").cut_seconds)


def test_a_short_video_is_not_searched_for_cuts(
    streams: list[Recognizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`test` sees all of it, so `predict` does."""
    monkeypatch.setattr("dualstream.engine.infer.predictor.find_cuts", None)
    images = np.repeat(np.array([0, 255, 0], np.uint8), 20)[:, None, None, None]
    frames = FrameArray(np.broadcast_to(images, (60, 48, 64, 3)).copy(), fps=10.0)
    assert len(predict(frames, streams).window_seconds) == 1


@pytest.mark.parametrize("kept_frames", [1, 9])
def test_parts_of_a_window_change_nothing(
    kept_frames: int,
    streams: list[Recognizer],
    tiny_video: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tiny_video("long.mp4", num_frames=60, size=(48, 64), fps=20.0)
    whole = predict(path, streams, segments=8)
    counted = CountedReads(monkeypatch)
    monkeypatch.setattr(
        "dualstream.engine.infer.window_clips.HELD_BYTES", kept_frames * 48 * 64 * 3
    )
    np.testing.assert_array_equal(
        predict(path, streams, segments=8).probabilities, whole.probabilities
    )
    assert len(counted.calls) > 2
    assert max(map(len, counted.calls)) < 20


def test_flow_that_several_networks_need_is_computed_once(
    streams: list[Recognizer], tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[tuple[object, ...]] = []
    put = FieldCache.put
    monkeypatch.setattr(
        FieldCache, "put", lambda self, key, field: (keys.append(key), put(self, key, field))
    )
    rgb, flow = streams
    video = tiny_data / "videos/right/right_5.mp4"
    alone = predict(video, flow).probabilities
    once = len(keys)
    result = predict(video, [rgb, flow, flow])
    assert len(keys) == 2 * once
    np.testing.assert_array_equal(result.streams["flow"], alone)
    np.testing.assert_array_equal(result.streams["flow (2)"], alone)
    coarse = replace(
        flow,
        spec=replace(
            flow.spec, streams={"flow": replace(flow.spec.streams["flow"], flow_short_side=32)}
        ),
    )
    predict(video, [flow, coarse])
    assert len(set(keys[2 * once :])) == len(keys[2 * once :]) == 2 * once


def test_frames_in_memory_give_what_their_file_gives(
    streams: list[Recognizer], tiny_video: Callable[..., Path]
) -> None:
    path = tiny_video("a.mp4", num_frames=20, fps=10.0)
    predictor = Predictor(streams, window_seconds=1.0)
    from_file = predictor.predict(path)
    with VideoReader(path) as reader:
        frames = reader.read_all()
    result = predictor.predict(FrameArray(frames))
    np.testing.assert_array_equal(result.probabilities, from_file.probabilities)
    np.testing.assert_array_equal(result.window_probabilities, from_file.window_probabilities)
    np.testing.assert_allclose(result.window_seconds, from_file.window_seconds)
    assert (result.source, from_file.source) == (str(path), str(path))


def test_the_last_frames_of_a_live_source_are_predicted(streams: list[Recognizer]) -> None:
    images = moving_square(25, (48, 64))
    buffer = FrameBuffer(10, size=(48, 64), fps=10.0, name="camera")
    for number, image in enumerate(images):
        buffer.append(image, number / 10)
    last = FrameArray(Frames(images[15:], np.arange(15, 25) / 10, "camera"))
    predictor = Predictor(streams)
    result, expected = predictor.predict(buffer), predictor.predict(last)
    np.testing.assert_array_equal(result.probabilities, expected.probabilities)
    np.testing.assert_allclose(result.window_seconds, [[1.5, 2.5]])
    assert result.source == "camera"


def test_windows_hold_a_clip_for_each_network(
    streams: list[Recognizer], tiny_video: Callable[..., Path]
) -> None:
    path = tiny_video("a.mp4", num_frames=20, fps=10.0)
    predictor = Predictor(streams, window_seconds=1.0, segments=2, crops="three")
    with VideoReader(path) as reader:
        windows = list(predictor.clips(reader, predictor.windows(reader)[0]))
    assert [(w.start_seconds, w.end_seconds) for w in windows] == [
        (pytest.approx(0.0), pytest.approx(1.0)),
        (pytest.approx(1.0), pytest.approx(2.0)),
    ]
    shapes = [{name: tuple(v.shape) for name, v in clip.data.items()} for clip in windows[0].clips]
    assert shapes == [{"rgb": (6, 3, 1, 32, 32)}, {"flow": (6, 2, 3, 32, 32)}]
    tables = np.stack([predictor.scores(window.clips) for window in windows], axis=1)
    assert tables.shape == (2, 2, 2)  # networks, windows, classes
    result = predictor.predict(path)
    np.testing.assert_array_equal(predictor.fuse(tables), result.window_probabilities)


def test_a_window_of_one_frame_has_the_flow_to_its_neighbour(
    streams: list[Recognizer], tiny_video: Callable[..., Path]
) -> None:
    path = tiny_video("slow.mp4", num_frames=4, fps=1.0)
    result = predict(path, streams[1], window_seconds=1.0)
    assert result.window_probabilities.shape == (4, 2)
    # The last two windows see the same pair of frames.
    np.testing.assert_array_equal(result.window_probabilities[2], result.window_probabilities[3])


@pytest.mark.parametrize("layer", [nn.Conv3d(3, 3, 1), nn.Identity()], ids=["3d", "a frame each"])
def test_long_clips_go_through_the_network_few_at_a_time(layer: nn.Module) -> None:
    sizes = []

    class Clips(Network):
        conv_dims = 3 if isinstance(layer, nn.Conv3d) else 2

        def __init__(self) -> None:
            super().__init__(num_classes=2, inputs=Accepts(3))
            self.layer = layer
            self.add_classifier(3, dropout=0.0)

        def encode(self, clips: torch.Tensor) -> torch.Tensor:
            sizes.append(len(clips))
            return self.layer(clips).mean(dim=(2, 3, 4))  # type: ignore[no-any-return]

    def logits_of(views: torch.Tensor) -> np.ndarray:
        spec = ClipSpec({"rgb": StreamSpec("rgb", num_frames=views.shape[2])}, 8, 8)
        clip = Clip({"rgb": views}, torch.tensor(-1))
        return view_logits(model, clip, Normalizer(spec), segments=len(views))

    model = Clips().eval()
    views = torch.randint(0, 255, (10, 3, 16, 8, 8), dtype=torch.uint8)
    logits = logits_of(views)
    assert sizes == [4, 4, 2]  # 64 frames
    with torch.no_grad():
        expected = model(normalize(views, StreamSpec("rgb", num_frames=16)))
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    logits_of(views[:2].repeat(1, 1, 8, 1, 1))
    assert sizes[-2:] == [1, 1]


def test_the_timeline_covers_the_video(
    streams: list[Recognizer], tiny_video: Callable[..., Path]
) -> None:
    path = tiny_video("long.mp4", num_frames=50, size=(48, 64), fps=10.0)
    result = predict(path, streams, window_seconds=1.0, segments=2)
    assert result.window_seconds.shape == (5, 2)
    assert result.window_seconds[0, 0] == pytest.approx(0.0)
    assert result.window_seconds[-1, 1] == pytest.approx(5.0)
    np.testing.assert_allclose(result.window_probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_single_frame_has_no_flow(
    streams: list[Recognizer], tiny_video: Callable[..., Path]
) -> None:
    path = tiny_video("one.mp4", num_frames=1)
    assert predict(path, streams[:1]).probabilities.shape == (2,)
    with pytest.raises(CorruptVideoError, match=r"one\.mp4 has one frame only"):
        predict(path, streams[1:])


def test_bad_calls_are_explained(
    streams: list[Recognizer], tiny_video: Callable[..., Path]
) -> None:
    path = tiny_video("a.mp4")
    with pytest.raises(InputError, match="at least one network"):
        predict(path, [])
    with pytest.raises(InputError, match="window_seconds"):
        predict(path, streams, window_seconds=0)
    with pytest.raises(VideoNotFoundError, match="missing"):
        predict(path.with_name("missing.mp4"), streams)
    with pytest.raises(InputError, match="segments must be at least 1, got 0"):
        predict(path, streams, segments=0)
    with pytest.raises(InputError, match="step_seconds must be above 0, got 0"):
        predict(path, streams, step_seconds=0)
    with pytest.raises(UnknownNameError, match="cuts"):
        predict(path, streams, cuts="scene")  # type: ignore[arg-type]


# Not `getrusage`: that peak goes on from the process that started this one.
SHORT_THEN_LONG = """
import sys
from pathlib import Path
from dualstream.engine.infer.predictor import Predictor

def peak_kib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

predictor = Predictor(sys.argv[3:], window_seconds=600, cuts="none")
predictor.predict(sys.argv[1])
short = peak_kib()
result = predictor.predict(sys.argv[2])
print(len(result.window_seconds), result.window_seconds[-1, 1], peak_kib() / short)
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


@pytest.mark.slow
def test_two_hours_are_predicted_in_constant_memory(
    tmp_path: Path, tiny_video: Callable[..., Path], run_folders: list[Path]
) -> None:
    seed = tiny_video("seed.mp4", num_frames=250, size=(240, 320), fps=25.0)
    long = tmp_path / "two_hours.mp4"
    write_two_hours(long, seed)
    result = subprocess.run(
        [sys.executable, "-c", SHORT_THEN_LONG, str(seed), str(long), *map(str, run_folders)],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    windows, end, growth = map(float, result.stdout.split())
    assert windows == 12
    assert end == pytest.approx(7200, abs=1)
    assert growth < 1.2  # 720 times as long


def test_a_listener_hears_of_each_window_and_can_end_the_work(
    run_folders: list[Path], tiny_data: Path
) -> None:
    video, told = tiny_data / "videos/right/right_5.mp4", list[tuple[int, int]]()
    predictor = Predictor(run_folders[0], window_seconds=0.1)
    whole = predictor.predict(video, listener=lambda done, total: told.append((done, total)))
    assert told == [(number, 4) for number in range(5)]

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done == 1:
            raise RuntimeError("enough")

    told.clear()
    with VideoReader(video) as frames, pytest.raises(RuntimeError, match="enough"):
        predictor.predict(frames, path=str(video), listener=stop)
    assert told == [(0, 4), (1, 4)]
    assert len(whole.window_seconds) == 4
