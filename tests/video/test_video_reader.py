import struct
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dualstream.video.decoder as decoder_module
from dualstream.errors import CorruptVideoError, InputError
from dualstream.video import VideoReader, read_video

X264 = {"preset": "veryfast", "threads": "1"}


def x264(parameters: str) -> dict[str, str]:
    return {**X264, "x264-params": parameters}


# name of the file, options of `encode`; T is 40 for all.
KINDS = {
    "plain.mp4": {"options": X264},
    "many_keys.mp4": {"options": X264, "key_frame_interval": 8},
    "pyramid.mp4": {"options": x264("keyint=16:bframes=5:b-pyramid=normal:ref=4:b-adapt=0")},
    "open_gop.mp4": {"options": x264("keyint=12:bframes=3:open-gop=1:b-adapt=0")},
    "open_gop.mkv": {"options": x264("keyint=12:bframes=3:open-gop=1:b-adapt=0")},
    "slices.mp4": {"options": x264("keyint=10:slices=3")},
    "stripes.mkv": {"options": x264("keyint=8:intra-refresh=1:bframes=0")},
    "fragments.mp4": {
        "options": X264,
        "key_frame_interval": 8,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "stream.ts": {"options": X264, "key_frame_interval": 8},
    "h264.avi": {"options": X264, "key_frame_interval": 8},
    "p_only.avi": {"codec": "mpeg4", "key_frame_interval": 8},
    "b.avi": {"codec": "mpeg4", "key_frame_interval": 8, "b_frames": 2},
    "b.mp4": {"codec": "mpeg4", "key_frame_interval": 8, "b_frames": 2},
    "mpeg4.ts": {"codec": "mpeg4", "key_frame_interval": 8, "b_frames": 2},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=8:log-level=none"}},
    "alt_ref.webm": {
        "codec": "libvpx",
        "options": {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"},
    },
    "vp9.webm": {
        "codec": "libvpx-vp9",
        "options": {"deadline": "realtime", "cpu-used": "8"},
        "key_frame_interval": 8,
    },
    "mpeg2.mpg": {"codec": "mpeg2video", "key_frame_interval": 8, "b_frames": 2},
    "lossless.mkv": {"codec": "ffv1", "pixel_format": "bgr0"},
    "motion_jpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
}
T = 40


@pytest.mark.parametrize("name", KINDS)
def test_any_frames_equal_those_of_decoding_from_the_start(name, encode, texture):
    path = encode(name, texture(T), **KINDS[name])
    whole = read_video(path)
    assert len(whole) == T
    assert (np.diff(whole.pts_seconds) > 0).all()
    np.testing.assert_allclose(np.diff(whole.pts_seconds), 0.04, atol=1e-3)
    rng = np.random.default_rng(2)
    for num_threads in (1, 2):
        with VideoReader(path, num_threads=num_threads) as reader:
            assert reader.num_frames == T
            assert reader.pts_seconds.tolist() == whole.pts_seconds.tolist()
            for count in (1, 1, 2, 5, 1, 12):
                indices = rng.integers(0, T, count)
                some = reader.read(indices)
                assert (some.data == whole.data[indices]).all()
                assert some.pts_seconds.tolist() == whole.pts_seconds[indices].tolist()
            again = reader.read_all()
            assert (again.data == whole.data).all()


def test_decoded_frames_are_the_ones_written(encode, texture):
    frames = texture(12)
    path = encode("lossless.mkv", frames, codec="ffv1", pixel_format="bgr0")
    assert (read_video(path).data == frames).all()
    assert (read_video(path, indices=[7, 2, 7]).data == frames[[7, 2, 7]]).all()


@pytest.fixture
def num_packets_decoded(monkeypatch):
    """List that grows by a True for every packet that a reader hands to the decoder."""
    decoded = []

    def count(stream, packet):
        decoded.append(packet is not None and packet.size > 0)
        return decode(stream, packet)

    decode = decoder_module.decode_packet
    monkeypatch.setattr(decoder_module, "decode_packet", count)
    return decoded


def test_sparse_frames_are_reached_from_the_key_frame_before_them(
    encode, texture, num_packets_decoded
):
    path = encode("keys.mp4", texture(60), options=x264("keyint=12:scenecut=0:bframes=0"))
    # Key frame 48 is 2 from frame 49. Key frame 12 would save one frame of 13: not worth a seek.
    for indices, expected in (([49], 2), ([3, 49], 4 + 2), ([10, 13], 14)):
        num_packets_decoded.clear()
        with VideoReader(path) as reader:
            reader.read(indices)
        assert sum(num_packets_decoded) == expected


@pytest.mark.parametrize("name", ["pyramid.mp4", "open_gop.mkv", "b.avi", "stream.ts", "hevc.mp4"])
@pytest.mark.parametrize(("length", "step"), [(1, 1), (8, 8), (9, 8), (3, 5)])
def test_a_file_that_is_read_in_windows_is_decoded_once(
    name, length, step, encode, texture, num_packets_decoded
):
    path = encode(name, texture(T), **KINDS[name])
    whole = read_video(path).data
    with VideoReader(path) as reader:
        assert reader.num_frames == T
        num_packets_decoded.clear()
        for start in range(0, T - length + 1, step):
            indices = range(start, start + length)
            assert (reader.read(indices).data == whole[start : start + length]).all()
        assert sum(num_packets_decoded) <= T


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("short.mp4", {"options": x264("keyint=3:min-keyint=1:bframes=2:b-adapt=0:scenecut=0")}),
        ("short.mkv", {"options": x264("keyint=4:min-keyint=1:bframes=3:open-gop=1:scenecut=0")}),
        ("pyramid.mp4", KINDS["pyramid.mp4"]),
        ("p_only.avi", KINDS["p_only.avi"]),
        ("b.mp4", KINDS["b.mp4"]),
    ],
)
def test_single_frames_never_need_the_whole_file(name, options, encode, texture, monkeypatch):
    path = encode(name, texture(T), **options)
    whole = read_video(path).data

    def all_pictures(_):
        raise AssertionError("the whole file is decoded")

    monkeypatch.setattr(decoder_module.Decoder, "all_pictures", all_pictures)
    with VideoReader(path) as reader:
        for number in range(T):
            assert (reader.read([number]).data[0] == whole[number]).all()


