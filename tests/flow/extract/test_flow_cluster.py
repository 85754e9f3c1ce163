"""Extraction on a Ray cluster: a real one of this machine, where Ray is installed."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dualstream.errors import FlowError, MissingDependencyError
from dualstream.flow import FarnebackParams, FlowJob, extract_flow
from dualstream.flow.extract.cluster import extract_on_node, run_on_ray
from dualstream.flow.extract.job import FlowOutcome
from dualstream.flow.extract.run import flow_settings

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (dualstream[ray])"
)
SLOW = FarnebackParams(iterations=1200)  # some 80 ms a pair on tiny frames
ENDLESS = FarnebackParams(iterations=8000)  # of 400 frames


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    """Address of a cluster of two CPUs that `ray start --head` made."""
    folder = Path("/tmp/dualstream-ray") / str(os.getpid())  # sockets need a short path
    address = f"127.0.0.1:{free_port()}"
    ray = shutil.which("ray", path=str(Path(sys.executable).parent)) or shutil.which("ray")
    command = [ray, "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"]
    command += [f"--port={address.split(':')[1]}", "--include-dashboard=false"]
    command += ["--object-store-memory=80000000", f"--temp-dir={folder}"]
    # A busy machine answers late: no node is given up for that. A token that this machine keeps for
    # other clusters would shut out `ray health-check`.
    settings = {
        "RAY_health_check_timeout_ms": "600000",
        "RAY_health_check_failure_threshold": "99",
        "RAY_AUTH_MODE": "disabled",
    }
    patch = pytest.MonkeyPatch()
    for name, value in settings.items():
        patch.setenv(name, value)
    head = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    asked = [ray, "health-check", f"--address={address}"]
    while subprocess.run(asked, capture_output=True, check=False).returncode:
        assert head.poll() is None
    yield address
    processes = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
    head.send_signal(signal.SIGTERM)
    head.wait(60)
    _, alive = psutil.wait_procs(processes, timeout=300)
    for process in alive:
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)
    patch.undo()


@pytest.fixture
def videos(tiny_video):
    return [
        FlowJob(f"c/{n}.mp4", str(tiny_video(f"{n}.mp4", num_frames=n)), num_frames=n)
        for n in (5, 12, 3, 20)
    ]


def files_of(store):
    return {str(f.relative_to(store)): f.read_bytes() for f in store.rglob("*") if f.is_file()}


@needs_ray
def test_the_same_files_as_without_ray(tmp_path, videos, cluster):
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    jobs = [*videos, FlowJob("broken.mp4", str(broken))]
    alone = list(extract_flow(jobs, tmp_path / "alone"))
    nodes = list(extract_flow(jobs, tmp_path / "nodes", ray=cluster))
    key = [(o.name, o.status, o.num_fields, o.error) for o in sorted(alone, key=str)]
    assert [(o.name, o.status, o.num_fields, o.error) for o in sorted(nodes, key=str)] == key
    assert files_of(tmp_path / "alone") == files_of(tmp_path / "nodes")
    again = list(extract_flow(jobs, tmp_path / "nodes", ray=cluster, workers=1))
    assert sorted(o.status for o in again) == ["failed", "kept", "kept", "kept", "kept"]
    assert len(files_of(tmp_path / "nodes")) == 4


@needs_ray
def test_relative_paths_are_those_of_the_caller(tmp_path, videos, cluster, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [FlowJob("a.mp4", "5.mp4")]
    assert [o.status for o in extract_flow(jobs, "flow", ray=cluster)] == ["done"]
    assert (tmp_path / "flow" / "a.mp4.zip").is_file()


def tasks():
    """Processes that compute for the cluster, by what Ray calls them meanwhile."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any("ray::extract_on_node" in part for part in process.info["cmdline"] or ())
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


@needs_ray
def test_a_process_that_dies_is_tried_once_more(tmp_path, tiny_video, cluster):
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
    outcomes = list(extract_flow(jobs, store, method="farneback", params=SLOW, ray=cluster))
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


@needs_ray
def test_closing_cancels_what_is_under_way(tmp_path, tiny_video, cluster):
    jobs = [FlowJob(f"{n}.mp4", str(tiny_video(f"{n}.mp4", num_frames=n))) for n in (2, 400, 401)]
    store = tmp_path / "flow"
    outcomes = extract_flow(jobs, store, method="farneback", params=ENDLESS, ray=cluster)
    assert next(outcomes).name == "2.mp4"
    wait_for_writing(store, "400.mp4")
    outcomes.close()
    assert [path.name for path in store.iterdir()] == ["2.mp4.zip"]


def test_nothing_is_cancelled_once_the_connection_is_gone(tmp_path, videos, monkeypatch):
    """Ray would begin a cluster of its own to cancel in, as at the end of a program."""
    ray = types.SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=lambda: {"CPU": 2},
        remote=lambda **_: (
            lambda function: types.SimpleNamespace(remote=lambda job, settings, marker: job.name)
        ),
        wait=lambda tasks, **_: (tasks[:1], tasks[1:]),
        get=lambda task: FlowOutcome(task, "done", 1, 0.0),
        cancel=lambda task: pytest.fail("cancelled"),
        exceptions=types.SimpleNamespace(RayError=Exception, RayTaskError=Exception),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    settings = flow_settings(tmp_path / "flow", method="dis")
    outcomes = run_on_ray(videos, settings, address="auto", limit=None)
    assert next(outcomes).status == "done"
    ray.is_initialized = lambda: False
    outcomes.close()


@needs_ray
def test_where_no_cluster_is(tmp_path, videos):
    with pytest.raises(FlowError, match=r"No Ray cluster can be used at '127.*ray start --head"):
        list(extract_flow(videos, tmp_path, ray=f"127.0.0.1:{free_port()}"))


def test_without_ray_its_package_is_named(tmp_path, videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dualstream\[ray\]'"):
        extract_flow(videos, tmp_path, ray="auto")


def settings_of(root):
    return flow_settings(root, method="dis")


def test_a_node_that_sees_another_folder_says_so(tmp_path, videos):
    outcome = extract_on_node(videos[0], settings_of(tmp_path / "flow"), ".shared.x.tmp")
    assert outcome.status == "failed"
    assert "does not see the flow store" in outcome.error
    assert not (tmp_path / "flow").exists()


def test_a_node_of_another_version_says_so(tmp_path, videos):
    settings = settings_of(tmp_path)
    older = replace(settings, template=replace(settings.template, version="0.0.1"))
    (tmp_path / "marker").touch()
    assert extract_on_node(videos[0], settings, "marker").status == "done"
    outcome = extract_on_node(videos[0], older, "marker")
    assert outcome.status == "failed"
    assert "not 0.0.1" in outcome.error
