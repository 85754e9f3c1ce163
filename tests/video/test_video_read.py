from fractions import Fraction

import numpy as np
import pytest

from dualstream.video import VideoInfo, probe


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
