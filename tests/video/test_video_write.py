import errno
import os

import av
import numpy as np
import pytest

from dualstream.errors import DiskError, InputError, ShapeError, UnknownNameError, VideoError
from dualstream.video import VideoReader, probe, read_video, write_timed_video, write_video


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (48, 63), (2, 2), (1, 1)])
def test_h264_of_any_size_is_read_back(size, texture, tmp_path):
    frames = texture(6, *size)
    path = tmp_path / "a.mp4"
    write_video(path, frames, fps=25, crf=1)
    got = read_video(path)
    assert got.data.shape == frames.shape
    if min(size) > 2:
        assert np.abs(got.data.astype(int) - frames).mean() < 4


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_ffv1_is_lossless(size, suffix, texture, tmp_path):
    frames = texture(4, *size)
    write_video(tmp_path / f"a{suffix}", frames, fps=10, codec="ffv1")
    assert (read_video(tmp_path / f"a{suffix}").data == frames).all()


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_mpeg4(suffix, texture, tmp_path):
    frames = texture(8, 47, 63)
    write_video(tmp_path / f"a{suffix}", frames, fps=30, codec="mpeg4", key_frame_interval=4)
    got = read_video(tmp_path / f"a{suffix}").data
    assert got.shape == frames.shape
    assert np.abs(got.astype(int) - frames).mean() < 6


@pytest.mark.parametrize("fps", [0.5, 10, 23.976, 24, 25, 29.97, 30000 / 1001, 59.94, 120])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_times(fps, name, texture, tmp_path):
    write_video(tmp_path / name, texture(5, 16, 16), fps=fps)
    with VideoReader(tmp_path / name) as reader:
        np.testing.assert_allclose(reader.pts_seconds, np.arange(5) / fps, atol=0.6e-3)
        assert reader.info.fps_from_header == pytest.approx(fps, rel=1e-4)


def test_key_frame_interval(texture, tmp_path):
    write_video(tmp_path / "a.mp4", texture(20), fps=25, key_frame_interval=6)
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [i for i, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert np.diff([*keys, 20]).max() <= 6


def test_quality(texture, tmp_path):
    frames = texture(10)
    sizes = []
    for crf in (5, 40):
        write_video(tmp_path / "a.mp4", frames, fps=25, crf=crf)
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes[0] > 1.5 * sizes[1]


def test_frames_may_come_one_by_one(texture, tmp_path):
    frames = texture(7)
    write_video(tmp_path / "sub" / "a.mkv", (f for f in frames), fps=25, codec="ffv1")
    assert (read_video(tmp_path / "sub" / "a.mkv").data == frames).all()


def test_frames_that_are_views(texture, tmp_path):
    frames = texture(3)[:, ::-1, ::-1]
    write_video(tmp_path / "a.mkv", frames, fps=25, codec="ffv1")
    assert (read_video(tmp_path / "a.mkv").data == frames).all()


def test_colour_matrix_is_written_down(texture, tmp_path):
    write_video(tmp_path / "a.mp4", texture(2), fps=25)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (5, 1)  # BT.601, limited range
    assert probe(tmp_path / "a.mp4").pixel_format == "yuv420p"


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), r"Frame 0 must be \(H, W, 3\) uint8, got \(8, 8\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), "Frame 0 must be"),
        (np.zeros((2, 8, 8, 3), np.float32), "float32"),
        (np.zeros((2, 0, 8, 3), np.uint8), "Frame 0 must be"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], r"Frame 1 is \(8, 9, 3\)"),
    ],
)
def test_frames_of_another_shape(frames, message, tmp_path):
    with pytest.raises(ShapeError, match=message):
        write_video(tmp_path / "a.mp4", frames, fps=25)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"fps": 0},
        {"fps": float("nan")},
        {"fps": 25, "crf": 52},
        {"fps": 25, "key_frame_interval": 0},
    ],
)
def test_numbers_out_of_range(options, texture, tmp_path):
    with pytest.raises(InputError, match=list(options)[-1]):
        write_video(tmp_path / "a.mp4", texture(2), **options)


def test_no_frames(tmp_path):
    with pytest.raises(InputError, match="No frames"):
        write_video(tmp_path / "a.mp4", [], fps=25)