def test_pictures_refreshed_in_stripes_have_no_true_key_frames(encode, texture):
    """x264's intra-refresh marks pictures as keys from which decoding cannot start exactly."""
    path = encode("stripes.mp4", texture(T), options=x264("keyint=8:intra-refresh=1:bframes=0"))
    whole = read_video(path).data
    for number in range(T):
        assert (read_video(path, indices=[number]).data[0] == whole[number]).all()


class TestLiterals:
    """Calls on a file of 10 lossless frames at 25 a second, frame i being grey level 20 i."""

    @pytest.fixture
    def path(self, encode):
        levels = np.arange(0, 200, 20, np.uint8)
        frames = np.broadcast_to(levels[:, None, None, None], (10, 16, 24, 3))
        return encode("grey.mkv", np.ascontiguousarray(frames), codec="ffv1", pixel_format="bgr0")

    @staticmethod
    def numbers(frames):
        return (frames.data[:, 3, 5, 1] // 20).tolist()

    def test_read_keeps_order_and_repeats(self, path):
        with VideoReader(path) as reader:
            frames = reader.read([9, 0, 4, 4])
        assert self.numbers(frames) == [9, 0, 4, 4]
        assert frames.pts_seconds.tolist() == [0.36, 0.0, 0.16, 0.16]
        assert frames.source == str(path)
        assert frames.size == (16, 24)

    def test_read_takes_numpy_indices(self, path):
        assert self.numbers(read_video(path, indices=np.array([2, 1]))) == [2, 1]

    def test_read_at(self, path):
        times = [0.0, 0.0395, 0.038, 0.21, 0.4]
        assert self.numbers(read_video(path, seconds=times)) == [0, 1, 0, 5, 9]

    def test_read_evenly(self, path):
        assert self.numbers(read_video(path, count=4)) == [1, 3, 6, 8]
        assert self.numbers(read_video(path, count=12)) == [0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 9]

    def test_rate(self, path):
        frames = read_video(path, fps=10)
        assert self.numbers(frames) == [0, 2, 5, 7]
        np.testing.assert_allclose(frames.pts_seconds, [0.0, 0.1, 0.2, 0.3])
        assert self.numbers(read_video(path, fps=50)) == [n for n in range(10) for _ in "ab"]

    def test_all(self, path):
        assert self.numbers(read_video(path)) == list(range(10))

    def test_windows(self, path):
        with VideoReader(path) as reader:
            windows = [self.numbers(w) for w in reader.windows(4, step=3)]
            assert windows == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
            slow = [self.numbers(w) for w in reader.windows(3, fps=12.5)]
            assert slow == [[0, 2, 4], [6, 8]]

    def test_other_frames_may_be_read_between_windows(self, path):
        with VideoReader(path) as reader:
            seen = []
            for window in reader.windows(2):
                seen += self.numbers(window)
                assert self.numbers(reader.read([5, 1])) == [5, 1]
        assert seen == list(range(10))

    @pytest.mark.parametrize("indices", [[10], [-1], [0, 99]])
    def test_index_out_of_range(self, path, indices):
        with pytest.raises(InputError, match=r"grey\.mkv' does not exist: its frames are 0\.\.9"):
            read_video(path, indices=indices)

    def test_no_index(self, path):
        with pytest.raises(InputError, match="at least one"):
            read_video(path, indices=[])

    @pytest.mark.parametrize("seconds", [[-0.1], [0.402], [float("nan")], [], [[0.1]]])
    def test_time_out_of_range(self, path, seconds):
        with pytest.raises(InputError, match=r"times in 0\.\.0\.400, the end of .*grey\.mkv"):
            read_video(path, seconds=seconds)

    @pytest.mark.parametrize("options", [{"count": 0}, {"fps": 0}, {"fps": -5}, {"num_threads": 0}])
    def test_numbers_not_above_0(self, path, options):
        with pytest.raises(InputError, match=next(iter(options))):
            read_video(path, **options)

    def test_windows_check_their_numbers_when_called(self, path):
        with VideoReader(path) as reader:
            for options in ({"length": 0}, {"length": 2, "step": 0}, {"length": 2, "fps": 0}):
                with pytest.raises(InputError):
                    reader.windows(**options)

    def test_one_choice_at_a_time(self, path):
        with pytest.raises(InputError, match=r"at most one .*\['indices', 'count'\]"):
            read_video(path, indices=[1], count=2)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_random_sets_of_frames(data, reader_and_frames):
    reader, frames = reader_and_frames
    indices = data.draw(st.lists(st.integers(0, len(frames) - 1), min_size=1, max_size=15))
    assert (reader.read(indices).data == frames[indices]).all()


@pytest.fixture
def reader_and_frames(encode, texture):
    path = encode("mixed.mp4", texture(50), options=x264("keyint=14:bframes=3"))
    with VideoReader(path) as reader:
        yield reader, reader.read_all().data


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv"])
def test_variable_frame_rate(name, encode, texture):
    steps = np.random.default_rng(4).integers(15, 120, 20)
    milliseconds = [0, *np.cumsum(steps).tolist()]
    path = encode(
        name, texture(21), pts=milliseconds, time_base=Fraction(1, 1000), key_frame_interval=6
    )
    with VideoReader(path) as reader:
        np.testing.assert_allclose(reader.pts_seconds, np.array(milliseconds) / 1000)
        whole = reader.read_all()
        assert whole.pts_seconds.tolist() == reader.pts_seconds.tolist()
        middle = (milliseconds[7] + milliseconds[8]) / 2000
        assert (reader.read_at([middle]).data[0] == whole.data[7]).all()
        starts = np.array(milliseconds) / 1000
        assert (reader.read_at(starts).data == whole.data).all()


def test_frames_hidden_by_an_edit_list_are_not_frames(encode, texture):
    """An edit list that starts at frame 5 hides what comes before, key frame included."""
    path = encode("edited.mp4", texture(20), options=x264("keyint=30:bframes=0"))
    uncut = read_video(path)
    data = bytearray(path.read_bytes())
    box = data.index(b"elst")
    # Full box header, entry count, duration, then media_time in units of the track.
    (media_time,) = struct.unpack(">i", data[box + 16 : box + 20])
    timescale = struct.unpack(">I", data[data.index(b"mdhd") + 16 :][:4])[0]
    data[box + 16 : box + 20] = struct.pack(">i", media_time + 5 * timescale // 25)
    path.write_bytes(data)
    with VideoReader(path) as reader:
        assert reader.num_frames == 15
        assert (reader.read_all().data == uncut.data[5:]).all()
        assert (reader.read([0, 14, 3]).data == uncut.data[[5, 19, 8]]).all()


class TestCutOffFiles:
    def cut(self, path, keep):
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        return path

    def test_mp4_whose_header_promises_more(self, encode, texture):
        path = encode(
            "cut.mp4",
            texture(40),
            key_frame_interval=8,
            container_options={"movflags": "faststart"},
        )
        whole = read_video(path).data
        self.cut(path, 0.7)
        with VideoReader(path) as reader:
            assert reader.info.num_frames_from_header == 40
            count = reader.num_frames
            assert 8 < count < 40
            got = reader.read_all().data
            assert len(got) == count
            # The last picture may have lost its end.
            assert (got[: count - 5] == whole[: count - 5]).all()
            assert (reader.read([0, count - 1]).data == got[[0, count - 1]]).all()
            with pytest.raises(CorruptVideoError) as caught:
                reader.read([39])
        for part in ("Frame 39", str(path), "40 frames", f"{count} can be decoded"):
            assert part in str(caught.value)

    @pytest.mark.parametrize("b_frames", [0, 2])
    def test_avi_whose_header_promises_more(self, encode, texture, b_frames):
        frames = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
        path = encode("cut.avi", frames, codec="mpeg4", b_frames=b_frames)
        self.cut(path, 0.7)
        with VideoReader(path) as reader:
            count = reader.num_frames
            assert 8 < count < 40
            assert len(reader.read_all()) == count
            assert len(reader.read_evenly(5)) == 5
            with pytest.raises(CorruptVideoError, match=f"Frame {count} .*{count} can be decoded"):
                reader.read([count])

    def test_matroska_is_as_long_as_it_is(self, encode, texture):
        path = self.cut(encode("cut.mkv", texture(40), key_frame_interval=8), 0.7)
        with VideoReader(path) as reader:
            assert len(reader.read_all()) == reader.num_frames < 40

    def test_damage_in_the_middle(self, encode, texture):
        path = encode("hole.mp4", texture(40), options=x264("keyint=8:bframes=2"))
        data = bytearray(path.read_bytes())
        start = data.index(b"mdat") + 2000
        data[start : start + 1500] = b"\xff" * 1500
        path.write_bytes(data)
        with VideoReader(path) as reader:
            whole = reader.read_all()
            count = reader.num_frames
            assert len(whole) == count
            assert len(whole) == len(whole.pts_seconds)
        with VideoReader(path) as reader:
            assert len(reader.read_evenly(7)) == 7

    def test_nothing_decodes(self, encode, texture):
        path = encode("noise.mp4", texture(10), options=X264)
        data = bytearray(path.read_bytes())
        start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
        data[start:end] = b"\x00" * (end - start)
        path.write_bytes(data)
        for read in (
            lambda: read_video(path),
            lambda: read_video(path, indices=[0]),
            lambda: VideoReader(path).info,
        ):
            with pytest.raises(CorruptVideoError, match=r"No frame of .*noise\.mp4"):
                read()


@pytest.mark.parametrize(
    ("matrix", "degrees", "turns"),
    [((0, 1, 0, -1, 0, 0), 90, -1), ((-1, 0, 0, 0, -1, 0), 180, 2), ((0, -1, 0, 1, 0, 0), 270, 1)],
)
def test_rotation(matrix, degrees, turns, encode, texture):
    frames = texture(6, 32, 64)
    upright = read_video(encode("upright.mp4", frames)).data
    path = encode("turned.mp4", frames)
    # The matrix stands 44 bytes after the name of the track header box; x and y come last.
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    assert struct.unpack_from(">9i", data, start)[0] == 1 << 16
    struct.pack_into(">9i", data, start, *(value << 16 for value in matrix), 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = np.rot90(upright, turns, axes=(1, 2))
    with VideoReader(path) as reader:
        assert reader.info.rotation_degrees == degrees
        assert (reader.info.height, reader.info.width) == expected.shape[1:3]
        assert (reader.read([4, 1]).data == expected[[4, 1]]).all()
        assert (reader.read_all().data == expected).all()
        assert (next(reader.windows(6)).data == expected).all()


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("odd.mp4", {"pixel_format": "yuv444p"}, 6),
        ("ten_bit.mp4", {"pixel_format": "yuv420p10le"}, 6),
        ("grey.mkv", {"codec": "ffv1", "pixel_format": "gray"}, 1),
        ("grey_x264.mp4", {"pixel_format": "gray", "color_range": 2}, 4),
        ("grey_16_bit.mkv", {"codec": "ffv1", "pixel_format": "gray16le"}, 1),
        ("alpha.mkv", {"codec": "ffv1", "pixel_format": "bgra"}, 0),
        ("raw.avi", {"codec": "rawvideo", "pixel_format": "bgr24"}, 0),
    ],
)
def test_pixel_formats(name, options, tolerance, encode, texture):
    size = (47, 63) if name == "odd.mp4" else (48, 64)
    grey = texture(5, *size)[..., :1].repeat(3, axis=-1)
    path = encode(
        name, grey, **{"options": {"crf": "1"}, **options} if "codec" not in options else options
    )
    got = read_video(path).data
    assert got.shape == grey.shape
    assert np.abs(got.astype(int) - grey).mean() <= tolerance
    assert (read_video(path, indices=[3]).data[0] == got[3]).all()


def test_ten_bit_is_what_it_says(encode, texture):
    path = encode("ten_bit.mp4", texture(3), pixel_format="yuv420p10le")
    with VideoReader(path) as reader:
        assert reader.info.pixel_format == "yuv420p10le"


@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", x264("interlaced=1:keyint=10")), ("mpeg2video", {})]
)
def test_interlaced(codec, options, encode, texture):
    name = "fields.mp4" if codec == "libx264" else "fields.mkv"
    path = encode(name, texture(30), codec=codec, options=options, is_interlaced=True)
    whole = read_video(path)
    assert len(whole) == 30
    assert (read_video(path, indices=[17, 4, 29]).data == whole.data[[17, 4, 29]]).all()


