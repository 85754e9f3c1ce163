"""Bulk extraction into a flow store."""

import hashlib
import threading
import time

import cv2
import numpy as np
import psutil
import pytest

import dualstream
from dualstream.errors import InputError, UnknownNameError
from dualstream.flow import (
    DISParams,
    FarnebackParams,
    FlowFolder,
    FlowJob,
    FlowStore,
    extract_flow,
    optical_flow,
    quantize,
)
from dualstream.flow import extract as extract_module
from dualstream.flow.extract import window_length
from dualstream.video import read_video

SLOW = FarnebackParams(iterations=400)  # some 50 ms a pair on tiny frames


@pytest.fixture
def videos(tiny_video):
    """Three jobs on real files of 12, 40 and 2 frames."""
    return [
        FlowJob("c/a.mp4", str(tiny_video("a.mp4"))),
        FlowJob("c/b.mp4", str(tiny_video("b.mp4", num_frames=40))),
        FlowJob("d/a.mp4", str(tiny_video("c.mp4", num_frames=2))),
    ]


def statuses(outcomes):
    return {outcome.name: outcome.status for outcome in outcomes}


def test_stored_flow_is_the_videos_flow(tmp_path, videos):
    outcomes = list(extract_flow(videos, tmp_path / "flow"))
    assert [(o.name, o.status, o.num_fields, o.error) for o in outcomes] == [
        ("c/a.mp4", "done", 11, None),
        ("c/b.mp4", "done", 39, None),
        ("d/a.mp4", "done", 1, None),
    ]
    for job in videos:
        expected = quantize(optical_flow(read_video(job.path)).data)
        with FlowStore(tmp_path / "flow").open(job.name) as file:
            stored = file.read(range(file.num_fields))
            meta = file.meta
        assert stored.shape == expected.shape
        # Windows of 33 frames overlap by one, so no field is missing, doubled or wrong.
        assert np.abs(stored.astype(int) - expected).mean() < 1
        assert (meta.height, meta.width, meta.fps) == (48, 64, 25.0)
        assert (meta.method, meta.params) == ("dis", {"preset": "medium"})
        assert (meta.direction, meta.bound_px, meta.short_side) == ("forward", 20.0, None)
        assert meta.source == job.name
        with open(job.path, "rb") as video:
            assert meta.source_sha256 == hashlib.sha256(video.read()).hexdigest()
        assert meta.version == dualstream.__version__


def test_windows_join_without_a_seam(tmp_path, videos, monkeypatch):
    list(extract_flow(videos[1:2], tmp_path / "whole"))
    monkeypatch.setattr(extract_module, "_LONGEST_WINDOW", 4)
    list(extract_flow(videos[1:2], tmp_path / "windows"))
    files = [(tmp_path / folder / "c/b.mp4.zip").read_bytes() for folder in ("whole", "windows")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("size", "frames"),
    [((240, 320), 33), ((720, 1280), 24), ((1080, 1920), 10), ((2160, 3840), 2), ((9999, 9999), 2)],
)
def test_window_length(size, frames):
    assert window_length(*size) == frames


def test_options_reach_the_flow_and_its_meta(tmp_path, videos):
    outcomes = extract_flow(
        videos[:1],
        tmp_path,
        params=DISParams(preset="fast"),
        short_side=32,
        bound_px=8.0,
        quality=80,
        direction="backward",
    )
    assert [outcome.status for outcome in outcomes] == ["done"]
    with FlowStore(tmp_path).open("c/a.mp4") as file:
        meta, stored = file.meta, file.read(range(11))
    assert (meta.height, meta.width, meta.short_side) == (32, 43, 32)
    assert (meta.params, meta.bound_px, meta.quality) == ({"preset": "fast"}, 8.0, 80)
    assert meta.direction == "backward"
    assert np.median(stored[:, 0, 12:20, 5:25]) < 128  # the square moves right, so back is left


