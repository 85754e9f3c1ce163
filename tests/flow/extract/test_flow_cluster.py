"""Extraction on a Ray cluster: a real one of this machine, where Ray is installed."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from dualstream.errors import MissingDependencyError
from dualstream.flow import FarnebackParams, FlowJob, extract_flow
from dualstream.jobs.cluster import run_on_node
from dualstream.version import __version__

SLOW = FarnebackParams(iterations=1200)  # some 80 ms a pair on tiny frames
ENDLESS = FarnebackParams(iterations=8000)  # of 400 frames


@pytest.fixture
def videos(tiny_video):
    return [
        FlowJob(f"c/{n}.mp4", str(tiny_video(f"{n}.mp4", num_frames=n)), num_frames=n)
        for n in (5, 12, 3, 20)
    ]


def files_of(store):
    return {str(f.relative_to(store)): f.read_bytes() for f in store.rglob("*") if f.is_file()}


@pytest.mark.slow
def test_the_same_files_as_without_ray(tmp_path, videos, ray_cluster):
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    jobs = [*videos, FlowJob("broken.mp4", str(broken))]
    alone = list(extract_flow(jobs, tmp_path / "alone"))
    nodes = list(extract_flow(jobs, tmp_path / "nodes", ray=ray_cluster))
    key = [(o.name, o.status, o.num_fields, o.error) for o in sorted(alone, key=str)]
    assert [(o.name, o.status, o.num_fields, o.error) for o in sorted(nodes, key=str)] == key
    assert files_of(tmp_path / "alone") == files_of(tmp_path / "nodes")
    again = list(extract_flow(jobs, tmp_path / "nodes", ray=ray_cluster, workers=1))
    assert sorted(o.status for o in again) == ["failed", "kept", "kept", "kept", "kept"]
    assert len(files_of(tmp_path / "nodes")) == 4


def test_relative_paths_are_those_of_the_caller(tmp_path, videos, ray_cluster, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [FlowJob("a.mp4", "5.mp4")]
    assert [o.status for o in extract_flow(jobs, "flow", ray=ray_cluster)] == ["done"]
    assert (tmp_path / "flow" / "a.mp4.zip").is_file()


def tasks():
    """Processes that compute for the cluster, by what Ray calls them meanwhile."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any("ray::run_on_node" in part for part in process.info["cmdline"] or ())
    ]


def kill_the_writer_of(path):
    """Kill the process that has the temporary file `path` open."""
    for process in tasks():
        if any(Path(file.path) == path for file in process.open_files()):
            process.kill()
            return
    raise AssertionError(f"nobody writes {path}")


def wait_for_writing(store, name):
    while not (found := list(store.glob(f".{name}.*.tmp"))):
        time.sleep(0.01)
    return found[0]


@pytest.mark.slow
def test_a_process_that_dies_is_tried_once_more(tmp_path, tiny_video, ray_cluster):
    import threading

    jobs = [
        FlowJob(f"{n}.mp4", str(tiny_video(f"{n}.mp4", num_frames=20 + n)), num_frames=20 + n)
        for n in range(3)
    ]
    store = tmp_path / "flow"
    killer = threading.Thread(
        target=lambda: kill_the_writer_of(wait_for_writing(store, "2.mp4")), daemon=True
    )
    killer.start()
    outcomes = list(extract_flow(jobs, store, method="farneback", params=SLOW, ray=ray_cluster))
    killer.join()
    assert sorted((o.name, o.status, o.num_fields) for o in outcomes) == [
        ("0.mp4", "done", 19),
        ("1.mp4", "done", 20),
        ("2.mp4", "done", 21),
    ]
    assert sum(1 for _ in store.glob(".2.mp4.*.tmp")) == 1  # what the killed process left
    assert [o.status for o in extract_flow(jobs, store, method="farneback", params=SLOW)] == [
        "kept"
    ] * 3
    assert not list(store.glob(".*"))


@pytest.mark.slow
def test_closing_cancels_what_is_under_way(tmp_path, tiny_video, ray_cluster):
    jobs = [FlowJob(f"{n}.mp4", str(tiny_video(f"{n}.mp4", num_frames=n))) for n in (2, 400, 401)]
    store = tmp_path / "flow"
    outcomes = extract_flow(jobs, store, method="farneback", params=ENDLESS, ray=ray_cluster)
    assert next(outcomes).name == "2.mp4"
    wait_for_writing(store, "400.mp4")
    outcomes.close()
    assert [path.name for path in store.iterdir()] == ["2.mp4.zip"]


def test_without_ray_its_package_is_named(tmp_path, videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dualstream\[ray\]'"):
        extract_flow(videos, tmp_path, ray="auto")


def test_a_node_that_sees_another_folder_says_so(tmp_path, videos, monkeypatch):
    def on_another_node(work, jobs, *, shared, on_failure, **options):
        (marker,) = shared
        assert marker.parent == tmp_path / "flow"
        marker.rename(marker.with_name("elsewhere"))
        for job in jobs:
            found = run_on_node(work, job, __version__, shared)
            yield on_failure(job, found.reason)
        marker.with_name("elsewhere").rename(marker)

    monkeypatch.setattr("dualstream.flow.extract.cluster.run_on_cluster", on_another_node)
    monkeypatch.setattr("dualstream.flow.extract.cluster.import_ray", lambda: None)
    outcomes = list(extract_flow(videos, tmp_path / "flow", ray="auto"))
    assert {outcome.status for outcome in outcomes} == {"failed"}
    assert all(f"does not see {tmp_path / 'flow'}" in outcome.error for outcome in outcomes)
