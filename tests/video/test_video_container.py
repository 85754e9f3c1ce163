import functools
import http.server
import re
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from dualstream.errors import (
    CorruptVideoError,
    NoVideoStreamError,
    VideoError,
    VideoNotFoundError,
)
from dualstream.video import VideoReader, probe, read_video
from dualstream.video.container import decode_packet, is_url, packets_of


@pytest.mark.parametrize("call", [VideoReader, probe, read_video])
class TestEveryEntranceRefuses:
    def test_missing_file(self, call, tmp_path):
        path = tmp_path / "none.mp4"
        with pytest.raises(VideoNotFoundError, match=re.escape(repr(str(path)))) as caught:
            call(path)
        assert isinstance(caught.value, FileNotFoundError)
        assert "Check the path" in str(caught.value)

    def test_path_through_a_file(self, call, tmp_path):
        (tmp_path / "a.mp4").write_bytes(b"x")
        with pytest.raises(VideoNotFoundError):
            call(tmp_path / "a.mp4" / "b.mp4")

    def test_folder(self, call, tmp_path):
        with pytest.raises(NoVideoStreamError, match="is a folder"):
            call(tmp_path)

    def test_zero_bytes(self, call, tmp_path):
        path = tmp_path / "empty.mp4"
        path.touch()
        with pytest.raises(CorruptVideoError, match=r"empty\.mp4' is empty \(0 bytes\)"):
            call(path)

    @pytest.mark.parametrize("suffix", [".txt", ".mp4"])
    def test_text(self, call, tmp_path, suffix):
        path = tmp_path / f"notes{suffix}"
        path.write_text("These are notes.\n" * 50)
        with pytest.raises(NoVideoStreamError, match="notes"):
            call(path)

    def test_random_bytes(self, call, tmp_path):
        path = tmp_path / "noise.mp4"
        path.write_bytes(np.random.default_rng(0).bytes(4000))
        with pytest.raises(NoVideoStreamError, match="not a media file"):
            call(path)

    def test_audio_only(self, call, tmp_path):
        path = tmp_path / "sound.wav"
        write_sound(path)
        with pytest.raises(NoVideoStreamError, match=r"no video stream \(found: audio\)"):
            call(path)

    @pytest.mark.parametrize("part", [0.3, 0.9])
    def test_mp4_cut_off_before_its_index(self, call, encode, texture, part):
        path = encode("whole.mp4", texture(20))
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
        with pytest.raises(CorruptVideoError, match=r"whole\.mp4' is cut off or damaged"):
            call(path)

    def test_avi_cut_off_in_its_header(self, call, encode, texture):
        path = encode("whole.avi", texture(20), codec="mpeg4")
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(CorruptVideoError, match=r"whole\.avi' is cut off or damaged"):
            call(path)

    def test_address_that_nobody_serves(self, call):
        with pytest.raises(VideoError, match="Cannot open video 'http://127"):
            call("http://127.0.0.1:9/a.mp4")


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_song_with_a_cover_picture_is_audio_only(tmp_path):
    path = tmp_path / "song.mka"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        cover = container.add_attachment("cover.png", "image/png", png_bytes())
        assert cover is not None
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with av.open(str(path)) as container:
        assert container.streams.video, "FFmpeg shows the cover as a video stream"
    with pytest.raises(NoVideoStreamError, match="no video stream"):
        VideoReader(path)


def png_bytes() -> bytes:
    import cv2

    return cv2.imencode(".png", np.full((16, 16, 3), 90, np.uint8))[1].tobytes()


def test_tags_that_are_not_utf8(encode, texture):
    path = encode("tagged.avi", texture(5), codec="mpeg4", metadata={"title": "HMDB-TITLE"})
    data = path.read_bytes()
    assert b"HMDB-TITLE" in data
    path.write_bytes(data.replace(b"HMDB-TITLE", b"HMDB\xff\xfe\x80\xe9\xe8T"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert len(read_video(path)) == 5
    assert probe(path).num_frames_from_header == 5


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("rtsp://camera/1", True),
        ("http://host/a.mp4", True),
        ("rtmp+tls://host/a", True),
        ("a.mp4", False),
        ("/data/a:b.mp4", False),
        ("C:\\clips\\a.mp4", False),
        (Path("/data/a.mp4"), False),
        ("clips/50%://a.mp4", False),
    ],
)
def test_is_url(path, expected):
    assert is_url(path) is expected


def test_url_goes_to_ffmpeg_as_it_is(tiny_video):
    path = tiny_video(num_frames=9)
    from_url = read_video(f"file://{path}")
    assert (from_url.data == read_video(path).data).all()
    assert from_url.source == f"file://{path}"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        super().do_GET()

    def log_message(self, *_):
        pass


