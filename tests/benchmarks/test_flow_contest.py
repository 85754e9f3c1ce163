"""What `benchmarks/flow.py` stands on: measures by hand, tables, chart, and a real worker."""

import itertools
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks.flow_contest.chart import ChartPoint, chart_svg
from benchmarks.flow_contest.client import BENCHMARKS, Worker
from benchmarks.flow_contest.contenders import CONTENDERS, REFERENCE, planes
from benchmarks.flow_contest.contest import measure
from benchmarks.flow_contest.environment import PACKAGES, opencv_python
from benchmarks.flow_contest.extraction import extraction, method_alone
from benchmarks.flow_contest.metrics import (
    end_point_error_px,
    photometric_error,
    tvl1_energy,
    warped,
)
from benchmarks.flow_contest.pipeline import (
    PipelineResult,
    drifting_noise,
    pipeline_table,
    there_and_back,
    written_clips,
)
from benchmarks.flow_contest.realpairs import RealPair, evenly_spread, real_pairs
from benchmarks.flow_contest.results import (
    REAL_GROUP,
    PairResult,
    Spread,
    error_table,
    group_means,
    image_table,
    markdown,
    relative_errors,
    speed_table,
    speeds,
)
from benchmarks.known_flow import KnownPair

from dualstream.video import read_video

LABELS = {"a": "A", "b": "B"}


def field(x, y, size=(4, 5)):
    return np.stack([np.full(size, x), np.full(size, y)]).astype(np.float32)


def test_end_point_error_counts_valid_pixels():
    valid = np.zeros((4, 5), bool)
    valid[0] = True
    flow = field(3, 4)
    flow[:, 1:] = 100
    assert end_point_error_px(flow, field(0, 0), valid) == 5


def test_warped_by_hand():
    second = np.arange(20.0).reshape(4, 5)  # 5 y + x: linear, so bilinear is exact
    image, inside = warped(second, field(0.25, 1.5))
    assert image[1, 1] == pytest.approx(5 * 2.5 + 1.25)
    np.testing.assert_array_equal(inside[:, 0], [True, True, False, False])
    np.testing.assert_array_equal(inside[0], [True, True, True, True, False])
    assert image[3, 4] == 19  # the nearest corner


def test_photometric_error():
    second = np.tile(np.arange(0, 50, 10, dtype=np.uint8), (4, 1))
    first = np.roll(second, -1, axis=1)
    assert photometric_error(first, second, field(1, 0)) == 0
    # 10 too dark in columns 0 to 3, and 40 against 0 in the last.
    assert photometric_error(first, second, field(0, 0)) == pytest.approx((4 * 10 + 40) / 5)


def test_tvl1_energy():
    grey = np.full((4, 5), 100, np.uint8)
    assert tvl1_energy(grey, grey + np.uint8(10), field(0, 0)) == pytest.approx(0.15 * 10)
    ramp = field(0, 0)
    ramp[0] = np.arange(5) * 0.1
    ramp[1] = np.arange(4)[:, None] * 0.2
    expected = (16 * 0.1 + 15 * 0.2) / 20  # 4 of 5 columns, 3 of 4 rows
    assert tvl1_energy(grey, grey, ramp) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("available", "count", "expected"),
    [(10, 2, [2, 7]), (3, 5, [0, 1, 2]), (7, 1, [3]), (0, 4, [])],
)
def test_evenly_spread(available, count, expected):
    assert evenly_spread(available, count) == expected


def test_real_pairs(tmp_path, tiny_video):
    tiny_video("clips/one.mp4", num_frames=12)
    tiny_video("jhmdb/videos/run/two.mp4", num_frames=3)
    pairs = list(real_pairs(tmp_path, clip_pairs=2, jhmdb_pairs=5))
    assert [pair.name for pair in pairs] == ["one-2", "one-8", "two-1"]
    for pair in pairs:
        assert pair.first.shape == pair.second.shape == (256, 340, 3)
        assert not np.array_equal(pair.first, pair.second)
    assert list(real_pairs(tmp_path / "nowhere")) == []


def results():
    return [
        PairResult("1", "x", {"a": 4.0, "b": 1.0}, error_px={"a": 1.0, "b": 2.0}),
        PairResult("2", "x", {"a": 8.0, "b": 1.0}, error_px={"a": 3.0, "b": 2.0}),
        PairResult("3", "y", {"a": 6.0, "b": 2.0}, error_px={"a": 1.0, "b": 4.0}),
    ]


