"""Every real clip: any set of frames equals those of decoding from the start."""

import av
import numpy as np
import pytest

from dualstream.video import VideoReader

CLIPS = [
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "arm_wrestling.mp4",
    "v_ApplyEyeMakeup_g01_c01.avi",
    "v_BaseballPitch_g01_c01.avi",
    "v_SoccerJuggling_g23_c01.avi",
]


@pytest.mark.parametrize("clip", CLIPS)
def test_random_frames_of_real_clips(clip, shared):
    path = shared / "clips" / clip
    with av.open(str(path), metadata_errors="ignore") as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    rng = np.random.default_rng(11)
    with VideoReader(path) as reader:
        assert reader.num_frames == len(plain)
        assert (np.diff(reader.pts_seconds) > 0).all()
        for count in (1, 1, 3, 8):
            indices = rng.integers(0, len(plain), count)
            frames = reader.read(indices)
            assert (frames.data == np.stack([plain[i] for i in indices])).all()
            assert frames.pts_seconds.tolist() == reader.pts_seconds[indices].tolist()
        whole = reader.read_all()
        assert (whole.data == np.stack(plain)).all()
        assert whole.pts_seconds.tolist() == reader.pts_seconds.tolist()
    with VideoReader(path) as fresh:
        evenly = fresh.read_evenly(25)
    places = [int((i + 0.5) * len(plain) / 25) for i in range(25)]
    assert (evenly.data == whole.data[places]).all()


def test_jhmdb_files(shared):
    paths = sorted((shared / "jhmdb" / "videos").glob("*/*.mp4"))[::97]
    assert len(paths) >= 9
    rng = np.random.default_rng(12)
    for path in paths:
        with VideoReader(path) as reader:
            indices = rng.integers(0, reader.num_frames, 4)
            some = reader.read(indices)
            whole = reader.read_all()
        assert (some.data == whole.data[indices]).all(), path
        assert (np.diff(whole.pts_seconds) > 0).all(), path


def test_packed_file_has_even_times(shared):
    with VideoReader(shared / "clips" / "RATRACE_wave_f_nm_np1_fr_goo_37.avi") as reader:
        np.testing.assert_allclose(reader.pts_seconds, np.arange(72) / 30)