def test_video_from_a_server_comes_in_windows_without_being_read_in_advance(tiny_video):
    path = tiny_video("served.mkv", num_frames=9)
    handler = functools.partial(QuietHandler, directory=path.parent)
    QuietHandler.requests = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with VideoReader(f"http://127.0.0.1:{server.server_port}/served.mkv") as reader:
                opened = QuietHandler.requests
                windows = list(reader.windows(4))
                assert QuietHandler.requests <= 2 * opened
        finally:
            server.shutdown()
    expected = read_video(path)
    assert [len(window) for window in windows] == [4, 4, 1]
    assert (np.concatenate([window.data for window in windows]) == expected.data).all()
    times = np.concatenate([window.pts_seconds for window in windows])
    assert times.tolist() == expected.pts_seconds.tolist()


class TestLocalFilesThatPointElsewhere:
    """Scripts and playlists are only followed from a URL that the user typed."""

    @pytest.fixture
    def secret(self, encode, texture):
        return encode("secret.ts", texture(6), key_frame_interval=3)

    @pytest.mark.parametrize("call", [VideoReader, probe, read_video])
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("script.mp4", "ffconcat version 1.0\nfile {name}\n"),
            ("absolute.mp4", "ffconcat version 1.0\nfile {path}\n"),
            (
                "playlist.m3u8",
                "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\n{path}\n#EXT-X-ENDLIST\n",
            ),
            ("camera.sdp", "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
        ],
    )
    def test_scripts_and_playlists(self, name, text, call, secret):
        path = secret.parent / name
        path.write_text(text.format(name=secret.name, path=secret))
        with pytest.raises(NoVideoStreamError, match=rf"{name}' is not a media file .* from a URL"):
            call(path)

    def test_patterns_of_names(self, tmp_path):
        for number in range(3):
            (tmp_path / f"frame{number}.png").write_bytes(png_bytes())
        with pytest.raises(VideoNotFoundError):
            read_video(tmp_path / "frame%d.png")
        (tmp_path / "frame%d.png").write_bytes(png_bytes())
        with pytest.raises(NoVideoStreamError, match="not a media file"):
            read_video(tmp_path / "frame%d.png")
        assert len(read_video(tmp_path / "frame0.png")) == 1

    def test_a_playlist_from_a_url(self, secret):
        path = secret.parent / "playlist.m3u8"
        path.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\n{secret.name}\n#EXT-X-ENDLIST\n"
        )
        frames = next(VideoReader(f"file://{path}").windows(6))
        assert (frames.data == read_video(secret).data).all()


@pytest.mark.parametrize("name", ["cam1:front.mp4", "http:a.mp4", "concat:a.mp4", "-i.mp4"])
def test_a_colon_in_a_name_is_no_protocol(name, tiny_video, monkeypatch):
    path = tiny_video(num_frames=5)
    path.rename(path.parent / name)
    monkeypatch.chdir(path.parent)
    assert len(read_video(name)) == 5
    assert probe(name).path == name


def test_a_codec_that_ffmpeg_does_not_know(encode, texture):
    path = encode("unknown.mkv", texture(5))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/XXX/XYZ"))
    with pytest.raises(VideoError, match=r"unknown\.mkv' is coded in a way that FFmpeg does not"):
        read_video(path)


def test_raw_pictures_of_another_size_than_the_file_tells(encode, texture):
    path = encode("raw.avi", texture(5), codec="rawvideo", pixel_format="bgr24")
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(VideoError, match=r"decode video .*raw\.avi': Invalid argument"):
        read_video(path)


@pytest.mark.parametrize(
    "error",
    [
        IndexError("list index out of range"),
        AttributeError("'NoneType' object has no attribute 'decode'"),
        av.ExternalError(1, "Generic error in an external library"),
        PermissionError(1, "Operation not permitted"),
    ],
)
def test_whatever_pyav_raises_names_the_file(error):
    class Broken:
        name = "file:odd.ts"

        def __init__(self):
            self.codec_context = self.container = self

        def demux(self, stream):
            raise error

        def decode(self, packet):
            raise error

    said = getattr(error, "strerror", None) or str(error)
    with pytest.raises(VideoError, match=f"Cannot read video 'odd.ts': {said}"):
        list(packets_of(Broken(), None))
    with pytest.raises(VideoError, match=rf"odd\.ts.*{said}"):
        decode_packet(Broken(), None)


def written_as(path, codec, pts):
    """A file of a grey picture at each of the times, in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr24"
        if codec != "flashsv":
            stream.pix_fmt = "yuv420p"
        for seconds in pts:
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            picture.pts = round(25 * seconds)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_a_codec_that_shows_bits_of_memory_is_not_read(tmp_path):
    path = written_as(tmp_path / "a.flv", "flashsv", [0.0, 0.04])
    with pytest.raises(VideoError, match=r"a\.flv' is coded as flashsv.*Convert it to H\.264"):
        read_video(path)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.ivf", "libvpx")])
def test_a_clock_that_cannot_be_right(tmp_path, name, codec):
    """One that packets tell and one that is found by decoding."""
    month = written_as(tmp_path / f"month{name}", codec, [0, 0.04, 30 * 86_400])
    assert len(read_video(month).data) == 3
    path = written_as(tmp_path / name, codec, [0, 0.04, 32 * 86_400])
    for call in (read_video, functools.partial(read_video, fps=25)):
        with pytest.raises(CorruptVideoError, match=r"32 days after its first one.*clock is damag"):
            call(path)
