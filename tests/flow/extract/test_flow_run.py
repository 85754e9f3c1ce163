"""Bulk extraction into a flow store."""

import contextlib
import errno
import hashlib
import os
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

import dualstream
from dualstream.errors import (
    FlowStoreError,
    InputError,
    UnknownNameError,
    VideoError,
    VideoNotFoundError,
)
from dualstream.flow import (
    DISParams,
    FarnebackParams,
    FlowFolder,
    FlowJob,
    FlowStore,
    extract_flow,
    optical_flow,
    quantize,
    warped_flow,
)
from dualstream.flow.extract import video_job
from dualstream.flow.methods.lookup import METHODS
from dualstream.types import Frames
from dualstream.video import VideoReader, read_video
from dualstream.video.motion_vectors import motion_vector_windows

SLOW = FarnebackParams(iterations=1200)  # some 80 ms a pair on tiny frames
ENDLESS = FarnebackParams(iterations=8000)  # of 1000 frames


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
        # Windows of 9 frames overlap by one, so no field is missing, doubled or wrong.
        assert np.abs(stored.astype(int) - expected).mean() < 1
        assert (meta.height, meta.width, meta.fps) == (48, 64, 25.0)
        assert (meta.method, meta.params["iterations"]) == ("tvl1-fast", 40)
        assert (meta.direction, meta.bound_px, meta.short_side) == ("forward", 20.0, None)
        assert meta.source == job.name
        with open(job.path, "rb") as video:
            assert meta.source_sha256 == hashlib.sha256(video.read()).hexdigest()
        assert meta.version == dualstream.__version__


def test_windows_join_without_a_seam(tmp_path, videos, monkeypatch):
    list(extract_flow(videos[1:2], tmp_path / "whole"))
    monkeypatch.setattr(video_job, "_WINDOW", 4)
    list(extract_flow(videos[1:2], tmp_path / "windows"))
    files = [(tmp_path / folder / "c/b.mp4.zip").read_bytes() for folder in ("whole", "windows")]
    assert files[0] == files[1]


def test_options_reach_the_flow_and_its_meta(tmp_path, videos):
    outcomes = extract_flow(
        videos[:1],
        tmp_path,
        method="dis",
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


def worker_processes():
    children = psutil.Process().children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def kill_the_worker_of(name, store, times):
    """Kill the process that writes the flow of `name`, as often as told."""
    killed = set()
    while len(killed) < times:
        with contextlib.suppress(psutil.Error):  # a process may end while it is looked at
            for child in worker_processes():
                files = [Path(file.path) for file in child.open_files()]
                if any(f.parent == store and f.name.startswith(f".{name}.") for f in files):
                    killed.add(child.pid)
                    child.kill()
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [1, 2])
def test_the_job_of_a_worker_that_dies_is_tried_once_more(tmp_path, tiny_video, deaths):
    jobs = [
        FlowJob(f"{i}.mp4", str(tiny_video(f"{i}.mp4", num_frames=30 if i < 2 else 4)))
        for i in range(4)
    ]
    store = tmp_path / "flow"
    killer = threading.Thread(target=kill_the_worker_of, args=("1.mp4", store, deaths), daemon=True)
    killer.start()
    outcomes = list(extract_flow(jobs, store, method="farneback", params=SLOW, workers=2))
    killer.join()
    expected = {"0.mp4": "done", "1.mp4": "done", "2.mp4": "done", "3.mp4": "done"}
    if deaths == 1:
        assert statuses(outcomes) == expected
        return
    assert statuses(outcomes) == expected | {"1.mp4": "failed"}
    error = next(outcome.error for outcome in outcomes if outcome.status == "failed")
    assert "ended by signal 9, and again when it was tried once more" in error
    assert str(tmp_path / "1.mp4") in error
    again = list(extract_flow(jobs, store, method="farneback", params=SLOW))
    assert statuses(again) == {
        "0.mp4": "kept",
        "1.mp4": "done",
        "2.mp4": "kept",
        "3.mp4": "kept",
    }
    assert not list(store.glob(".*.tmp"))


