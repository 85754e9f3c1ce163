"""Fixtures shared by all tests: real data where it lies, tiny real files where it does not."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, settings

KEPT_BYTES = 2**29
"""Growth of a worker's memory after which what tests have freed goes back to the system."""

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


# An example may take as long as a busy machine needs, and so may drawing it.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

STARTED = time.monotonic()

SLOW_MINUTES = float(os.environ.get("SLOW_MINUTES", "inf"))
"""Minutes after which no further `slow` test is begun: 0 in `scripts/check` as developers call it,
more in CI."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """README's commands first, as they take longest; the other slow tests last."""

    def place(item: pytest.Item) -> int:
        if item.path.name == "test_readme.py":
            return 0
        return 1 if item.get_closest_marker("slow") is None else 2

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay to the end: the garbage collector need not look at them."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out slow tests for which there is no time."""
    minutes = (time.monotonic() - STARTED) / 60
    if minutes > SLOW_MINUTES and item.get_closest_marker("slow") is not None:
        pytest.skip(f"slow, and after {SLOW_MINUTES:g} minutes; SLOW_MINUTES=inf runs it")


def resident_bytes() -> int:
    """Memory of this process."""
    return int(psutil.Process().memory_info().rss)


@pytest.fixture(scope="session")
def bytes_kept() -> list[int]:
    """Memory of this worker when it last gave some back, one number."""
    return [resident_bytes()]


@pytest.fixture(scope="module", autouse=True)
def freed_memory_goes_back(bytes_kept: list[int]) -> Iterator[None]:
    """A worker that has trained large networks would keep their memory for all tests after it."""
    yield
    if resident_bytes() > bytes_kept[0] + KEPT_BYTES:
        gc.collect()  # trainers and networks hold each other
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)
        bytes_kept[0] = resident_bytes()


@pytest.fixture(scope="module", autouse=True)
def scheduling_stays() -> Iterator[None]:
    """A worker that a test had made real-time would starve all others, and Ray's processes."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real data; tests that need it skip where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data are not at {SHARED_DATA}")
    return SHARED_DATA


def moving_square(num_frames: int, size: tuple[int, int], step_px: int = 2) -> np.ndarray:
    """(T, H, W, 3) frames of a textured square that moves right by `step_px` a frame."""
    height, width = size
    rng = np.random.default_rng(7)
    texture = rng.integers(40, 255, (height // 2, width // 3, 3), dtype=np.uint8)
    frames = np.full((num_frames, height, width, 3), 30, np.uint8)
    for t in range(num_frames):
        left = (t * step_px) % (width - texture.shape[1])
        top = height // 4
        frames[t, top : top + texture.shape[0], left : left + texture.shape[1]] = texture
    return frames


@pytest.fixture
def tiny_video(tmp_path: Path) -> Callable[..., Path]:
    """Function (name, num_frames=12, size=(48, 64), fps=25.0) -> path of a real H.264 file."""

    def write(
        name: str = "tiny.mp4",
        *,
        num_frames: int = 12,
        size: tuple[int, int] = (48, 64),
        fps: float = 25.0,
    ) -> Path:
        from dualstream.video import write_video

        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_square(num_frames, size), fps=fps)
        return path

    return write


NUM_FRAMES, HEIGHT, WIDTH = 10, 48, 64


def square_moving(direction: int, seed: int) -> np.ndarray:
    """(T, H, W, 3): a textured square that moves right (+1) or down (-1)."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(60, 255, (20, 20, 3), dtype=np.uint8)
    frames = np.full((NUM_FRAMES, HEIGHT, WIDTH, 3), 25, np.uint8)
    for t in range(NUM_FRAMES):
        x, y = (5 + 3 * t, 14) if direction > 0 else (22, 2 + 2 * t)
        frames[t, y : y + 20, x : x + 20] = texture
    return frames


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with manifest.csv, classes.txt, dataset.yaml, videos/ and flow/; do not change it."""
    from dualstream.clips.data.manifest import Manifest, VideoRecord
    from dualstream.flow import FlowJob, FlowStore, extract_flow
    from dualstream.video import write_video

    folder = tmp_path_factory.mktemp("tiny_data")
    records = []
    for label, name in enumerate(("right", "down")):
        for number in range(6):
            path = f"{name}/{name}_{number}.mp4"
            file = folder / "videos" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            direction = 1 if name == "right" else -1
            write_video(file, square_moving(direction, 10 * label + number), fps=25)
            records.append(
                VideoRecord(
                    path=path,
                    label=label,
                    splits=("train" if number < 4 else "test",),
                    frames=NUM_FRAMES,
                    fps=25.0,
                    width=WIDTH,
                    height=HEIGHT,
                    sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
                )
            )
    manifest = Manifest(tuple(records), ("right", "down"), folder / "videos")
    manifest.write(folder)
    jobs = [FlowJob(r.path, str(manifest.video_path(r)), r.sha256) for r in records]
    outcomes = list(extract_flow(jobs, folder / "flow", workers=1))
    assert [o.status for o in outcomes] == ["done"] * len(jobs)
    assert FlowStore(folder / "flow").path(records[0].path).is_file()
    return folder


def free_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """Address of a cluster of two CPUs that `ray start --head` made; skips where Ray is not."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed (dualstream[ray])")
    folder = Path("/tmp/dualstream-ray") / str(os.getpid())  # sockets need a short path
    address = f"127.0.0.1:{free_port()}"
    ray = shutil.which("ray", path=str(Path(sys.executable).parent)) or shutil.which("ray")
    assert ray is not None
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
