"""Motion vectors as dense fields: known motion through every codec, and the order of pictures."""

import struct
import tracemalloc

import cv2
import numpy as np
import pytest

from dualstream.errors import (
    CorruptVideoError,
    FlowError,
    InputError,
    NoVideoStreamError,
    UnknownNameError,
    VideoError,
    VideoNotFoundError,
)
from dualstream.video import read_video
from dualstream.video.info import Orientation
from dualstream.video.motion_vectors import (
    block_motion,
    motion_vector_windows,
    reference_steps,
    turned,
)

T, HEIGHT, WIDTH = 24, 96, 128
SHIFT = (2, -1)
X264 = {"preset": "veryfast", "threads": "1"}


def motion_vectors(path, **options):
    """All fields of a video in one window."""
    return next(motion_vector_windows(path, **options))


def x264(parameters: str) -> dict[str, str]:
    return {**X264, "x264-params": parameters}


def translating(num_frames=T, shift=SHIFT, size=(HEIGHT, WIDTH)):
    """(T, H, W, 3) frames of a smooth random texture that moves by `shift` (x, y) a frame."""
    height, width = size
    margin = num_frames * max(map(abs, shift))
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(height + 2 * margin, width + 2 * margin, 3)).astype(np.float32)
    texture = np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 250 + 128, 0, 255).astype(np.uint8)
    rows = [margin - t * shift[1] for t in range(num_frames)]
    columns = [margin - t * shift[0] for t in range(num_frames)]
    return np.stack(
        [texture[y : y + height, x : x + width] for y, x in zip(rows, columns, strict=True)]
    )


def medians(flow):
    """(T-1, 2) median vector of each field, without the rim where new picture comes in."""
    return np.median(flow.data[:, :, 16:-16, 16:-16], axis=(2, 3))