def test_interrupted_runs_leave_no_process_and_no_file(tmp_path, tiny_video):
    job = FlowJob("a.mp4", str(tiny_video("a.mp4", num_frames=4)))
    slow = FlowJob("b.mp4", str(tiny_video("b.mp4", num_frames=1000)))
    outcomes = extract_flow(
        [job, slow], tmp_path / "flow", method="farneback", params=ENDLESS, workers=2
    )
    assert next(outcomes).name == "a.mp4"
    while not list(tmp_path.glob("flow/.b.mp4.*.tmp")):
        time.sleep(0.01)
    outcomes.close()
    assert not worker_processes()
    assert [path.name for path in (tmp_path / "flow").iterdir()] == ["a.mp4.zip"]
    with FlowStore(tmp_path / "flow").open("a.mp4") as file:
        assert file.num_fields == 3
    assert not (tmp_path / "flow" / "b.mp4.zip").exists()


@pytest.mark.parametrize("layout", ["store", "folders"])
@pytest.mark.parametrize(
    ("number", "text"),
    [(errno.ENOSPC, "No space left on device"), (errno.EDQUOT, "quota exceeded")],
)
def test_a_full_disk_stops_the_run(tmp_path, videos, monkeypatch, layout, number, text):
    def full(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", full)
    outcomes = []
    with pytest.raises(FlowStoreError, match=r"takes no more.* 2 videos left.*goes on"):
        outcomes.extend(outcomes_until_error(videos, tmp_path / "flow", outcomes, layout=layout))
    assert [(outcome.name, outcome.status) for outcome in outcomes] == [("c/a.mp4", "failed")]
    assert outcomes[0].is_store_full
    assert text in outcomes[0].error
    assert not list((tmp_path / "flow" / "c").iterdir())
    assert not pipeline_threads()
    monkeypatch.undo()
    assert set(statuses(extract_flow(videos, tmp_path / "flow", layout=layout)).values()) == {
        "done"
    }


def outcomes_until_error(videos, store, outcomes, **options):
    for outcome in extract_flow(videos, store, **options):
        outcomes.append(outcome)
    return ()


def pipeline_threads():
    return [t for t in threading.enumerate() if t.name.startswith("dualstream-flow")]


def test_a_disk_that_fills_in_the_middle_of_a_video(tmp_path, videos, monkeypatch):
    written = []
    write = zipfile.ZipFile.writestr

    def full_after_20(archive, member, data):
        written.append(member)
        if len(written) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(archive, member, data)

    monkeypatch.setattr("zipfile.ZipFile.writestr", full_after_20)
    with pytest.raises(FlowStoreError, match="takes no more"):
        list(extract_flow(videos[1:2], tmp_path))
    assert len(written) == 21
    assert not list((tmp_path / "c").iterdir())
    assert not pipeline_threads()


def test_another_write_error_fails_its_video_only(tmp_path, videos):
    (tmp_path / "c").write_text("in the way of the folder")
    outcomes = statuses(extract_flow(videos, tmp_path))
    assert outcomes == {"c/a.mp4": "failed", "c/b.mp4": "failed", "d/a.mp4": "done"}


def test_bytes_are_those_of_a_plain_loop(tmp_path, videos):
    job = videos[1]
    list(extract_flow([job], tmp_path / "threads"))
    with FlowStore(tmp_path / "threads").open(job.name) as file:
        meta = file.meta
    with VideoReader(job.path) as reader:
        fields = [quantize(optical_flow(frames).data) for frames in reader.windows(9, step=8)]
    FlowStore(tmp_path / "plain").write(job.name, fields, meta)
    files = [FlowStore(tmp_path / kind).path(job.name) for kind in ("threads", "plain")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_video_that_breaks_off_leaves_nothing(tmp_path, videos, monkeypatch):
    def images(reader):
        yield from zip(reader.read(range(9)).data, range(9), strict=True)
        raise VideoError("the disk of the video was taken out")

    monkeypatch.setattr(VideoReader, "images", images)
    outcomes = list(extract_flow(videos[:2], tmp_path))
    assert [outcome.error for outcome in outcomes] == ["the disk of the video was taken out"] * 2
    assert not list((tmp_path / "c").iterdir())
    assert not pipeline_threads()


@pytest.mark.parametrize("cores", [1, 2])
def test_a_video_that_vanishes_is_no_error_of_the_store(tmp_path, videos, monkeypatch, cores):
    def images(reader):
        yield from zip(reader.read(range(9)).data, range(9), strict=True)
        raise VideoNotFoundError("the video was moved")  # an OSError too

    monkeypatch.setattr(video_job, "_num_cores", lambda: cores)
    monkeypatch.setattr(VideoReader, "images", images)
    (outcome,) = extract_flow(videos[:1], tmp_path)
    assert outcome.error == "the video was moved"


def test_both_directions_come_from_one_pass_over_each_video(tmp_path, videos, monkeypatch):
    decoded = []
    images = VideoReader.images
    monkeypatch.setattr(
        VideoReader, "images", lambda reader: decoded.append(reader.name) or images(reader)
    )
    outcomes = list(extract_flow(videos, tmp_path / "flow", direction="both"))
    assert [(o.status, o.num_fields) for o in outcomes] == [("done", 11), ("done", 39), ("done", 1)]
    assert decoded == [job.path for job in videos]
    for direction, both in (("forward", "flow"), ("backward", "flow_backward")):
        list(extract_flow(videos, tmp_path / direction, direction=direction))
        for job in videos:
            alone = FlowStore(tmp_path / direction).path(job.name)
            assert FlowStore(tmp_path / both).path(job.name).read_bytes() == alone.read_bytes()
    decoded.clear()
    FlowStore(tmp_path / "flow_backward").path("c/b.mp4").unlink()
    again = extract_flow(videos, tmp_path / "flow", direction="both")
    assert statuses(again) == {"c/a.mp4": "kept", "c/b.mp4": "done", "d/a.mp4": "kept"}
    assert decoded == [videos[1].path]


@pytest.mark.parametrize("layout", ["store", "folders"])
def test_both_directions_of_a_method_that_sees_colour(tmp_path, videos, monkeypatch, layout):
    monkeypatch.setitem(METHODS, "dis", replace(METHODS["dis"], function=doubled, sees="rgb"))
    options = {"method": "dis", "direction": "both", "layout": layout, "short_side": 24}
    assert set(statuses(extract_flow(videos, tmp_path / "flow", **options)).values()) == {"done"}
    for store, value in (("flow", 2), ("flow_backward", -2)):
        with FlowStore(tmp_path / store).open("c/a.mp4") as file:
            assert (file.meta.height, file.meta.width) == (24, 32)
            assert abs(int(file.read([7])[0, 0, 0, 0]) - 128 - value * 127.5 / 20) < 1


def doubled(task):
    assert task.images.shape[1:] == (24, 32, 3)
    field = np.full((len(task.images) - 1, 2, 24, 32), 2, np.float32)
    wanted = task.directions
    return (field if "forward" in wanted else None), (-field if "backward" in wanted else None)


def test_motion_vectors(tmp_path, videos):
    outcomes = list(extract_flow(videos, tmp_path, method="motion-vectors"))
    assert [(o.status, o.num_fields) for o in outcomes] == [("done", 11), ("done", 39), ("done", 1)]
    for job in videos:
        expected = quantize(next(motion_vector_windows(job.path)).data)
        with FlowStore(tmp_path).open(job.name) as file:
            stored, meta = file.read(range(file.num_fields)), file.meta
        assert np.abs(stored.astype(int) - expected).mean() < 1
        assert (meta.method, meta.params, meta.fps) == ("motion-vectors", {"intra": "repeat"}, 25.0)
    assert statuses(extract_flow(videos[:1], tmp_path)) == {"c/a.mp4": "done"}


def test_warped_flow_is_told_apart(tmp_path, videos):
    assert statuses(extract_flow(videos[:1], tmp_path)) == {"c/a.mp4": "done"}
    assert statuses(extract_flow(videos[:1], tmp_path, method="dis", warped=True)) == {
        "c/a.mp4": "done"
    }
    assert statuses(extract_flow(videos[:1], tmp_path, method="dis", warped=True)) == {
        "c/a.mp4": "kept"
    }
    with FlowStore(tmp_path).open("c/a.mp4") as file:
        meta, stored = file.meta, file.read(range(11))
    assert (meta.method, meta.params) == ("warped-dis", {"preset": "medium"})
    frames = read_video(videos[0].path)
    expected = np.concatenate(
        [
            quantize(
                warped_flow(Frames(frames.data[part], frames.pts_seconds[part]), method="dis").data
            )
            for part in (slice(0, 9), slice(8, 12))
        ]
    )
    assert np.abs(stored.astype(int) - expected).mean() < 1


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
        extract_flow(videos, tmp_path, method="dis", device="cuda")
    with pytest.raises(InputError, match="direction 'forward' only"):
        extract_flow(videos, tmp_path, direction="backward", warped=True)
    with pytest.raises(InputError, match="direction 'forward' only"):
        extract_flow(videos, tmp_path, method="motion-vectors", direction="both")
    for options in ({"short_side": 32}, {"warped": True}, {"device": "cuda"}):
        with pytest.raises(InputError, match="takes what the file holds"):
            extract_flow(videos, tmp_path, method="motion-vectors", **options)
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
