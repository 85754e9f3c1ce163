"""Rules, arrays, text and the store of trajectories."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tests.flow.trajectories.scenes import scene

from dualstream import write_video
from dualstream.errors import FlowError, ShapeError
from dualstream.flow.trajectories import (
    Trajectories,
    TrajectoryJob,
    TrajectoryParams,
    TrajectoryStore,
    read_trajectories,
    write_trajectories,
)
from dualstream.flow.trajectories.rules import is_kept, places

pytest.importorskip("dualstream.flow._trajectories")  # installed without a compiler


def track(*steps: float) -> np.ndarray:
    """Points (L + 1, 2) that move to the right by these steps."""
    x = np.concatenate(([0.0], np.cumsum(steps)))
    return np.stack((x, np.zeros_like(x)), axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("steps", "own", "kept"),
    [
        ([1] * 15, 1.1, True),
        ([1] * 15, 1.0, False),  # the camera's motion only
        ([0.3] * 15, 2, False),  # deviates by 1.4 px, less than the root of 3
        ([0.4] * 15, 2, True),
        ([11] * 15, 2, False),  # deviates by 50.7 px
        ([10] * 15, 2, True),
        ([21, *[0.5] * 14], 2, False),  # 21 px are 75% of the way
        ([21, *[1] * 14], 2, True),  # 60% of the way
        ([19, *[0.1] * 14], 2, True),
    ],
)
def test_rules(steps, own, kept):
    displacements = np.full((1, 15, 2), (own, 0), np.float32)
    assert is_kept(track(*steps)[None], displacements).tolist() == [kept]


def test_places():
    (row,) = places(track(2, 2, 2)[None] + 10, frame=7, scale=2.0, size=(20, 40), time=2.0)
    deviation = np.sqrt(5)
    expected = [7, 13, 10, deviation, 0, 6, 2, 13 / 40, 0.5, 0.999]
    np.testing.assert_allclose(row, expected, rtol=1e-6)


def some(count: int, length: int = 15, seed: int = 0) -> Trajectories:
    rng = np.random.default_rng(seed)
    table = rng.uniform(size=(count, 10 + 2 * length + 396)).astype(np.float32)
    table[:, 0] = np.arange(count) + 15
    return Trajectories.from_table(table)


def test_text_is_lines_of_436_numbers_and_is_read_back(tmp_path: Path):
    path = tmp_path / "a.txt"
    assert write_trajectories(path, [some(2), some(1, seed=1)]) == 3
    lines = path.read_text().splitlines()
    assert [len(line.split("\t")) for line in lines] == [437] * 3  # a tab after each
    assert lines[1].startswith("16\t")
    back = read_trajectories(path)
    for name in ("place", "trajectory", "hog", "hof", "mbhx", "mbhy"):
        both = [getattr(some(2), name), getattr(some(1, seed=1), name)]
        np.testing.assert_allclose(getattr(back, name), np.concatenate(both), atol=1e-6)
    assert write_trajectories(path, []) == 0
    assert len(read_trajectories(path)) == 0


@pytest.mark.parametrize(
    ("text", "message"), [("1 2 3\n", "a.txt:1: has 3 numbers"), ("1 x\n", "a.txt:1: .*'x'")]
)
def test_text_that_is_none_is_refused(tmp_path: Path, text, message):
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(FlowError, match=message):
        read_trajectories(path)
    with pytest.raises(FlowError, match="no such file"):
        read_trajectories(tmp_path / "b.txt")


def test_arrays_check_themselves_and_can_be_chosen_from():
    found = some(3)
    assert len(found.rows(np.array([2, 0]))) == 2
    np.testing.assert_array_equal(found.rows(found.place[:, 0] > 16).hog, found.hog[2:])
    assert repr(found) == "Trajectories(N=3, L=15)"
    with pytest.raises(ShapeError, match="hof of 3 trajectories"):
        Trajectories(found.place, found.trajectory, found.hog, found.hog, found.mbhx, found.mbhy)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "videos" / "a.mp4"
    path.parent.mkdir()
    write_video(path, scene(40, square=40, start=(10, 10), motion=(1, 1)).data[:, :64, :64], fps=20)
    return path


def test_store_keeps_what_is_of_the_same_file_and_settings(tmp_path: Path, video: Path):
    params = TrajectoryParams(scales=1)
    store = TrajectoryStore(tmp_path / "store", params)
    whole = TrajectoryJob("a.mp4", str(video), sha256="1")
    part = TrajectoryJob("a.mp4#t=0,1", str(video), seconds=(0, 1))
    missing = TrajectoryJob("b.mp4", str(video.with_name("b.mp4")))

    def statuses(*jobs: TrajectoryJob, of: TrajectoryStore = store) -> list[str]:
        return [outcome.status for outcome in of.extract(jobs)]

    *_, failed = store.extract([whole, part, missing])
    assert failed.status == "failed"
    assert "b.mp4" in failed.error
    assert statuses(whole, part) == ["kept", "kept"]
    found, half = store.read(whole.name), store.read(part.name)
    assert 0 < len(half) < len(found)
    assert set(half.place[:, 0]) <= set(range(15, 20))  # 1 s of 20 frames
    # Another file, other settings, a broken file.
    assert not store.holds(TrajectoryJob("a.mp4", str(video), sha256="2"))
    assert not TrajectoryStore(store.root, TrajectoryParams(scales=2)).holds(whole)
    path = store.path(whole.name)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FlowError, match=r"Remove the file"):
        store.read(whole.name)
    assert statuses(whole) == ["done"]
    np.testing.assert_array_equal(store.read(whole.name).hog, found.hog)


def test_text_of_the_store(tmp_path: Path, video: Path):
    store = TrajectoryStore(tmp_path / "store", TrajectoryParams(scales=1))
    job = TrajectoryJob("a.mp4", str(video))
    for status in ("done", "kept"):
        assert [o.status for o in store.extract([job], layout="text")] == [status]
    assert len(read_trajectories(tmp_path / "store" / "a.mp4.txt")) > 0


@pytest.mark.slow  # starts processes
def test_videos_side_by_side(tmp_path: Path, video: Path):
    store = TrajectoryStore(tmp_path / "store", TrajectoryParams(scales=1))
    jobs = [TrajectoryJob(name, str(video)) for name in ("a.mp4", "b.mp4")]
    assert {o.name: o.status for o in store.extract(jobs, workers=2)} == {
        "a.mp4": "done",
        "b.mp4": "done",
    }
    assert pickle.loads(pickle.dumps(store)) == store