# name of the file, options of `encode`
KINDS = {
    "p_only.mp4": {"options": x264("bframes=0:keyint=100")},
    "b.mp4": {"options": x264("bframes=3:b-adapt=0:b-pyramid=none:keyint=100")},
    "pyramid.mp4": {"options": x264("bframes=3:b-adapt=0:b-pyramid=normal:keyint=100")},
    "pyramid.mkv": {"options": x264("bframes=5:b-adapt=0:b-pyramid=normal:keyint=100")},
    "pyramid.avi": {"options": x264("bframes=3:b-adapt=0:b-pyramid=normal:keyint=100")},
    "pyramid.ts": {"options": x264("bframes=3:b-adapt=0:b-pyramid=normal:keyint=100")},
    "open_gop.mp4": {"options": x264("bframes=3:b-adapt=0:open-gop=1:keyint=8")},
    "slices.mp4": {"options": x264("slices=3:keyint=8")},
    "mpeg4.mp4": {"codec": "mpeg4", "key_frame_interval": 100},
    "mpeg4_b.avi": {"codec": "mpeg4", "b_frames": 2, "key_frame_interval": 12},
    "mpeg4_4mv.avi": {"codec": "mpeg4", "options": {"flags": "+mv4+qpel"}},
    "mpeg2_b.mpg": {"codec": "mpeg2video", "b_frames": 2, "key_frame_interval": 12},
    "mpeg1.mpg": {"codec": "mpeg1video", "key_frame_interval": 12},
    "h263.flv": {"codec": "flv"},
    "windows_media.avi": {"codec": "wmv2"},
    "windows_media_1.avi": {"codec": "wmv1"},
    "microsoft.avi": {"codec": "msmpeg4"},
    "microsoft_2.avi": {"codec": "msmpeg4v2"},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_translation_is_found_in_every_field(name, encode):
    path = encode(name, translating(), **KINDS[name])
    flow = motion_vectors(path)
    assert flow.data.shape == (T - 1, 2, HEIGHT, WIDTH)
    assert flow.data.dtype == np.float32
    assert (flow.method, flow.source) == ("motion-vectors", str(path))
    assert np.abs(medians(flow) - SHIFT).max() < 0.4
    # Most blocks, not just the middle one.
    assert np.abs(flow.data[:, 0, 16:-16, 16:-16] - SHIFT[0]).mean() < 0.3
    assert np.abs(flow.data[:, 1, 16:-16, 16:-16] - SHIFT[1]).mean() < 0.3


def test_only_what_moves_moves(encode):
    frames = np.repeat(translating(1), 8, axis=0)
    for t in range(8):
        frames[t, 32:64, 16 + 4 * t : 48 + 4 * t] = translating(1, size=(32, 32))[0] // 2 + 20
    flow = motion_vectors(encode("square.mp4", frames, options=x264("bframes=0:ref=1")))
    for t in range(7):
        left = 16 + 4 * (t + 1)  # where the square is in frame t + 1, which the blocks lie in
        inside = flow.data[t, :, 40:56, left + 8 : left + 24]
        assert np.median(inside[0]) == pytest.approx(4, abs=0.5)
        assert np.median(inside[1]) == pytest.approx(0, abs=0.5)
        assert np.abs(flow.data[t, :, 80:]).max() < 0.5


def test_windows_are_the_whole_in_pieces(encode):
    path = encode("b.mp4", translating(), options=x264("bframes=3:keyint=10"))
    whole = motion_vectors(path)
    for length, expected in [(5, [5, 5, 5, 5, 3]), (23, [23]), (24, [23]), (1, [1] * 23)]:
        windows = list(motion_vector_windows(path, length))
        assert [len(window) for window in windows] == expected
        assert (np.concatenate([window.data for window in windows]) == whole.data).all()
        assert windows[0].method == "motion-vectors"


def test_windows_take_constant_memory(encode):
    frames = np.tile(translating(30), (10, 1, 1, 1))
    path = encode("long.mp4", frames, options=x264("bframes=3"))
    windows = motion_vector_windows(path, 8)
    next(windows)
    tracemalloc.start()
    count = sum(len(window) for window in windows)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 299 - 8
    assert peak_bytes < 4 * 8 * (HEIGHT * WIDTH * 2 * 4)


def test_key_frames_repeat_the_motion_before_or_have_none(encode):
    path = encode("keys.mp4", translating(16), options=x264("bframes=0:keyint=8:min-keyint=8"))
    repeated, zero = (motion_vectors(path, intra=intra).data for intra in ("repeat", "zero"))
    assert (repeated[7] == repeated[6]).all()  # frame 8 is a key frame
    assert medians(motion_vectors(path))[7].tolist() == list(SHIFT)
    assert (zero[7] == 0).all()
    assert np.median(zero[6, 0]) == SHIFT[0]


def test_blocks_without_vectors_repeat_the_motion_before_or_have_none(encode):
    frames = translating(10).copy()
    frames[6, 16:80, 32:96] = np.random.default_rng(9).integers(0, 255, (64, 64, 3))
    path = encode("sudden.mp4", frames, options=x264("bframes=0:scenecut=0:ref=1"))
    repeated, zero = (motion_vectors(path, intra=intra).data for intra in ("repeat", "zero"))
    is_intra = (zero[5] == 0).all(0) & (repeated[5] != 0).any(0)  # field 5 leads to frame 6
    assert is_intra[16:80, 32:96].mean() > 0.3
    assert (repeated[5][:, is_intra] == repeated[4][:, is_intra]).all()
    assert (repeated[5][:, ~is_intra] == zero[5][:, ~is_intra]).all()


def test_key_frames_only_have_no_motion(encode):
    path = encode("intra.mp4", translating(4), options=x264("keyint=1"))
    assert (motion_vectors(path).data == 0).all()


# (a, b, c, d) of the display matrix, as `read_video`'s test of rotation has them
MATRICES = {
    "90": (0, 1, 0, -1, 0, 0),
    "180": (-1, 0, 0, 0, -1, 0),
    "270": (0, -1, 0, 1, 0, 0),
    "mirror": (-1, 0, 0, 0, 1, 0),
}


@pytest.mark.parametrize("name", MATRICES)
def test_vectors_turn_with_the_picture(name, encode):
    path = encode("turned.mp4", translating(8), options=x264("bframes=0"))
    upright = motion_vectors(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    matrix = (value << 16 for value in MATRICES[name])
    struct.pack_into(">9i", data, start, *matrix, 0, 0, 1 << 30)
    path.write_bytes(data)
    flow, frames = motion_vectors(path), read_video(path)
    assert flow.size == frames.size
    # (x, y) goes to (a x + c y, b x + d y)
    a, b, _, c, d, _ = MATRICES[name]
    x, y = SHIFT
    assert medians(flow).tolist() == [[a * x + c * y, b * x + d * y]] * 7
    assert np.abs(flow.data).sum() == np.abs(upright.data).sum()


@pytest.mark.parametrize(
    ("orientation", "x", "y"),
    [
        (Orientation(), [[1, 2], [3, 4]], [[5, 6], [7, 8]]),
        (Orientation(mirror_x=True), [[-2, -1], [-4, -3]], [[6, 5], [8, 7]]),
        (Orientation(mirror_y=True), [[3, 4], [1, 2]], [[-7, -8], [-5, -6]]),
        (Orientation(transpose=True), [[5, 7], [6, 8]], [[1, 3], [2, 4]]),
        # a quarter turn clockwise: what moved down moves left
        (Orientation(transpose=True, mirror_x=True), [[-7, -5], [-8, -6]], [[3, 1], [4, 2]]),
    ],
)
def test_turned(orientation, x, y):
    field = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.float32)
    assert turned(field, orientation).tolist() == [x, y]


@pytest.mark.parametrize(
    ("number", "order", "references", "steps"),
    [
        (1, 1, [(0, 0)], (-1, -1)),
        (4, 1, [(0, 0)], (-4, -4)),  # P after three B that come later in the file
        (2, 2, [(0, 0), (4, 1)], (-2, 2)),  # the middle of a pyramid
        (1, 3, [(0, 0), (2, 2), (4, 1)], (-1, 1)),
        (3, 4, [(0, 0), (2, 2), (4, 1)], (-1, 1)),
        (2, 2, [(0, 0), (1, 3), (4, 1)], (-2, 2)),  # 1 was decoded later: not its reference
        (8, 5, [(0, 0), (4, 1), (2, 2)], (-4, -4)),
        (5, 7, [(3, 5), (4, 6)], (-1, -1)),  # both lists of a B frame may lead into the past
        (0, 1, [(2, 0)], (2, 2)),  # leading picture of an open group
        (7, 3, [], (-1, -1)),
    ],
)
def test_reference_steps(number, order, references, steps):
    assert reference_steps(number, order, references) == steps


BLOCK = np.dtype(
    [
        *(("source", "i4"), ("w", "u1"), ("h", "u1"), ("dst_x", "i2"), ("dst_y", "i2")),
        *(("motion_x", "i4"), ("motion_y", "i4"), ("motion_scale", "u2")),
    ]
)


def test_blocks_fill_their_cells():
    blocks = np.array(
        [
            (-1, 16, 16, 8, 8, -12, 4, 4),  # 16x16 at (0, 0): 3 right, 1 up from its reference
            (-1, 8, 16, 20, 8, -8, 0, 4),  # 8x16 at (16, 0)
            (1, 8, 8, 28, 4, 8, 8, 2),  # future reference two frames ahead
            (-1, 16, 8, 8, 20, 0, 0, 4),  # 16x8 at (0, 16), still
            (-1, 8, 8, 20, 20, -4, 0, 4),  # both references: 1 and 2 right
            (1, 8, 8, 20, 20, 16, 0, 4),
        ],
        BLOCK,
    )
    motion, covered = block_motion(blocks, steps=(-1, 2), grid=(3, 4))
    assert motion[0].tolist() == [[3, 3, 2, 2], [3, 3, 2, 0], [0, 0, 1.5, 0]]
    assert motion[1].tolist() == [[-1, -1, 0, 2], [-1, -1, 0, 0], [0, 0, 0, 0]]
    assert covered.tolist() == [[True] * 4, [True, True, True, False], [True, True, True, False]]


def test_blocks_beyond_the_picture_are_cut():
    blocks = np.array([(-1, 16, 16, 24, 24, -4, 0, 4), (-1, 16, 16, 0, 0, -8, 0, 4)], BLOCK)
    motion, covered = block_motion(blocks, steps=(-1, -1), grid=(3, 3))
    assert motion[0].tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert covered.sum() == 2


def test_odd_sizes(encode):
    frames = translating(6, size=(75, 101))
    path = encode("odd.mp4", frames, pixel_format="yuv444p", options=x264("bframes=0"))
    flow = motion_vectors(path)
    assert flow.size == (75, 101)
    # Vectors are in quarters of a pixel; the texture differs in its last bit from processor to
    # processor, and with it, now and then, the vector that the encoder takes.
    assert np.allclose(medians(flow), [SHIFT] * 5, atol=0.25)


def test_a_size_that_changes_is_scaled_to_the_video_s(encode):
    small = encode("small.h264", translating(5, size=(HEIGHT // 2, WIDTH // 2)))
    path = encode("large.h264", translating(5), options=x264("bframes=0"))
    path.write_bytes(path.read_bytes() + small.read_bytes())
    flow, frames = motion_vectors(path), read_video(path)
    assert flow.size == frames.size
    assert len(flow) == len(frames) - 1 == 9
    scale = flow.size[0] / HEIGHT
    assert np.allclose(medians(flow)[:4], np.multiply(SHIFT, scale), atol=0.25)
    assert np.allclose(medians(flow)[5:], np.multiply(SHIFT, 2 * scale), atol=0.5)


def test_as_many_fields_as_frames_of_a_file_cut_off(encode):
    options = x264("bframes=2:keyint=10")
    path = encode("cut.mkv", translating(40), options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames = read_video(path)
    assert 2 < len(frames) < 40
    assert len(motion_vectors(path)) == len(frames) - 1


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "found"),
    [
        ("motion_jpeg.avi", "mjpeg", "yuvj420p", "mjpeg"),
        ("lossless.mkv", "ffv1", "bgr0", "ffv1"),
        ("hevc.mp4", "libx265", "yuv420p", "hevc"),
        ("vp9.webm", "libvpx-vp9", "yuv420p", "vp9"),
    ],
)
def test_codecs_without_vectors_are_named(name, codec, pixel_format, found, encode):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    if codec == "libvpx-vp9":
        options = {"deadline": "realtime", "cpu-used": "8"}
    path = encode(name, translating(3), codec=codec, pixel_format=pixel_format, options=options)
    with pytest.raises(VideoError, match=rf"{name}' is coded as {found}, of which FFmpeg gives"):
        motion_vectors(path)


def test_bad_input_is_named(encode, tmp_path):
    path = encode("one.mp4", translating(1), options=X264)
    with pytest.raises(FlowError, match=r"at least 2 frames; .*one\.mp4' has 1"):
        motion_vectors(path)
    with pytest.raises(UnknownNameError, match="Unknown intra 'nearest'"):
        motion_vectors(path, intra="nearest")
    with pytest.raises(UnknownNameError, match="Unknown intra 'last'"):
        motion_vector_windows(path, 8, intra="last")
    with pytest.raises(InputError, match="length must be at least 1, got 0"):
        motion_vector_windows(path, 0)
    with pytest.raises(VideoNotFoundError, match=r"none\.mp4"):
        motion_vectors(tmp_path / "none.mp4")
    with pytest.raises(NoVideoStreamError, match="is a folder"):
        next(motion_vector_windows(tmp_path, 8))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(CorruptVideoError, match="is empty"):
        motion_vectors(empty)


def test_a_stream_of_which_nothing_decodes(encode):
    path = encode("broken.mkv", translating(8), options=X264)
    data = bytearray(path.read_bytes())
    start = data.index(b"\x1f\x43\xb6\x75")  # the first cluster: frames follow
    data[start + 40 :] = bytes(len(data) - start - 40)
    path.write_bytes(data)
    with pytest.raises(CorruptVideoError, match=r"No frame of .*broken\.mkv'"):
        motion_vectors(path)


def test_real_clips_agree_with_what_is_seen(shared):
    # cv2's DIS medium: the mean error of the vectors is well below that of no motion (1.15, .61)
    from dualstream.flow import optical_flow

    for name, part in [("v_SoccerJuggling_g23_c01.avi", 0.6), ("v_BaseballPitch_g01_c01.avi", 0.7)]:
        path = shared / "clips" / name
        frames = read_video(path)
        vectors = next(motion_vector_windows(path, 24)).data
        seen = optical_flow(type(frames)(frames.data[:25], frames.pts_seconds[:25], "")).data
        error, length = np.abs(vectors - seen).mean(), np.abs(seen).mean()
        assert error < part * length