def test_what_is_there_is_kept_and_what_differs_is_made_anew(tmp_path, videos, tiny_video):
    assert set(statuses(extract_flow(videos, tmp_path)).values()) == {"done"}
    assert set(statuses(extract_flow(videos, tmp_path)).values()) == {"kept"}
    kept = next(iter(extract_flow(videos, tmp_path)))
    assert (kept.status, kept.num_fields) == ("kept", 11)
    assert set(statuses(extract_flow(videos, tmp_path, overwrite=True)).values()) == {"done"}
    assert set(statuses(extract_flow(videos, tmp_path, bound_px=10)).values()) == {"done"}
    assert set(statuses(extract_flow(videos, tmp_path, bound_px=10)).values()) == {"kept"}
    path = FlowStore(tmp_path).path("c/a.mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    FlowStore(tmp_path).path("c/b.mp4").unlink()
    tiny_video("c.mp4", num_frames=5)
    mended = {"c/a.mp4": "done", "c/b.mp4": "done", "d/a.mp4": "done"}
    assert statuses(extract_flow(videos, tmp_path, bound_px=10)) == mended


def test_bad_videos_fail_by_name_and_the_others_go_on(tmp_path, videos, tiny_video):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    jobs = [
        FlowJob("text.mp4", str(tmp_path / "text.mp4")),
        FlowJob("empty.mp4", str(tmp_path / "empty.mp4")),
        FlowJob("absent.mp4", str(tmp_path / "absent.mp4")),
        FlowJob("still.mp4", str(tiny_video("still.mp4", num_frames=1))),
        FlowJob("changed.mp4", videos[0].path, "00" * 32),
        videos[0],
    ]
    outcomes = {outcome.name: outcome for outcome in extract_flow(jobs, tmp_path / "flow")}
    assert len(outcomes) == 6
    for job in jobs[:5]:
        outcome = outcomes[job.name]
        assert (outcome.status, outcome.num_fields) == ("failed", 0)
        assert job.path in outcome.error
    assert "at least 2 frames" in outcomes["still.mp4"].error
    assert "not the file that `dualstream prepare` saw" in outcomes["changed.mp4"].error
    assert outcomes["c/a.mp4"].status == "done"
    stored = [path.name for path in (tmp_path / "flow").rglob("*") if path.is_file()]
    assert stored == ["a.mp4.zip"]


def test_workers_give_the_same_files(tmp_path, videos):
    alone = list(extract_flow(videos, tmp_path / "one"))
    together = list(extract_flow(videos, tmp_path / "two", workers=2))
    assert statuses(alone) == statuses(together)
    for job in videos:
        files = [FlowStore(tmp_path / store).path(job.name) for store in ("one", "two")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_worker_that_dies_fails_its_job_only(tmp_path, tiny_video):
    jobs = [
        FlowJob(f"{i}.mp4", str(tiny_video(f"{i}.mp4", num_frames=30 if i < 2 else 4)))
        for i in range(4)
    ]

    def kill_one_at_work():
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("flow/.*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.01)
        children = psutil.Process().children()
        next(child for child in children if "spawn_main" in " ".join(child.cmdline())).kill()

    killer = threading.Thread(target=kill_one_at_work)
    killer.start()
    outcomes = list(
        extract_flow(jobs, tmp_path / "flow", method="farneback", params=SLOW, workers=2)
    )
    killer.join()
    assert sorted(statuses(outcomes).values()) == ["done", "done", "done", "failed"]
    failed = next(outcome for outcome in outcomes if outcome.status == "failed")
    assert "ended by signal 9" in failed.error
    assert str(tmp_path / failed.name) in failed.error
    again = list(extract_flow(jobs, tmp_path / "flow", method="farneback", params=SLOW))
    assert sorted(statuses(again).values()) == ["done", "kept", "kept", "kept"]
    assert not list(tmp_path.glob("flow/.*.tmp"))


def test_interrupted_runs_leave_no_process_and_no_file(tmp_path, tiny_video):
    job = FlowJob("a.mp4", str(tiny_video("a.mp4", num_frames=4)))
    slow = FlowJob("b.mp4", str(tiny_video("b.mp4", num_frames=200)))
    outcomes = extract_flow(
        [job, slow], tmp_path / "flow", method="farneback", params=SLOW, workers=2
    )
    assert next(outcomes).name == "a.mp4"
    outcomes.close()
    children = psutil.Process().children()
    assert not [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    assert FlowStore(tmp_path / "flow").open("a.mp4").num_fields == 3
    assert not (tmp_path / "flow" / "b.mp4.zip").exists()


def test_a_full_disk_fails_the_video(tmp_path, videos, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    outcomes = list(extract_flow(videos[:1], tmp_path / "flow"))
    assert [outcome.status for outcome in outcomes] == ["failed"]
    assert "No space left on device" in outcomes[0].error
    assert not list((tmp_path / "flow" / "c").iterdir())


def test_folders_layout(tmp_path, videos):
    options = {"layout": "folders", "quality": 100}
    assert set(statuses(extract_flow(videos, tmp_path, **options)).values()) == {"done"}
    assert set(statuses(extract_flow(videos, tmp_path, **options)).values()) == {"kept"}
    with FlowFolder.open(tmp_path / "c" / "a") as folder:
        assert folder.num_fields == 11
        stored = folder.read(range(11))
    expected = quantize(optical_flow(read_video(videos[0].path)).data)
    assert np.abs(stored.astype(int) - expected).mean() < 1
    (tmp_path / "c" / "a" / "flow_x_00003.jpg").unlink()
    mended = {"c/a.mp4": "done", "c/b.mp4": "kept", "d/a.mp4": "kept"}
    assert statuses(extract_flow(videos, tmp_path, **options)) == mended
    assert set(statuses(extract_flow(videos, tmp_path, layout="folders")).values()) == {"done"}


def test_options_are_checked_at_once(tmp_path, videos):
    with pytest.raises(UnknownNameError, match="Unknown flow method 'tvl'"):
        extract_flow(videos, tmp_path, method="tvl")
    with pytest.raises(UnknownNameError, match="Unknown direction 'up'"):
        extract_flow(videos, tmp_path, direction="up")
    with pytest.raises(UnknownNameError, match="Unknown layout 'zip'"):
        extract_flow(videos, tmp_path, layout="zip")
    with pytest.raises(InputError, match="CPU only"):
        extract_flow(videos, tmp_path, device="cuda")
    for option, value in (
        ("workers", 0),
        ("quality", 0),
        ("quality", 101),
        ("bound_px", 0.0),
        ("bound_px", float("nan")),
        ("short_side", 0),
    ):
        with pytest.raises(InputError, match=option):
            extract_flow(videos, tmp_path, **{option: value})
    with pytest.raises(InputError, match=r"'c/a\.mp4' and 'c/a\.mp4' both go to"):
        extract_flow([videos[0], videos[0]], tmp_path)
    with pytest.raises(InputError, match="both go to"):
        extract_flow([FlowJob("a.mp4", ""), FlowJob("a.avi", "")], tmp_path, layout="folders")
    assert not (tmp_path / "c").exists()


def test_threads_of_the_caller_are_left_alone(tmp_path, videos):
    before = cv2.getNumThreads()
    list(extract_flow(videos[:1], tmp_path))
    assert cv2.getNumThreads() == before
