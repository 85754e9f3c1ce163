"""The flow of one video: windows, and what a worker process needs."""

import subprocess
import sys

import numpy as np
import pytest

from dualstream.flow.extract.video_job import window_length
from dualstream.video import write_video


@pytest.mark.parametrize(
    ("size", "frames"),
    [
        ((240, 320), 33),
        ((720, 1280), 24),
        ((1080, 1920), 10),
        ((2160, 3840), 2),
        ((9999, 9999), 2),
    ],
)
def test_window_length(size, frames):
    assert window_length(*size) == frames


WORKER = """
import sys
from pathlib import Path
from dualstream.flow.extract.run import flow_settings
from dualstream.flow.extract.job import FlowJob
from dualstream.flow.methods.lookup import params_from_settings
from dualstream.flow.extract.video_job import extract_video
video, store, method, *params = sys.argv[1:]
settings = flow_settings(
    store, method=method, params=params_from_settings(method, params) if params else None
)
outcome = extract_video(FlowJob("a.mp4", video), settings, alone=True)
status = Path("/proc/self/status").read_text()
peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
print(outcome.status, outcome.num_fields, int(peak) // 1024, "torch" in sys.modules)
"""


def run_worker(video, store, *method):
    """(status, fields, peak memory in MiB, whether torch was imported) of a fresh process."""
    result = subprocess.run(
        [sys.executable, "-c", WORKER, str(video), str(store), *method],
        capture_output=True,
        text=True,
        check=True,
    )
    status, fields, peak, torch = result.stdout.split()
    return status, int(fields), int(peak), torch == "True"


def textured(num_frames, height, width):
    """Frames of a texture that drifts, one at a time."""
    texture = np.random.default_rng(0).integers(0, 255, (height + 64, width + 64, 3), np.uint8)
    for t in range(num_frames):
        y, x = t % 60, (2 * t) % 60
        yield np.ascontiguousarray(texture[y : y + height, x : x + width])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_video(tmp_path):
    """800 frames of 340x256 are 199 MiB as RGB and 531 MiB as float flow."""
    peaks_mib = []
    for num_frames in (80, 800):
        video = tmp_path / f"{num_frames}.mp4"
        write_video(video, textured(num_frames, 256, 340), fps=25, crf=30, preset="ultrafast")
        status, fields, peak_mib, _ = run_worker(video, tmp_path, "dis", "preset=ultrafast")
        assert (status, fields) == ("done", num_frames - 1)
        peaks_mib.append(peak_mib)
    assert peaks_mib[1] < 1.5 * peaks_mib[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("method", ["dis", "farneback", "tvl1-fast", "tvl1", "motion-vectors"])
def test_workers_do_without_torch(tmp_path, tiny_video, method):
    status, fields, _, imports_torch = run_worker(tiny_video("a.mp4"), tmp_path, method)
    assert (status, fields, imports_torch) == ("done", 11, False)