def test_unknown_codec(texture, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'libx264'"):
        write_video(tmp_path / "a.mp4", texture(2), fps=25, codec="x264")


def test_unknown_preset(texture, tmp_path):
    with pytest.raises(VideoError, match="preset"):
        write_video(tmp_path / "a.mp4", texture(2), fps=25, preset="speedy")
    assert list(tmp_path.iterdir()) == []


def test_a_codec_that_the_container_does_not_take_is_refused(tmp_path):
    with pytest.raises(VideoError, match=r"a\.webm.*libx264.*container takes this codec"):
        write_video(tmp_path / "a.webm", [np.zeros((16, 16, 3), np.uint8)], fps=25)
    assert not list(tmp_path.iterdir())


def test_unknown_container(texture, tmp_path):
    with pytest.raises(InputError, match=r"suffix .*use \.mp4"):
        write_video(tmp_path / "a.film", texture(2), fps=25)


class TestNothingHalfWritten:
    @pytest.fixture
    def path(self, texture, tmp_path):
        path = tmp_path / "a.mp4"
        write_video(path, texture(3), fps=25)
        return path

    def unharmed(self, path):
        return list(path.parent.iterdir()) == [path] and len(read_video(path)) == 3

    def test_when_the_frames_stop_with_an_error(self, path, texture):
        def frames():
            yield from texture(5)
            raise RuntimeError("the camera fell down")

        with pytest.raises(RuntimeError, match="camera"):
            write_video(path, frames(), fps=25)
        assert self.unharmed(path)

    def test_when_the_disk_is_full(self, path, texture, monkeypatch):
        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DiskError, match=r"a\.mp4: cannot be written \(No space left"):
            write_video(path, texture(5), fps=25)
        assert self.unharmed(path)

    def test_when_it_succeeds(self, path, texture):
        write_video(path, texture(5), fps=25)
        assert list(path.parent.iterdir()) == [path]
        assert len(read_video(path)) == 5


class TestFramesWithTimes:
    SECONDS = (0.0, 0.04, 0.5, 0.52, 2.0)

    @pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
    def test_every_frame_keeps_its_time(self, suffix, texture, tmp_path):
        path = tmp_path / f"a{suffix}"
        frames = texture(5)
        write_timed_video(path, zip(frames, self.SECONDS, strict=True), fps=2.5, crf=1)
        got = read_video(path)
        np.testing.assert_allclose(got.pts_seconds, self.SECONDS, atol=0.6e-3)
        assert np.abs(got.data.astype(int) - frames).mean() < 4

    def test_a_video_is_copied_with_its_clock(self, encode, texture, tmp_path):
        source = encode("a.mkv", texture(6), pts=[0, 1, 5, 9, 10, 30])
        with VideoReader(source) as reader:
            write_timed_video(tmp_path / "b.mp4", reader.images(), fps=reader.fps)
            seconds = reader.pts_seconds
        np.testing.assert_allclose(read_video(tmp_path / "b.mp4").pts_seconds, seconds, atol=1e-4)

    def test_a_first_frame_that_comes_later_does_so(self, texture, tmp_path):
        seconds = (0.2, 0.24, 0.3)
        write_timed_video(tmp_path / "a.mp4", zip(texture(3), seconds, strict=True), fps=25)
        np.testing.assert_allclose(read_video(tmp_path / "a.mp4").pts_seconds, seconds, atol=0.6e-3)

    @pytest.mark.parametrize("seconds", [(0.0, 0.0), (0.1, 0.05), (-0.1, 0.0)])
    def test_times_that_do_not_rise(self, seconds, texture, tmp_path):
        with pytest.raises(InputError, match=r"must rise from 0 on; frame \d is at"):
            write_timed_video(tmp_path / "a.mp4", zip(texture(2), seconds, strict=True), fps=25)
        assert list(tmp_path.iterdir()) == []

    def test_a_container_without_times(self, texture, tmp_path):
        with pytest.raises(InputError, match=r"a\.avi: of frames with times of their own an"):
            write_timed_video(tmp_path / "a.avi", zip(texture(2), (0, 1), strict=True), fps=25)
