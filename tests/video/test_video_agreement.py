"""One list of frames a file: however it was made, cut or damaged, all ways of reading agree.

For every file, on a fresh reader: `num_frames` is the length of `read_all`, and `read([i])` gives
its frame i, bit by bit and with its time.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from tests.video.conftest import drifting_texture

from dualstream.types import Frames
from dualstream.video import VideoReader, probe, read_video
from dualstream.video.container import DamagedPacketError, decode_packet, open_video, packets_of
from dualstream.video.scheduling import kept_scheduling

T = 30  # frames, groups of 10
X264 = "keyint=10:bframes=3:b-adapt=0:threads=1:log=-1"
X265 = "keyint=10:bframes=3:log-level=none:pools=1:frame-threads=1"


@dataclass(frozen=True)
class Kind:
    encoder: str
    options: dict[str, str]
    containers: tuple[str, ...]
    pixel_format: str = "yuv420p"


KINDS = {
    "h264": Kind(
        "libx264",
        {"preset": "veryfast", "x264-params": X264},
        ("mp4", "mkv", "avi", "ts"),
    ),
    "h264_open": Kind(
        "libx264",
        {"preset": "veryfast", "x264-params": f"{X264}:open-gop=1"},
        ("mp4", "mkv", "avi", "ts"),
    ),
    "hevc": Kind(
        "libx265",
        {"preset": "ultrafast", "x265-params": f"{X265}:open-gop=0"},
        ("mp4", "mkv", "ts"),
    ),
    "hevc_open": Kind(
        "libx265",
        {"preset": "ultrafast", "x265-params": f"{X265}:open-gop=1"},
        ("mp4", "mkv", "ts"),
    ),
    "vp9": Kind(
        "libvpx-vp9",
        {"deadline": "realtime", "cpu-used": "8", "g": "10"},
        ("mp4", "mkv", "webm"),
    ),
    "av1": Kind(
        "libsvtav1",
        {"preset": "12", "g": "10", "svtav1-params": "lp=1"},
        ("mp4", "mkv", "webm"),
    ),
    "mpeg4": Kind("mpeg4", {"g": "10", "bf": "2"}, ("mp4", "mkv", "avi", "ts")),
    "mjpeg": Kind("mjpeg", {}, ("mp4", "mkv", "avi"), "yuvj420p"),
}
FILES = [f"{kind}.{end}" for kind in KINDS for end in KINDS[kind].containers]


def encode(path: Path, kind: Kind) -> None:
    with kept_scheduling(), av.open(str(path), "w") as container:
        stream = container.add_stream(kind.encoder, rate=25, options=kind.options)
        stream.width = stream.height = 64
        stream.pix_fmt = kind.pixel_format
        stream.codec_context.thread_count = 1
        for number, rgb in enumerate(drifting_texture(T, 64, 64)):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame = frame.reformat(format=kind.pixel_format)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def remux(
    source: Path,
    target: Path,
    *,
    skip: int = 0,
    change: Callable[[int, av.Packet], av.Packet] | None = None,
) -> Path:
    """Copy the packets of a file, without the first `skip`, each through `change`."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream, opaque=True)
        for number, packet in enumerate(reading.demux(stream)):
            if packet.size and number >= skip:
                packet = packet if change is None else change(number, packet)
                packet.stream = copy
                writing.mux(packet)
    return target


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Function from a name of `FILES` to a sound file of that kind; do not change it."""
    folder = tmp_path_factory.mktemp("sound")

    def file(name: str) -> Path:
        path = folder / name
        if not path.exists():
            kind, end = name.split(".")
            # These containers want times that only the encoder gives.
            if end in ("mp4", "avi") or name == "mpeg4.ts":
                encode(path, KINDS[kind])
            else:
                remux(file(f"{kind}.mp4"), path)
        return path

    os.environ.setdefault("SVT_LOG", "1")  # errors only
    return file


def agreed(path: Path) -> Frames:
    """All frames of a file, after a check that every way of reading gives the same."""
    with VideoReader(path) as reader:
        whole = reader.read_all()
    with VideoReader(path) as reader:
        assert reader.num_frames == len(whole)
        assert reader.size == whole.size
    assert (np.diff(whole.pts_seconds) > 0).all()
    for number in {0, 1, *range(2, len(whole), 3), len(whole) - 1} & set(range(len(whole))):
        with VideoReader(path) as reader:
            frame = reader.read([number])
        assert (frame.data[0] == whole.data[number]).all(), f"frame {number}"
        assert frame.pts_seconds[0] == whole.pts_seconds[number]
    rng = np.random.default_rng(1)
    with VideoReader(path) as reader:
        for count in (2, 5, 3):
            numbers = rng.integers(0, len(whole), count)
            assert (reader.read(numbers).data == whole.data[numbers]).all(), f"frames {numbers}"
        assert (next(reader.windows(len(whole))).data == whole.data).all()
    return whole


def num_decoded(path: Path) -> int:
    """Pictures that FFmpeg decodes from start to end."""
    container, stream = open_video(path, num_threads=1)
    count = 0
    with container:
        for packet in packets_of(container, stream):
            try:
                count += len(decode_packet(stream, packet))
            except DamagedPacketError:
                continue
    return count


@pytest.mark.parametrize("name", FILES)
def test_sound_files(name, sound):
    path = sound(name)
    assert len(agreed(path)) == num_decoded(path) == T
    info = probe(path, decode=True)
    assert (info.num_frames_decoded, info.num_frames_missing, info.missing_share) == (T, 0, 0)
    assert info.fps == pytest.approx(25)


# Files that tell by their packets alone which frames they hold, so that opening them is cheap.
@pytest.mark.parametrize("name", [n for n in FILES if n.endswith(("mp4", "mkv", "webm"))])
def test_sound_files_are_listed_without_decoding(name, sound, monkeypatch):
    import dualstream.video.decoder as module

    def decode_packet(*_):
        raise AssertionError("a picture is decoded")

    monkeypatch.setattr(module, "decode_packet", decode_packet)
    with VideoReader(sound(name)) as reader:
        assert reader.num_frames == T
        assert reader.fps == pytest.approx(25)


@pytest.mark.parametrize("skip", [3, 13])
@pytest.mark.parametrize("name", [n for n in FILES if not n.startswith("h264_open.ts")])
def test_files_cut_out_of_others(name, skip, sound, tmp_path):
    """Stream copies that start in mid-group: what lacks its references is no frame."""
    path = remux(sound(name), tmp_path / name, skip=skip)
    whole = agreed(path)
    assert len(whole) == num_decoded(path)
    info = probe(path, decode=True)
    assert info.num_frames_decoded == len(whole)
    kind, end = name.split(".")
    if kind not in ("mpeg4", "mjpeg"):  # those decode from any picture on
        later = T // 10 - 1 - skip // 10  # groups of 10 after the cut
        assert len(whole) == 10 * later
        if end in ("mp4", "mkv", "webm"):
            assert info.num_frames_missing == T - skip - 10 * later
            assert info.missing_share == pytest.approx(1 - 10 * later / (T - skip))


def test_leading_pictures_of_an_open_group(sound, tmp_path):
    """Cut at a key frame of an open group: three leading pictures are stored and never shown."""
    keys = []
    remux(
        sound("hevc_open.mp4"),
        tmp_path / "a.mkv",
        change=lambda number, packet: (
            keys.append(number) or packet if packet.is_keyframe else packet
        ),
    )
    path = remux(sound("hevc_open.mp4"), tmp_path / "cut.mkv", skip=keys[1])
    whole = agreed(path)
    assert len(whole) == T - 10
    info = probe(path, decode=True)
    assert info.num_frames_missing == T - keys[1] - len(whole) > 0
    full = read_video(sound("hevc_open.mp4"))
    assert (whole.data == full.data[10:]).all()


def packet_places(path: Path) -> list[int]:
    """Byte of the file at which each packet begins."""
    with av.open(str(path)) as container:
        return sorted(p.pos for p in container.demux(video=0) if p.size)


@pytest.mark.parametrize("part", [0.45, 0.8])
@pytest.mark.parametrize("name", [n for n in FILES if not n.endswith("mp4")])
def test_files_cut_off_at_the_end(name, part, sound, tmp_path):
    path = tmp_path / name
    places = packet_places(sound(name))
    path.write_bytes(sound(name).read_bytes()[: places[int(part * T)] + 9])
    whole = agreed(path)
    assert 0 < len(whole) < T
    assert len(whole) == num_decoded(path)


def damage(path: Path, target: Path, *, seed: int) -> None:
    """Copy a file with bytes of its second group made noise, zeros or ones, or with turned bits."""
    rng = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    start = packet_places(path)[12 + 2 * seed] + int(rng.integers(4, 16))
    count = int(rng.integers(10, 80))
    patches = [rng.bytes(count), bytes(count), b"\xff" * count]
    if seed < 3:
        data[start : start + count] = patches[seed]
    else:
        for place in rng.integers(start, start + 100, 4):
            data[place] ^= 16
    target.write_bytes(data)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FILES)
def test_files_damaged_in_the_middle(name, seed, sound, tmp_path):
    path = tmp_path / name
    damage(sound(name), path, seed=seed)
    whole = agreed(path)
    assert 8 <= len(whole) <= T + 1  # some containers are lost from the damage on
    info = probe(path, decode=True)
    assert info.num_frames_decoded == len(whole)
    assert 0 <= info.missing_share < 0.8


@pytest.mark.parametrize("name", [f"{kind}.mp4" for kind in KINDS])
def test_rotated_files(name, sound, tmp_path):
    data = bytearray(sound(name).read_bytes())
    start = data.index(b"tkhd") + 44  # the display matrix of the track header box
    struct.pack_into(">4i", data, start, 0, 1 << 16, 0, -1 << 16)
    struct.pack_into(">i", data, start + 16, 0)
    path = tmp_path / name
    path.write_bytes(data)
    expected = np.rot90(read_video(sound(name)).data, -1, axes=(1, 2))
    assert (agreed(path).data == expected).all()
    assert probe(path).rotation_degrees == 90


def test_orientation_of_the_first_picture_holds_for_all(sound, tmp_path):
    """H.264 whose first picture alone has a display orientation message (90 degrees)."""
    # SEI (6) of type 47, 3 bytes: 0 0 0, 16 bits of 0x4000, then 1 0 and the filling 1 0 0.
    message = bytes([6, 47, 3, 0x08, 0x00, 0x14, 0x80])

    def change(number: int, packet: av.Packet) -> av.Packet:
        if number:
            return packet
        changed = av.Packet(len(message).to_bytes(4, "big") + message + bytes(packet))
        changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
        changed.is_keyframe = True
        return changed

    path = remux(sound("h264.mp4"), tmp_path / "sei.mp4", change=change)
    upright = read_video(sound("h264.mp4")).data
    assert probe(path).rotation_degrees == 270
    assert (agreed(path).data == np.rot90(upright, 1, axes=(1, 2))).all()


def test_mpeg4_of_which_every_sample_is_flagged_as_a_key_frame(sound, tmp_path):
    def change(_: int, packet: av.Packet) -> av.Packet:
        packet.is_keyframe = True
        return packet

    path = remux(sound("mpeg4.mp4"), tmp_path / "all_sync.mp4", change=change)
    assert (agreed(path).data == read_video(sound("mpeg4.mp4")).data).all()


def test_a_damaged_picture_deep_in_a_sound_looking_file_is_counted(sound, tmp_path):
    """A slice header that is broken: the picture before stays on display, and is one missing."""

    def change(number: int, packet: av.Packet) -> av.Packet:
        if number != 1:
            return packet
        data = bytearray(packet)
        data[6:12] = b"\xff" * 6  # after the length, the NAL header and the first slice bits
        changed = av.Packet(bytes(data))
        changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
        return changed

    path = remux(sound("h264.mp4"), tmp_path / "deep.mp4", change=change)
    whole = agreed(path)
    assert len(whole) == T
    info = probe(path, decode=True)
    assert info.num_frames_decoded == T
    assert info.num_frames_missing == 1
    assert info.missing_share == pytest.approx(1 / (T + 1))
