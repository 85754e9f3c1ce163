from fractions import Fraction

import av
import numpy as np
import pytest

from dualstream.video import VideoInfo, VideoReader, probe, read_video


def test_header_facts(encode, texture):
    path = encode("a.mp4", texture(10), key_frame_interval=5)
    assert probe(path) == VideoInfo(
        path=str(path),
        codec="h264",
        pixel_format="yuv420p",
        width=64,
        height=48,
        rotation_degrees=0,
        fps_from_header=25.0,
        num_frames_from_header=10,
        duration_seconds_from_header=0.4,
        has_audio=False,
    )


def test_decoded_facts(encode, texture):
    info = probe(encode("a.mp4", texture(10)), decode=True)
    assert info.num_frames_decoded == 10
    assert info.duration_seconds_decoded == pytest.approx(0.4)
    assert info.is_variable_frame_rate is False
    assert info.fps == pytest.approx(25)


def test_header_and_decoding_are_kept_apart(encode, texture):
    """A Matroska file says 25 frames a second and counts none; it holds 6 uneven ones."""
    milliseconds = [0, 100, 150, 400, 420, 500]
    path = encode("a.mkv", texture(6), pts=milliseconds, time_base=Fraction(1, 1000))
    info = probe(path, decode=True)
    assert info.num_frames_from_header is None
    assert info.fps_from_header == 25.0
    assert info.num_frames_decoded == 6
    assert info.duration_seconds_decoded == pytest.approx(0.6)
    assert info.is_variable_frame_rate is True
    assert info.fps == pytest.approx(10)


def test_a_millisecond_clock_is_no_variable_rate(encode, texture):
    times = np.round(np.arange(20) * 1000 / 29.97).astype(int).tolist()
    path = encode("a.mkv", texture(20), pts=times, time_base=Fraction(1, 1000))
    assert probe(path, decode=True).is_variable_frame_rate is False


def test_a_single_picture_has_the_header_rate(encode, texture):
    info = probe(encode("one.mp4", texture(1)), decode=True)
    assert info.num_frames_decoded == 1
    assert info.is_variable_frame_rate is False
    assert info.fps == pytest.approx(25)


def change_times(path, target, times):
    """Copy a file's packets with other times, in milliseconds."""
    with av.open(str(path)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        for packet, time in zip(reading.demux(stream), times, strict=False):
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = time
            packet.stream = copy
            writing.mux(packet)
    return target


@pytest.mark.parametrize(("first", "last"), [(0, 60_960), (5_000, 65_960)])
def test_one_pair_of_equal_times_leaves_the_others_alone(first, last, encode, texture, tmp_path):
    """Frames 10 and 11 of 51 have one time; after frame 26 nothing comes for a minute."""
    path = encode("steady.mkv", texture(51), options={"preset": "veryfast"}, b_frames=0)
    times = [first + 40 * (t - (t > 9)) + 59_000 * (t > 25) for t in range(51)]
    assert (times[9], times[10], times[-1]) == (first + 360, first + 360, last)
    with VideoReader(change_times(path, tmp_path / "pair.mkv", times)) as reader:
        assert reader.num_frames == 51
        seconds = reader.pts_seconds
        assert seconds[[0, 9, 10, 11, 50]].tolist() == pytest.approx(
            [
                first / 1000,
                first / 1000 + 0.36,
                first / 1000 + 0.38,
                first / 1000 + 0.4,
                last / 1000,
            ]
        )
        assert (reader.read_at([seconds[50]]).data == reader.read([50]).data).all()
    info = probe(tmp_path / "pair.mkv", decode=True)
    assert info.fps == pytest.approx(50 / 60.96)
    assert info.is_variable_frame_rate is True


def test_more_frames_than_milliseconds(encode, texture):
    path = encode("fast.mkv", np.tile(texture(4), (30, 1, 1, 1)), time_base=Fraction(1, 2400))
    info = probe(path, decode=True)
    assert info.num_frames_decoded == 120
    assert info.fps == pytest.approx(2400, rel=0.01)
    assert info.duration_seconds_decoded == pytest.approx(0.05, rel=0.02)
    assert read_video(path).pts_seconds[-1] == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize(
    ("header", "count", "seconds", "fps"),
    [
        (30.0, None, None, 30.0),
        (None, None, None, 25.0),
        (30.0, 50, 2.0, 25.0),
        (None, 24, 2.0, 12.0),
    ],
)
def test_fps_prefers_what_was_counted(header, count, seconds, fps):
    info = VideoInfo(
        path="a",
        codec="h264",
        pixel_format="yuv420p",
        width=2,
        height=2,
        rotation_degrees=0,
        fps_from_header=header,
        num_frames_from_header=None,
        duration_seconds_from_header=None,
        has_audio=False,
        num_frames_decoded=count,
        duration_seconds_decoded=seconds,
    )
    assert info.fps == fps


# Codec, size, header rate, frames by header and frames decoded, as ffprobe 5.1
# (-count_frames) prints them.
@pytest.mark.parametrize(
    ("clip", "codec", "size", "fps", "in_header", "decoded", "has_audio"),
    [
        ("RATRACE_wave_f_nm_np1_fr_goo_37.avi", "mpeg4", (560, 240), 30.0, 73, 72, False),
        ("arm_wrestling.mp4", "h264", (340, 256), 28.0, 280, 280, False),
        ("v_ApplyEyeMakeup_g01_c01.avi", "mpeg4", (320, 240), 25.0, 164, 164, True),
        ("v_BaseballPitch_g01_c01.avi", "mpeg4", (320, 240), 30000 / 1001, 107, 107, False),
        ("v_SoccerJuggling_g23_c01.avi", "mpeg4", (320, 240), 30000 / 1001, 240, 240, False),
    ],
)
def test_real_clips(shared, clip, codec, size, fps, in_header, decoded, has_audio):
    info = probe(shared / "clips" / clip, decode=True)
    assert (info.codec, info.width, info.height) == (codec, *size)
    assert info.fps_from_header == pytest.approx(fps)
    assert info.num_frames_from_header == in_header
    assert info.num_frames_decoded == decoded
    assert info.has_audio is has_audio
    assert info.is_variable_frame_rate is False
    assert info.fps == pytest.approx(fps)
