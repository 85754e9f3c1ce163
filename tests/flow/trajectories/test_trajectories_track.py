"""Dense trajectories of small scenes whose motion is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.flow.trajectories.scenes import scene

from dualstream import dense_trajectories, write_video
from dualstream.errors import InputError, MissingDependencyError
from dualstream.flow.trajectories import Trajectories, TrajectoryParams, track, trajectory_runs
from dualstream.flow.trajectories.track import level_sizes
from dualstream.types import Frames
from dualstream.video.source import FrameArray

pytest.importorskip("dualstream.flow._trajectories")  # installed without a compiler

MOVING = {"square": 56, "start": (16, 20), "motion": (2, 0)}


@pytest.fixture(scope="module")
def moving() -> Trajectories:
    return dense_trajectories(scene(20, **MOVING))


def inside(found: Trajectories) -> Trajectories:
    """Trajectories on the first scale whose patches stay in the square, which moves by 2 px."""
    end, x, y = found.place[:, 0], found.place[:, 1], found.place[:, 2]
    middle = 16 + 2 * (end - 7.5) + 28
    kept = (abs(x - middle) < 11) & (abs(y - 48) < 11) & (found.place[:, 6] == 1)
    return found.rows(kept)


def test_a_translating_square_moves_in_one_bin_without_boundaries_inside(moving):
    core = inside(moving)
    assert len(core) > 20
    straight = np.tile((1 / 15, 0), 15)
    np.testing.assert_allclose(core.trajectory, np.tile(straight, (len(core), 1)), atol=0.01)
    hof = core.hof.reshape(-1, 3, 2, 2, 9)
    # Root of a quarter of everything in each cell: bin 0, of which a little leaks into 1 and 7.
    assert hof[..., 0].min() > 0.48
    assert hof[..., 2:7].max() < 0.05
    # Motion changes at the square's edge only; there are many trajectories across it.
    changes = core.mbhx.reshape(-1, 4, 8).max(axis=(1, 2))
    assert np.median(changes) < moving.mbhx.max() / 2


def test_only_what_moves_is_followed(moving):
    x, y = moving.place[:, 1], moving.place[:, 2]
    assert x.min() > 12
    assert x.max() < 16 + 56 + 2 * 20 + 4
    assert y.min() > 16
    assert y.max() < 20 + 56 + 4


def test_places_are_numbers_of_frames_and_parts_of_the_picture(moving):
    place = moving.place
    assert {15, 19} <= set(place[:, 0]) <= set(range(15, 20))
    np.testing.assert_allclose(place[:, 7], place[:, 1] / 128, rtol=1e-5)
    np.testing.assert_allclose(place[:, 8], place[:, 2] / 96, rtol=1e-5)
    np.testing.assert_allclose(place[:, 9], (place[:, 0] - 7.5) / 20, rtol=1e-5)
    assert set(np.round(2 * np.log2(place[:, 6]), 3)) <= {0, 1, 2, 3}
    lengths = np.hypot(moving.trajectory[:, ::2], moving.trajectory[:, 1::2]).sum(axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-4)


def test_a_static_scene_under_a_moving_camera_leaves_none():
    assert len(dense_trajectories(scene(18, camera=(3, 1)))) == 0


def test_a_square_keeps_its_own_motion_under_a_moving_camera():
    frames = scene(18, square=40, start=(40, 30), motion=(0, 2), camera=(2, 0))
    core = dense_trajectories(frames)
    assert len(core) > 20
    mean = core.trajectory.reshape(len(core), 15, 2).sum(axis=1)
    np.testing.assert_allclose(np.median(mean, axis=0), (0, 1), atol=0.08)


@pytest.mark.parametrize(
    ("frames", "some"), [(scene(15, **MOVING), False), (scene(16, **MOVING), True)]
)
def test_sixteen_frames_are_the_least(frames: Frames, some: bool):
    assert (len(dense_trajectories(frames)) > 0) == some


def test_runs_change_nothing_and_intervals_keep_their_numbers(monkeypatch, moving):
    frames = FrameArray(scene(20, **MOVING))
    monkeypatch.setattr(track, "RUN_LENGTH", 6)
    parts = list(trajectory_runs(frames))
    assert len(parts) == 2
    joined = Trajectories.joined(parts)
    np.testing.assert_array_equal(joined.place, moving.place)
    np.testing.assert_array_equal(joined.mbhy, moving.mbhy)
    later = Trajectories.joined(list(trajectory_runs(frames, numbers=range(3, 20))))
    assert set(later.place[:, 0]) == {18, 19}


def test_files_serve(tmp_path: Path):
    frames = scene(16, **MOVING)
    path = tmp_path / "a.mp4"
    write_video(path, frames.data, fps=25)
    found = dense_trajectories(path)
    assert len(found) > 20
    assert found.trajectory[:, ::2].sum(axis=1).mean() > 0.8


def test_levels():
    assert level_sizes((240, 320), 8) == [
        (240, 320), (170, 226), (120, 160), (85, 113), (60, 80), (42, 57),
    ]  # fmt: skip
    assert level_sizes((32, 50), 8) == [(32, 50)]
    assert level_sizes((240, 320), 2) == [(240, 320), (170, 226)]


def test_what_cannot_be_done_is_said(monkeypatch):
    with pytest.raises(InputError, match="patches of 32 px"):
        dense_trajectories(scene(16, size=(31, 64)))
    for wrong in ({"length": 16}, {"quality": 1.0}, {"scales": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            TrajectoryParams(**wrong)
    monkeypatch.setattr(track, "_kernel", None)
    with pytest.raises(MissingDependencyError, match="Install a compiler"):
        dense_trajectories(scene(16))