# Y, U, V = 120, 90, 170 by the matrices of ITU-R BT.601 and BT.709, limited and full range.
@pytest.mark.parametrize(
    ("colorspace", "color_range", "rgb"),
    [
        (5, 1, (188, 102, 44)),
        (5, 2, (179, 103, 53)),
        (1, 1, (196, 107, 41)),
        (1, 2, (186, 107, 50)),
        (2, 0, (188, 102, 44)),
    ],
)
def test_colour_matrix_and_range_of_the_stream(colorspace, color_range, rgb, tmp_path):
    path = tmp_path / "colour.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.colorspace = colorspace
        stream.codec_context.color_range = color_range
        frame = av.VideoFrame(32, 32, "yuv420p")
        frame.colorspace, frame.color_range = colorspace, color_range
        for plane, value in zip(frame.planes, (120, 90, 170), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    np.testing.assert_allclose(read_video(path).data[0, 9, 9], rgb, atol=2)


def test_closed_reader_says_so(tiny_video):
    with VideoReader(tiny_video()) as reader:
        assert reader.num_frames == 12
    for use in (
        lambda: reader.read([0]),
        lambda: reader.num_frames,
        lambda: reader.info,
        lambda: list(reader.windows(3)),
    ):
        with pytest.raises(InputError, match="closed"):
            use()


def test_long_file_is_read_in_constant_memory(encode, texture):
    """600 frames of 23 MB in all: windows of 16 never hold more than a few of them."""
    frames = np.tile(texture(20), (30, 1, 1, 1))
    path = encode("long.mp4", frames, options=X264)
    with VideoReader(path) as reader:
        assert reader.num_frames == 600
        windows = reader.windows(16, step=8)
        next(windows)
        tracemalloc.start()
        count = sum(1 for _ in windows)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 73
    assert peak_bytes < 6 * 16 * frames[0].nbytes