def test_speeds():
    found = speeds(results(), "a")
    assert found["b"].ratio_of_sums == 18 / 4
    assert found["b"].ratio.median == 4
    assert found["b"].milliseconds.median == 1000
    assert found["a"].ratio == Spread(1, 1, 1)
    assert speeds([], "a") == {}


def test_spread():
    spread = Spread.of(range(101))
    assert (spread.decile_1, spread.median, spread.decile_9) == (10, 50, 90)
    assert spread.text(1) == "50.0 (10.0-90.0)"


def test_errors_by_group():
    means = group_means(results(), "error_px")
    assert means == {"x": {"a": 2, "b": 2}, "y": {"a": 1, "b": 4}}
    assert relative_errors(means, "a") == pytest.approx({"a": 1, "b": 2})  # sqrt(1 * 4)
    assert error_table(means, LABELS, "a") == [
        ["method", "x px", "y px", "/ OpenCV"],
        ["A", "2.000", "1.000", "1.000"],
        ["B", "2.000", "4.000", "2.000"],
    ]


def test_tables():
    pair = PairResult("r", "real", {"b": 1.0}, photometric={"b": 2.0}, energy={"b": 0.5})
    assert image_table([pair], LABELS)[1:] == [["B", "2.000", "0.5000"]]
    assert speed_table(speeds([pair], "b"), LABELS)[1] == [
        "B",
        "1000.0 (1000.0-1000.0)",
        "1.00",
        "1.00 (1.00-1.00)",
    ]
    assert markdown([["n", "long"], ["longer", "m"]]).splitlines() == [
        "| n      | long |",
        "| ------ | ---- |",
        "| longer | m    |",
    ]
    assert pair.rounded() == {
        "name": "r",
        "group": "real",
        "milliseconds": {"b": 1000.0},
        "photometric": {"b": 2.0},
        "tvl1_energy": {"b": 0.5},
    }


def test_chart():
    points = [
        ChartPoint("slow & good", 1000, 1.0),
        ChartPoint("ours", 10, 0.9, is_ours=True),
        ChartPoint("beside ours", 11, 0.91),
    ]
    text = chart_svg(points, title="T", subtitle="S", error_name="error")
    root = ET.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{name}circle")]
    assert dots[0][0] > dots[2][0] > dots[1][0]  # slower is further right
    assert dots[0][1] < dots[2][1] < dots[1][1]  # better is lower
    words = [element.text for element in root.iter(f"{name}text")]
    assert {"T", "S", "error", "slow & good", "ours", "beside ours"} <= set(words)
    with pytest.raises(ValueError, match="at least one point"):
        chart_svg([], title="", subtitle="", error_name="")


@pytest.mark.parametrize("shape", [(4, 5, 2), (2, 4, 5), (1, 2, 4, 5)])
def test_planes(shape):
    assert planes(np.zeros(shape)).shape == (2, 4, 5)
    assert planes(np.zeros(shape)).dtype == np.float32


def test_contenders_are_in_one_environment_each():
    assert CONTENDERS[REFERENCE].environment == "opencv-contrib"
    kinds = [key for key, _ in itertools.groupby(c.environment for c in CONTENDERS.values())]
    assert kinds == ["opencv-contrib", "dualstream"]


@pytest.fixture(scope="module")
def worker():
    with Worker(Path(sys.executable), "dualstream") as process:
        yield process


@pytest.fixture(scope="module")
def moved():
    """A picture, and the same one px further right."""
    rng = np.random.default_rng(0)
    first = cv2.GaussianBlur(rng.integers(0, 255, (48, 64, 3), np.uint8), (0, 0), 2)
    return first, np.roll(first, 1, axis=1)


def test_worker_computes_and_times(worker, moved):
    assert {"dis-medium", "farneback", "tvl1"} <= set(worker.contenders)
    assert set(worker.contenders) | set(worker.refused) == {
        name for name, c in CONTENDERS.items() if c.environment == "dualstream"
    }
    for name in ("dis-medium", "farneback", "tvl1"):
        flow, seconds = worker.compute(name, *moved)
        assert flow.shape == (2, 48, 64)
        assert np.abs(np.median(flow[:, 8:-8, 8:-8], axis=(1, 2)) - [1, 0]).max() < 0.2
        assert 1 <= len(seconds) <= 7
    assert worker.compute("dis-medium", *moved, clock="cpu")[1][0] > 0


