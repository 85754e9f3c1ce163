"""Damaged FFV1: what its checksums tell, and that all ways of reading give the same pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from dualstream.video import VideoReader, read_video
from dualstream.video.ffv1 import Ffv1Guard, is_key_packet, is_whole_packet

FRAMES, KEYS = 15, (0, 6, 12)


def write(path: Path, **options: str) -> Path:
    """A moving slope in FFV1, a key frame every sixth."""
    slope = np.indices((48, 64)).sum(axis=0)[..., None] * np.array([1, 2, 3])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"g": "6", **options}
        for number in range(FRAMES):
            image = (slope + 3 * number).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def packets_of(path: Path) -> tuple[bytes, list[bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        return stream.codec_context.extradata or b"", packets


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"level": "3", "slices": "4", "slicecrc": "1"},
        {"level": "3", "slices": "4", "slicecrc": "0"},
        {"level": "4", "strict": "-2"},
        {"coder": "1"},
    ],
)
def test_sound_packets_are_whole(tmp_path: Path, options: dict[str, str]) -> None:
    _, packets = packets_of(write(tmp_path / "a.mkv", **options))
    assert all(map(is_whole_packet, packets))
    assert [n for n, packet in enumerate(packets) if is_key_packet(packet)] == list(KEYS)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:],
        lambda data: data[:-1],
        lambda data: data[:-8] + bytes(8),
        lambda data: data + b"\0",
        lambda data: data[:20],
        lambda data: b"\xff" * len(data),
    ],
)
def test_damage_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    _, packets = packets_of(write(tmp_path / "a.mkv", level="3", slices="4", slicecrc="1"))
    assert not is_whole_packet(damage(packets[3]))


def test_what_builds_on_a_damaged_packet_is_left_out(tmp_path: Path) -> None:
    extradata, packets = packets_of(write(tmp_path / "a.mkv"))
    packets[8] = bytes(len(packets[8]))
    guard = Ffv1Guard(extradata)
    assert [guard.takes(packet) for packet in packets] == [n not in range(8, 12) for n in range(15)]
    guard.lose()
    assert [guard.takes(packet) for packet in (packets[13], packets[0], packets[1])] == [0, 1, 1]
    guard = Ffv1Guard(b"")  # an early version, of which nothing is known
    assert guard.takes(packets[8])


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_every_way_of_reading_gives_the_same_pictures(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}")
    sound = read_video(path).data
    _, packets = packets_of(path)
    data = path.read_bytes()
    place = data.index(packets[8]) + len(packets[8]) // 3
    path.write_bytes(
        data[:place] + bytes(b ^ 85 for b in data[place : place + 40]) + data[place + 40 :]
    )
    frames = read_video(path)
    kept = [n for n in range(FRAMES) if n not in range(8, 12)]
    assert np.array_equal(frames.data, sound[kept])
    with VideoReader(path) as reader:
        assert (reader.num_frames, reader.num_missing) == (len(kept), 4)
    for number in range(len(kept)):
        with VideoReader(path) as reader:
            assert np.array_equal(reader.read([number]).data[0], frames.data[number]), number


def test_packets_out_of_order_are_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "b.mkv"
    with (
        av.open(str(write(tmp_path / "a.mkv"))) as source,
        av.open(str(path), "w") as container,
    ):
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        times = [packet.pts for packet in packets]
        times[3], times[5] = times[5], times[3]
        for number, (packet, pts) in enumerate(zip(packets, times, strict=True)):
            packet.pts, packet.dts, packet.stream = pts, number - 1000, stream
            container.mux(packet)
    with VideoReader(path) as reader:
        assert reader.frame_list.by_count
        assert np.array_equal(reader.read_all().data, read_video(tmp_path / "a.mkv").data)
