"""Live sources: streams over a socket, files at their pace, what is lost, late or changes."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from tests.conftest import moving_square
from tests.video.live_server import encoded, served, transport_stream

from dualstream.errors import InputError, VideoError, VideoNotFoundError
from dualstream.types import Frames
from dualstream.video import VideoReader
from dualstream.video.container import camera_format
from dualstream.video.live import LiveReader, Take


def all_frames(reader: LiveReader) -> list[Frames]:
    """The frames of each take, when the source has ended."""
    takes = []
    for take in reader.takes():
        reader.wait_for(take, np.inf)  # its end
        takes.append(take)
    return [take.buffer.read(take.buffer.available) for take in takes]


@pytest.fixture
def video(tiny_video: Callable[..., Path]) -> Path:
    return tiny_video("a.mp4", num_frames=50)


def test_a_stream_gives_the_frames_of_its_file(video: Path) -> None:
    with (
        served([[transport_stream(video)]]) as address,
        LiveReader(address, keep_seconds=5.0, reconnect_seconds=0) as live,
    ):
        (found,) = all_frames(live)
    with VideoReader(video) as reader:
        expected = reader.read_all()
    np.testing.assert_array_equal(found.data, expected.data)
    seconds = found.pts_seconds - found.pts_seconds[0]
    np.testing.assert_allclose(seconds, np.arange(50) / 25, atol=1e-4)
    assert live.num_dropped == 0


def test_only_the_last_seconds_are_held(video: Path) -> None:
    with (
        served([[transport_stream(video)]]) as address,
        LiveReader(address, keep_seconds=0.4, reconnect_seconds=0) as live,
    ):
        (found,) = all_frames(live)
    assert len(found) == 10 * 1.25 + 4.5  # 12.5 frames, rounded up, and four
    with VideoReader(video) as reader:
        np.testing.assert_array_equal(found.data, reader.read(range(33, 50)).data)


def test_a_file_is_played_at_its_own_pace(tiny_video: Callable[..., Path]) -> None:
    path = tiny_video("slow.mp4", num_frames=6, fps=10.0)
    begun = time.monotonic()
    with LiveReader(path, keep_seconds=5.0) as live:
        (take,) = live.takes()
        live.wait_for(take, np.inf)
        arrivals = np.array([take.arrived(number) for number in range(6)])
    assert np.all(arrivals - begun >= np.arange(6) / 10 - 0.1)
    assert take.end_seconds == pytest.approx(0.6)


def test_a_source_that_can_wait_leaves_nothing_out(video: Path) -> None:
    with (
        served([[transport_stream(video)]]) as address,
        LiveReader(address, keep_seconds=0.2, most_lag_seconds=None, reconnect_seconds=0) as live,
    ):
        seen = []
        for take in live.takes():
            number = 0
            while live.wait_for(take, take.first_seconds + number / 25 - 1e-3):
                seen.append(take.buffer.read([number]).data[0])
                number += 1
                live.release(take, number)
    with VideoReader(video) as reader:
        np.testing.assert_array_equal(seen, reader.read_all().data)


def test_a_machine_that_is_too_slow_leaves_out_up_to_a_key_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = encoded([moving_square(200, (48, 64))])
    clock = [0.0]
    # A machine whose every picture takes .1 s, by its clock; the stream lies in wait.
    monkeypatch.setattr("dualstream.video.live.time.monotonic", lambda: clock[0])
    keep = Take.add

    def slow(take: Take, *arguments: object) -> None:
        clock[0] += 0.1
        keep(take, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Take, "add", slow)
    with (
        served([[stream]]) as address,
        LiveReader(address, keep_seconds=100.0, reconnect_seconds=0) as live,
    ):
        (found,) = all_frames(live)
    assert live.num_dropped > 0
    assert len(found) + live.num_dropped == 200
    # What is shown goes on at a key frame after each gap.
    with av.open(io.BytesIO(stream)) as container:
        packets = list(container.demux(video=0))
    keys = {number for number, packet in enumerate(packets) if packet.is_keyframe}
    numbers = np.rint((found.pts_seconds - found.pts_seconds[0]) * 25).astype(int)
    after_gaps = numbers[1:][np.diff(numbers) > 1]
    assert len(after_gaps) > 2
    assert set(after_gaps.tolist()) <= keys


def test_a_picture_that_changes_in_size_begins_a_new_take() -> None:
    parts = [moving_square(10, (48, 64)), moving_square(15, (64, 96))]
    with (
        served([[encoded(parts)]]) as address,
        LiveReader(address, keep_seconds=5.0, reconnect_seconds=0) as live,
    ):
        first, second = all_frames(live)
    # FFmpeg's MPEG-2 decoder gives up the picture that it holds back when the size changes.
    assert first.data.shape == (9, 48, 64, 3)
    assert second.data.shape == (15, 64, 96, 3)
    assert second.pts_seconds[0] - first.pts_seconds[-1] == pytest.approx(0.08, abs=1e-3)
    assert np.abs(second.data.astype(int) - parts[1]).mean() < 8


def test_a_stream_that_is_lost_is_called_again(video: Path) -> None:
    data, told = transport_stream(video), []
    with (
        served([[data], [data]]) as address,
        LiveReader(address, keep_seconds=5.0, listener=told.append) as live,
    ):
        takes = []
        for take in live.takes():
            live.wait_for(take, np.inf)
            takes.append(take)
            if len(takes) == 2:
                break
    assert [take.buffer.available for take in takes] == [range(50), range(50)]
    # The clock goes on by the time that has passed, about a second here.
    assert takes[1].first_seconds > takes[0].last_seconds + 0.5
    assert "lost" in told[0]
    assert "back after" in told[1]


def test_a_stream_that_does_not_come_back(video: Path) -> None:
    with (
        served([[transport_stream(video)]]) as address,
        LiveReader(address, keep_seconds=5.0, timeout_seconds=0.2, reconnect_seconds=1e-3) as live,
        pytest.raises(VideoError, match=r"127\.0\.0\.1"),
    ):
        all_frames(live)


def test_a_source_that_sends_nothing() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        LiveReader(
            f"tcp://127.0.0.1:{server.getsockname()[1]}", keep_seconds=1.0, timeout_seconds=0.2
        ) as live,
        pytest.raises(VideoError, match="sent nothing"),
    ):
        all_frames(live)


def test_closing_ends_the_wait(tiny_video: Callable[..., Path]) -> None:
    path = tiny_video("long.mp4", num_frames=60, fps=1.0)
    with LiveReader(path, keep_seconds=5.0) as live:
        take = next(live.takes())
        live.close()
        assert not live.wait_for(take, 50.0)
        assert list(live.takes()) == []


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    for source in (str(tmp_path / "no.mp4"), "7", "tcp://127.0.0.1:1"):
        with LiveReader(source, keep_seconds=1.0) as live, pytest.raises(VideoError) as caught:
            all_frames(live)
        assert source in str(caught.value)
        if not source.startswith("tcp"):
            assert isinstance(caught.value, VideoNotFoundError)


def test_bad_calls(video: Path) -> None:
    for name in ("keep_seconds", "most_lag_seconds", "timeout_seconds"):
        with pytest.raises(InputError, match=f"{name} must be above 0, got 0"):
            LiveReader(video, **{"keep_seconds": 1.0, name: 0.0})


@pytest.mark.parametrize(
    ("platform", "name", "expected"),
    [
        ("linux", "0", ("/dev/video0", "video4linux2")),
        ("linux", "/dev/video2", ("/dev/video2", "video4linux2")),
        ("darwin", "1", ("1", "avfoundation")),
        ("linux", "clip.mp4", None),
        ("linux", "rtsp://camera/1", None),
        ("linux", "", None),
    ],
)
def test_names_of_cameras(
    monkeypatch: pytest.MonkeyPatch, platform: str, name: str, expected: tuple[str, str] | None
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert camera_format(name) == expected