def test_worker_says_what_it_cannot_run():
    with Worker(Path(sys.executable), "opencv-contrib") as process:
        assert process.contenders == []
        assert "no contributed modules" in process.refused[REFERENCE]


def test_every_contender_meets_every_pair(worker, moved):
    valid = np.zeros((48, 64), bool)
    valid[8:-8, 8:-8] = True
    known = KnownPair("k", "shifts", *moved, field(1, 0, size=(48, 64)), valid)
    seen = []
    contenders = ["farneback", "dis-fast"]
    found = measure(
        [known, RealPair("r", *moved)], [worker], contenders, clock="wall", report=seen.append
    )
    assert found == seen
    assert [(pair.name, pair.group) for pair in found] == [("k", "shifts"), ("r", REAL_GROUP)]
    for pair in found:
        assert list(pair.seconds) == contenders
        assert min(pair.seconds.values()) > 0
    assert set(found[0].error_px) == set(found[1].photometric) == set(contenders)
    assert max(found[0].error_px.values()) < 0.3
    assert found[0].energy == found[1].error_px == {}


def test_extraction_and_the_method_alone(tmp_path, tiny_video):
    videos = [str(tiny_video(f"{n}.mp4", num_frames=5)) for n in range(2)]
    alone = method_alone("farneback", videos)
    assert alone["pairs"] == 8
    assert alone["decode_cpu_seconds"] > 0
    found = extraction("farneback", 1, videos, str(tmp_path / "store"))
    assert found["pairs"] == 8
    assert len(found["clip_seconds"]) == 2
    assert sum(found["clip_seconds"]) <= found["seconds"]
    assert found["peak_mib"] > 10
    assert len(list((tmp_path / "store").rglob("*.zip"))) == 2


def test_extraction_fails_aloud(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(SystemExit, match=r"Extraction failed: .*broken\.mp4"):
        extraction("farneback", 1, [str(tmp_path / "broken.mp4")], str(tmp_path / "store"))


def test_pipeline_figures():
    alone = {"seconds": 2.0, "cpu_seconds": 2.0, "pairs": 100, "decode_cpu_seconds": 0.1}
    one = {"seconds": 3.0, "cpu_seconds": 2.4, "clip_seconds": [1.0, 1.5], "pairs": 100}
    two = {"seconds": 2.0, "cpu_seconds": 2.6, "clip_seconds": [1.25, 1.25], "pairs": 100}
    runs = {
        "method alone": [alone],
        "1 worker": [one | {"peak_mib": 90.0}],
        "2 workers": [two | {"peak_mib": 110.0}],
    }
    result = PipelineResult("dis", 2, 51, runs)
    found = result.figures()
    assert found["alone_pairs_per_second"] == 50
    assert found["one_worker_pairs_per_second"] == 40
    assert found["one_worker_share_of_alone"] == pytest.approx(0.8)
    assert found["two_workers_pairs_per_second"] == 80  # 2 workers x 100 pairs / 2.5 s
    assert found["two_workers_to_one"] == 2
    assert found["two_workers_with_start_pairs_per_second"] == 50
    assert found["decode_cpu_ms_per_pair"] == pytest.approx(1)
    assert pipeline_table([result])[1] == [
        "dis",
        "50.0",
        "40.0",
        "80 %",
        "20.00 -> 24.00",
        "80.0",
        "2.00",
        "110",
    ]


def test_clips_of_the_pipeline(tmp_path, tiny_video):
    source = tiny_video("clips/a.mp4", num_frames=4)
    numbers = [frame.mean() for frame in itertools.islice(there_and_back(source), 8)]
    assert numbers[:4] == numbers[7:3:-1]
    (tmp_path / "out").mkdir()
    paths = written_clips(tmp_path / "out", tmp_path, 6)
    assert len(paths) == 4
    assert read_video(paths[3]).data.shape == (6, 256, 340, 3)
    first, second = itertools.islice(drifting_noise(0), 2)
    np.testing.assert_array_equal(np.roll(first, (1, -2), axis=(0, 1)), second)


def test_environment_that_is_ready_is_taken(tmp_path):
    (tmp_path / "ready.txt").write_text("\n".join(PACKAGES))
    assert opencv_python(tmp_path).parent.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["ready.txt"]


def test_script_starts():
    script = BENCHMARKS / "flow.py"
    run = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--pipeline" in run.stdout
